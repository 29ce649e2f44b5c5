//! Which outputs of convolutions are kept for the backward pass, and how many tiles go back together.

use crate::size::{PAD, PARTS, WORD};
use bloctrain_shared::graph::{Body, Branch, Content, Node};

/// Inputs of an output from which on keeping it for the backward pass is faster than computing it again.
const WORTH_KEEPING: usize = 256;

/// Whether keeping outputs, each a sum over `inputs` weights, is faster than computing them again.
pub fn worth_keeping(inputs: usize) -> bool {
    inputs >= WORTH_KEEPING
}

/// Most outputs that are kept, as a share of the largest layer's: both layers of a residual pair that halves its map.
const MOST_KEPT: (usize, usize) = (5, 4);

/// Outputs of a spiking layer before its neurons, in values for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerOutputs {
    /// Those of one branch.
    pub values: usize,
    /// Branches that are [worth keeping](worth_keeping).
    pub worth: usize,
}

/// Which layers of a body, given in order, keep what is worth it for the backward pass: the last ones, as long as they
/// keep no more than a share of the largest layer's outputs. So memory grows with the largest layer, not with depth.
pub fn kept_layers(layers: &[LayerOutputs]) -> Vec<bool> {
    let largest = layers.iter().map(|layer| layer.values).max().unwrap_or(0);
    let mut left = largest * MOST_KEPT.0 / MOST_KEPT.1;
    let mut kept: Vec<bool> = layers
        .iter()
        .rev()
        .map(|layer| {
            let fits = layer.values * layer.worth <= left;
            left = if fits { left - layer.values * layer.worth } else { 0 };
            fits && layer.worth > 0
        })
        .collect();
    kept.reverse();
    kept
}

/// Weights of the tiles that go back together: so many stay in a core's second cache.
const BACK_TOGETHER: usize = 160 << 10;

/// Partial sums of a tile's weight gradients beside its outputs, from which on tiles go back one at a time. Every tile
/// has sums of its own, so that in deep layers, with many weights and small maps, they would be most of a step's
/// memory.
const SUMS_PER_OUTPUT: usize = 2;

/// Tiles of 64 outputs, each a sum over `inputs` weights, that go back through a layer together where outputs are kept;
/// `positions` is how often a weight is used in a step: samples, time steps and positions of the map.
pub fn tiles_together(inputs: usize, positions: usize) -> usize {
    if PARTS * inputs > SUMS_PER_OUTPUT * positions { 1 } else { (BACK_TOGETHER / (inputs * WORD)).max(1) }
}

/// What the nodes of a body could keep, given what the numbers of its values are.
pub fn layer_outputs(body: &Body, contents: &[Content]) -> Vec<LayerOutputs> {
    let worth = |branch: &&Branch| !contents[branch.source].is_constant() && worth_keeping(branch.conv.inputs());
    let one = |node: &Node| match node {
        Node::Spiking(spiking) => LayerOutputs {
            values: body.steps * spiking.output.area() * spiking.output.channels.next_multiple_of(PAD),
            worth: spiking.branches.iter().filter(worth).count(),
        },
        Node::Pool(_) | Node::Dropout { .. } => LayerOutputs { values: 0, worth: 0 },
    };
    body.nodes.iter().map(one).collect()
}
