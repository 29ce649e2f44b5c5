//! Outputs of convolutions that the backward pass takes instead of computing them again.
//!
//! An output that sums over many inputs costs much to compute and little to keep. It is kept until the backward pass
//! has come to its layer; [`keep`](super::super::keep) says which layers do.

use super::super::buffer::Buffer;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// By branch and tile; each is taken once.
#[derive(Debug, Default)]
pub(super) struct Outputs(Mutex<BTreeMap<(usize, usize), Buffer>>);

impl Outputs {
    /// Takes in the outputs of a tile of a branch.
    pub(super) fn keep(&mut self, branch: usize, tile: usize, y: Buffer) {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).insert((branch, tile), y);
    }

    /// Whether outputs of a branch are there.
    pub(super) fn holds(&self, branch: usize) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().any(|&(own, _)| own == branch)
    }

    /// The outputs of a tile of a branch, if they were kept.
    pub(super) fn take(&self, branch: usize, tile: usize) -> Option<Buffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(branch, tile))
    }
}
