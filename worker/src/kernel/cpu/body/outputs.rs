//! Outputs of convolutions that the backward pass takes instead of computing them again.
//!
//! An output that sums over many inputs costs much to compute and little to keep. It is kept until the way back has come
//! to its layer; `bloctrain_shared::memory` says which layers do.

use super::super::buffer::Buffer;
use super::super::simd::PAD;
use crate::kernel::plan::{Body, Node};
use bloctrain_shared::memory::{LayerOutputs, kept_layers, worth_keeping};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Which nodes of a body keep outputs; `image` says that images enter, which are the same at every step.
pub(super) fn nodes_that_keep(body: &Body, image: bool) -> Vec<bool> {
    let mut constant = vec![image];
    let mut layers = Vec::with_capacity(body.nodes.len());
    for node in &body.nodes {
        let Node::Spiking(spiking) = node else {
            constant.push(node.sources().iter().all(|&source| constant[source]));
            layers.push(LayerOutputs { values: 0, worth: 0 });
            continue;
        };
        let worth = spiking.branches.iter().filter(|branch| !constant[branch.source] && worth_keeping(branch.conv.inputs()));
        let values = body.steps * spiking.output.area() * spiking.output.channels.next_multiple_of(PAD);
        layers.push(LayerOutputs { values, worth: worth.count() });
        constant.push(false);
    }
    kept_layers(&layers)
}

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
