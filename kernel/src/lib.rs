//! The CPU's kernels: blocks of spiking layers on bits, forward and backward, over plain slices.
//!
//! They run a [`Body`](bloctrain_shared::graph::Body) of the network's graph. [`cpu`] is sparse where spikes are, dense
//! where gradients are, and has no f32 between layers. What a training step takes is worked out by the crate
//! [`bloctrain_memory`]. Nothing here knows a tensor library, so that the inference crate can use it. Results do not
//! depend on the number of threads, nor on the width of the processor's vectors.

pub mod call;
pub mod count;
pub mod cpu;
pub mod spikes;
pub mod step;
