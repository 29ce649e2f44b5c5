//! A whole body on the CPU: forward over a batch, and backward from the gradient of the spikes that leave it.
//!
//! Channels are worked on in tiles of 64, each over the whole batch: convolution of every sample, statistics, then norm
//! and neuron of every sample. Between layers there are only bits. The backward pass computes a tile's outputs (but for
//! those that [`outputs`] kept) and membranes again, turns the gradient of its spikes into that of its drive in place,
//! and makes from it the gradients of weights and input. So the largest f32 buffers are one tile's outputs and the
//! gradients of two layers.
//!
//! Work is cut by samples, or into a fixed number of parts whose sums are added in order: the result does not depend on
//! the number of threads.
//!
//! [`layer`] is what both directions share, [`forward`] and [`backward`] walk over the nodes, [`branch`] and
//! [`pooling`] are the backward passes through a convolution and through a pooling.

mod algorithm;
mod backward;
mod branch;
mod forward;
mod frozen;
mod kept;
mod layer;
mod made;
mod outputs;
mod pooling;

pub use backward::backward;
pub use forward::{Outcome, forward, forward_tracked};
pub use frozen::FrozenBody;

use super::value::{Counts, Image, Value};
use crate::call::Left;
use crate::spikes::Spikes;
use bloctrain_shared::graph::{Body, Content};
use layer::Normal;
use outputs::Outputs;

/// What the backward pass needs.
#[derive(Debug)]
pub struct Tape {
    body: Body,
    batch: usize,
    /// What left, in order.
    left: Vec<Left>,
    values: Vec<Value>,
    nodes: Vec<NodeTape>,
}

#[derive(Debug, Default)]
struct NodeTape {
    /// One per branch of a spiking node.
    norms: Vec<Normal>,
    /// Outputs of every branch and tile that were kept.
    outputs: Outputs,
    /// `[B, H * W, words]` of a dropout.
    mask: Vec<u64>,
}

/// What enters a body.
#[derive(Debug)]
pub enum Input<'a> {
    /// Images `[B, C, H, W]`, presented at every step.
    Images(&'a [f32]),
    /// Spikes over time.
    Spikes(Spikes),
}

impl Input<'_> {
    fn batch(&self, body: &Body) -> usize {
        match self {
            Self::Images(values) => values.len() / body.input.len().max(1),
            Self::Spikes(spikes) => spikes.batch(),
        }
    }

    fn content(&self) -> Content {
        match self {
            Self::Images(_) => Content::Fractions,
            Self::Spikes(_) => Content::Spikes,
        }
    }

    fn into_value(self, body: &Body) -> Value {
        match self {
            Self::Images(values) => Value::Image(Image::new(values, body.input)),
            Self::Spikes(spikes) => Value::Counts(Counts::spikes(spikes)),
        }
    }
}
