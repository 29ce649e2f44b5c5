//! Values as they are in the table.

use super::error::StateError;
use serde::{Deserialize, Serialize};

pub(crate) fn parse<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(bytes).map_err(|error| StateError::Damaged(error.to_string()))
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec(value).map_err(|error| StateError::Damaged(error.to_string()))
}
