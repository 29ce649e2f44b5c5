//! The accuracy-against-compute curve of a completed run, as its package has it.

use bloctrain_shared::key;
use bloctrain_store::{Artefacts, ErrorKind, StoreError};
use serde::{Deserialize, Serialize};

/// File of the curve in a package.
const FILE: &str = "curve.json";

/// The curve, without what the gates are set to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Curve {
    /// Index of the point that the package uses.
    chosen: usize,
    /// The points, cheapest first.
    points: Vec<Point>,
}

/// One setting of the exits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    validation: Figures,
    test: Figures,
}

/// What a setting does to one set of samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Figures {
    /// In [0, 1].
    accuracy: f64,
    /// Mean compute per sample as a fraction of the full network's.
    relative_compute: f64,
    /// Fraction of the samples that exit at each block.
    exit_fraction: Vec<f64>,
}

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
