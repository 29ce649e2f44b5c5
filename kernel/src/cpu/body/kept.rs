//! What calls of whoever runs a body with the same parameters again share.

use super::layer::{Geometries, Weights};
use super::made::Made;

/// What calls with the same parameters share. It is made anew with other parameters.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Weights in the orders of the kernels, by where a branch's weights begin and an output tile.
    pub(super) weights: Made<(usize, usize), Weights>,
    pub(super) geometries: Geometries,
}
