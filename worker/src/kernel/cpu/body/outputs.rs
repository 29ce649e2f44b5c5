//! Outputs of convolutions that the backward pass takes instead of computing them again.
//!
//! An output that sums over many inputs costs much to compute and little to keep. It is kept until the way back has come
//! to its layer; the deep layers that are worth it then have small maps, and the buffers of the first layers, which decide
//! the largest memory of a step, come after it.

use super::super::buffer::Buffer;
use super::layer::Prepared;
use std::sync::{Mutex, PoisonError};

/// By branch, then tile; each is taken once.
#[derive(Debug, Default)]
pub(super) struct Outputs(Vec<Mutex<Vec<Option<Buffer>>>>);

impl Outputs {
    /// Room for some branches.
    pub(super) fn new(branches: usize) -> Self {
        Self((0..branches).map(|_| Mutex::default()).collect())
    }

    /// Takes in the outputs of the next tile of a branch, if they are worth it.
    pub(super) fn add(&mut self, branch: usize, own: &Prepared, y: Buffer) {
        self.0[branch].get_mut().unwrap_or_else(PoisonError::into_inner).push(own.is_kept().then_some(y));
    }

    /// The outputs of a tile, if they are there.
    pub(super) fn take(&self, branch: usize, tile: usize) -> Option<Buffer> {
        self.0.get(branch)?.lock().unwrap_or_else(PoisonError::into_inner).get_mut(tile)?.take()
    }
}
