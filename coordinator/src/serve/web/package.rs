//! What the package of a completed run has for the dashboard: accuracy against compute, and test images of every exit.

use bloctrain_shared::key;
use bloctrain_store::{Artefacts, ErrorKind, StoreError};
use serde::de::DeserializeOwned;

/// File of the curve in a package.
pub(super) const CURVE: &str = "curve.json";

/// A file of a run's package; `None` where there is none, or none of this form.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn read<T: DeserializeOwned>(
    artefacts: &Artefacts,
    run: &str,
    file: &str,
) -> Result<Option<T>, StoreError> {
    match artefacts.get_unverified(&key::model(run, file)).await {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == ErrorKind::InputLost => Ok(None),
        Err(error) => Err(error),
    }
}
