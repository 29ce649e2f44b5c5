//! What leaves a body, as one vector, for tests of backends against the reference.

use bloctrain_shared::graph::{AdaptivePool, Body, Node};
use bloctrain_worker::kernel::{BodyOutput, Emitted, SpikingBackend, Tap};
use burn_tensor::Tensor;

/// The value of the spikes of a body's first neurons, where these are not its last.
pub(crate) fn tapped(body: &Body) -> Option<usize> {
    let first = body.nodes.iter().position(|node| matches!(node, Node::Spiking(_)))? + 1;
    (first < body.output()).then_some(first)
}

/// Spikes that leave, or averages of them, those of the tap first.
pub(crate) fn flat<B: SpikingBackend>(
    output: &BodyOutput<B>,
    average: Option<&AdaptivePool>,
    tap: Option<Tap<'_>>,
    steps: usize,
) -> Tensor<B, 1> {
    let device = Default::default();
    let flat = |emitted: &Emitted<B>, average: Option<&AdaptivePool>| {
        let x = match average {
            Some(pool) => emitted.average(pool, steps, &device),
            None => emitted.tensor(&device),
        };
        let length: usize = x.dims().iter().product();
        x.reshape([length])
    };
    let tapped = output.tapped.as_ref().zip(tap).map(|(emitted, tap)| flat(emitted, tap.average));
    Tensor::cat(tapped.into_iter().chain([flat(&output.emitted, average)]).collect(), 0)
}
