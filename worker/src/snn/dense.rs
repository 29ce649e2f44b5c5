//! Layers outside of a block's body, in training: fully connected ones, and neurons.

use super::param::Store;
use super::pass::Pass;
use crate::kernel::{self, SpikingBackend};
use bloctrain_shared::graph::{Dense, HiddenLayer};
use bloctrain_shared::neuron::Leak;
use burn_tensor::{Tensor, TensorData};

/// `x [N, inputs]` to `[N, outputs]`, with the parameters of a part that begin at index `first` of the store; `binary`
/// says whether x is zeros and ones, for the count.
pub(super) fn fully_connected<B: SpikingBackend>(
    (store, first): (&Store<B>, usize),
    dense: &Dense,
    pass: &mut Pass,
    x: Tensor<B, 2>,
    binary: bool,
) -> Tensor<B, 2> {
    pass.count_linear(&x, binary, dense.outputs);
    B::biased(B::fully_connected(x, store.get::<2>(first + dense.weight)), store.flat(first + dense.bias))
}

/// Spikes of a hidden layer's neurons driven by `x [T * B, features]`, in the same shape.
pub(super) fn neurons<B: SpikingBackend>(
    (store, first): (&Store<B>, usize),
    layer: &HiddenLayer,
    pass: &mut Pass,
    x: Tensor<B, 2>,
) -> Tensor<B, 2> {
    let shape = x.dims();
    let sites = shape.iter().product::<usize>() / pass.steps;
    let leak = match layer.leak {
        Leak::Fixed(leak) => Tensor::from_data(TensorData::new(vec![leak], [1]), store.device()),
        Leak::Learned(logit) => B::logistic(store.flat(first + logit)),
    };
    let spikes = kernel::neuron(x.reshape([pass.steps, sites]), leak, layer.rule);
    pass.saw_spikes(&spikes);
    spikes.reshape(shape)
}
