//! A whole body on the CPU: forward over a batch, and backward from the gradient of the spikes that leave it.
//!
//! Channels are worked on in tiles of 64, each over the whole batch: convolution of every sample, statistics, then norm
//! and neuron of every sample. Between layers there are only bits. The backward pass computes a tile's outputs (but for
//! those that [`outputs`] kept) and membranes again, turns the gradient of its spikes into that of its drive in place, and from it makes the gradients of
//! weights and input. So the largest f32 buffers are one tile's outputs and the gradients of two layers.
//!
//! Work is cut by samples, or into a fixed number of parts whose sums are added in order: the result does not depend on
//! the number of threads.
//!
//! [`layer`] is what both directions share, [`forward`] and [`backward`] walk over the nodes, [`branch`] and [`pooling`]
//! are the ways back through a convolution and through a pooling.

mod backward;
mod branch;
mod forward;
mod kept;
mod layer;
mod outputs;
mod pooling;
mod way;

pub(super) use backward::backward;
pub(super) use forward::{Outcome, forward};
pub use kept::Kept;

use super::value::{Counts, Image, Value};
use crate::kernel::plan::Body;
use crate::kernel::pool::AdaptivePool;
use crate::kernel::spikes::Spikes;
use bloctrain_shared::ImageShape;
use layer::Normal;
use outputs::Outputs;

/// What the backward pass needs.
#[derive(Debug)]
pub struct Tape {
    body: Body,
    batch: usize,
    /// The pooling whose averages left, rather than the spikes.
    average: Option<AdaptivePool>,
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

/// The input of a body as the CPU keeps it.
pub(super) fn image(values: &[f32], shape: ImageShape) -> Value {
    Value::Image(Image::new(values, shape))
}

/// See [`image`].
pub(super) fn spikes(spikes: Spikes) -> Value {
    Value::Counts(Counts::spikes(spikes))
}
