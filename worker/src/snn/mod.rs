//! Spiking networks: layers, blocks with their heads, encodings, losses, optimisers, detectors.
//!
//! Tensors over time are laid out `[T * B, C, H, W]`, step-major: the T steps are folded into the batch for
//! convolutions and norms, and a neuron sees `[T, B * C * H * W]`. All randomness comes from the run's seed, on the
//! host.

pub mod average;
pub mod block;
mod dense;
pub mod detector;
pub mod encode;
pub mod head;
pub mod loss;
pub mod optim;
pub mod outer;
pub mod param;
pub mod pass;
pub mod trainer;
