//! Bodies on the CPU: sparse where spikes are, dense where gradients are, in vectors as wide as the processor has, over
//! fixed partitions of the work.
//!
//! `simd` finds the processor's vectors, `value` is what flows, `geometry` says where taps reach, `sparse` and
//! `dense` are the products, `norm_neuron` is norm and neuron, `body` puts a block together.

mod averages;
mod body;
mod buffer;
mod dense;
mod geometry;
mod group;
mod index_list;
pub mod linear;
pub mod loss;
mod map;
pub mod neuron;
mod norm_neuron;
pub mod optimize;
mod orders;
mod polyphase;
mod simd;
mod sparse;
mod value;
mod winograd;
mod winograd_grad;

pub use averages::{averages, sample_averages};
pub use body::{FrozenBody, Input, Outcome, Tape, backward, forward, forward_tracked};

/// Runs on a thread of the pool: parallel parts then begin without waking anybody, and there are some hundred of them
/// in a step.
fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}
