//! The accuracy-against-compute curve of a completed run, as its package has it.

use bloctrain_shared::curve::Curve;
use bloctrain_shared::key;
use bloctrain_store::{Artefacts, ErrorKind, StoreError};

/// File of the curve in a package.
const FILE: &str = "curve.json";

/// The curve of a run; `None` while it has none.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn read(artefacts: &Artefacts, run: &str) -> Result<Option<Curve>, StoreError> {
    match artefacts.get_unverified(&key::model(run, FILE)).await {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == ErrorKind::InputLost => Ok(None),
        Err(error) => Err(error),
    }
}
