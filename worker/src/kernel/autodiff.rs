//! The operations under burn's autodiff: forward by the inner backend, backward by its own gradients.

use super::{
    BodyCall, BodyInput, BodyOutput, ConvPrecision, Count, Emitted, SpikingBackend, Statistic, Tracked, lift, lower,
    reference,
};
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::graph::{AdaptivePool, Body};
use bloctrain_shared::neuron::NeuronRule;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_tensor::Tensor;
use burn_tensor::backend::Backend;
use burn_tensor::ops::FloatTensor;
use std::sync::Arc;

/// A whole body: one node, whose parent is the flat parameter vector. Its input is never asked for a gradient, since a
/// body begins at the images or at a frozen block. Where two values leave, the node is one behind the other, flat.
#[derive(Debug)]
struct BodyOp;

/// Values that leave a body as one tensor, and the way back.
#[derive(Debug, Clone)]
struct Leaving(Vec<[usize; 4]>);

impl Leaving {
    fn join<B: Backend>(left: Vec<Tensor<B, 4>>) -> (Self, Tensor<B, 4>) {
        let dims = Self(left.iter().map(Tensor::dims).collect());
        let mut left = left;
        let joined = match left.len() {
            1 => left.swap_remove(0),
            _ => Tensor::cat(
                left.into_iter()
                    .map(|x| {
                        let length = x.dims().iter().product();
                        x.reshape([1, 1, 1, length])
                    })
                    .collect(),
                3,
            ),
        };
        (dims, joined)
    }

    fn split<B: Backend>(&self, joined: Tensor<B, 4>) -> Vec<Tensor<B, 4>> {
        if self.0.len() == 1 {
            return vec![joined];
        }
        let mut first = 0;
        let part = |dims: &[usize; 4]| {
            let length: usize = dims.iter().product();
            first += length;
            joined.clone().slice([0..1, 0..1, 0..1, first - length..first]).reshape(*dims)
        };
        self.0.iter().map(part).collect()
    }
}

impl<B: SpikingBackend> Backward<B, 1> for BodyOp {
    type State = (Arc<B::Tape>, FloatTensor<B>, Leaving);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (tape, params, leaving) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(node) = parent {
            grads.register::<B>(node.id, lower(B::body_grad(&tape, lift(params), leaving.split(lift(grad)))));
        }
    }
}

#[derive(Debug)]
struct NeuronOp;

impl<B: SpikingBackend> Backward<B, 2> for NeuronOp {
    type State = (FloatTensor<B>, FloatTensor<B>, NeuronRule);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (x, leak, rule) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let computed = B::neuron_grad(x, leak, grad, rule);
        for (node, grad) in ops.parents.into_iter().zip(computed) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// Products of a fully connected layer.
#[derive(Debug)]
struct LinearOp;

impl<B: SpikingBackend> Backward<B, 2> for LinearOp {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (x, weight): (Tensor<B, 2>, Tensor<B, 2>) = (lift(ops.state.0), lift(ops.state.1));
        let grad: Tensor<B, 2> = lift(grads.consume::<B>(&ops.node));
        let [of_x, of_weight] = ops.parents;
        if let Some(node) = of_weight {
            grads.register::<B>(node.id, lower(B::fully_connected_weight_grad(x, grad.clone())));
        }
        if let Some(node) = of_x {
            grads.register::<B>(node.id, lower(B::fully_connected_input_grad(grad, weight)));
        }
    }
}

/// A bias in every row.
#[derive(Debug)]
struct BiasOp;

impl<B: SpikingBackend> Backward<B, 2> for BiasOp {
    type State = ();

    fn backward(self, ops: Ops<(), 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad: Tensor<B, 2> = lift(grads.consume::<B>(&ops.node));
        let [of_x, of_bias] = ops.parents;
        if let Some(node) = of_bias {
            grads.register::<B>(node.id, lower(B::bias_grad(grad.clone())));
        }
        if let Some(node) = of_x {
            grads.register::<B>(node.id, lower(grad));
        }
    }
}

#[derive(Debug)]
struct LogisticOp;

impl<B: SpikingBackend> Backward<B, 1> for LogisticOp {
    /// Its output.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (y, grad): (Tensor<B, 1>, Tensor<B, 1>) = (lift(ops.state), lift(grads.consume::<B>(&ops.node)));
        let [parent] = ops.parents;
        if let Some(node) = parent {
            let slope = y.clone() * y.neg().add_scalar(1.0);
            grads.register::<B>(node.id, lower(grad * slope));
        }
    }
}

/// Of the logits; targets have no gradient.
#[derive(Debug)]
struct CrossEntropyOp;

impl<B: SpikingBackend> Backward<B, 1> for CrossEntropyOp {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (logits, target): (Tensor<B, 2>, Tensor<B, 2>) = (lift(ops.state.0), lift(ops.state.1));
        let grad: Tensor<B, 1> = lift(grads.consume::<B>(&ops.node));
        let [parent] = ops.parents;
        if let Some(node) = parent {
            let of_logits = B::cross_entropy_grad(logits, target) * grad.unsqueeze_dim::<2>(0);
            grads.register::<B>(node.id, lower(of_logits));
        }
    }
}

impl<B: SpikingBackend, C: CheckpointStrategy> BodyInput<Autodiff<B, C>> {
    fn inner(self) -> BodyInput<B> {
        match self {
            Self::Image(image) => BodyInput::Image(image.inner()),
            Self::Spikes(spikes) => BodyInput::Spikes(spikes),
        }
    }
}

impl<B: SpikingBackend, C: CheckpointStrategy> SpikingBackend for Autodiff<B, C> {
    type Tape = B::Tape;
    type Frozen = B::Frozen;

    const QUEUES: bool = B::QUEUES;

    fn body(call: &BodyCall<'_>, params: Tensor<Self, 1>, input: BodyInput<Self>) -> BodyOutput<Self> {
        if !B::FUSED {
            return reference::body(call, params, input);
        }
        let params = lower(params);
        let Tracked { left, record, tape } = B::body_tracked(call, lift(params.primitive.clone()), input.inner());
        let (leaving, joined) = Leaving::join(left);
        let joined = match BodyOp.prepare::<C>([params.node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((tape, params.primitive, leaving.clone()), lower(joined)),
            OpsKind::UnTracked(prepared) => prepared.finish(lower(joined)),
        };
        let emit = |x: Tensor<Self, 4>, average: Option<_>| {
            if average.is_some() { Emitted::Average(x) } else { Emitted::Tensor(x) }
        };
        let mut left = leaving.split(lift::<Self, 4>(joined)).into_iter();
        let tapped = call.call.tap.and_then(|tap| Some(emit(left.next()?, tap.average)));
        let emitted = left.next().map(|x| emit(x, call.call.average)).expect("the last value always leaves");
        BodyOutput { emitted, tapped, record }
    }

    fn freeze(body: &Body, params: Tensor<Self, 1>, running: Vec<Statistic>, precision: ConvPrecision) -> B::Frozen {
        B::freeze(body, params.inner(), running, precision)
    }

    fn run_frozen(frozen: &B::Frozen, input: BodyInput<Self>, count: bool) -> (Emitted<Self>, Count) {
        let (emitted, count) = B::run_frozen(frozen, input.inner(), count);
        let emitted = match emitted {
            Emitted::Tensor(x) => Emitted::Tensor(Tensor::from_inner(x)),
            Emitted::Spikes(spikes) => Emitted::Spikes(spikes),
            Emitted::Average(x) => Emitted::Average(Tensor::from_inner(x)),
        };
        (emitted, count)
    }

    fn average(spikes: &Spikes, pool: &AdaptivePool, device: &Self::Device) -> Tensor<Self, 4> {
        Tensor::from_inner(B::average(spikes, pool, device))
    }

    fn spikes_to_host(x: Tensor<Self, 4>, batch: usize) -> Spikes {
        B::spikes_to_host(x.inner(), batch)
    }

    fn spikes_from_host(spikes: &Spikes, device: &Self::Device) -> Tensor<Self, 4> {
        Tensor::from_inner(B::spikes_from_host(spikes, device))
    }

    fn memory_in_use(device: &Self::Device) -> Option<usize> {
        B::memory_in_use(device)
    }

    fn neuron(x: FloatTensor<Self>, leak: FloatTensor<Self>, rule: NeuronRule) -> FloatTensor<Self> {
        let output = B::neuron(x.primitive.clone(), leak.primitive.clone(), rule);
        match NeuronOp.prepare::<C>([x.node, leak.node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((x.primitive, leak.primitive, rule), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn fully_connected(x: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let (x, weight) = (lower(x), lower(weight));
        let output = lower(B::fully_connected(lift(x.primitive.clone()), lift(weight.primitive.clone())));
        match LinearOp.prepare::<C>([x.node, weight.node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => lift(prepared.finish((x.primitive, weight.primitive), output)),
            OpsKind::UnTracked(prepared) => lift(prepared.finish(output)),
        }
    }

    fn biased(x: Tensor<Self, 2>, bias: Tensor<Self, 1>) -> Tensor<Self, 2> {
        let (x, bias) = (lower(x), lower(bias));
        let output = lower(B::biased(lift(x.primitive), lift(bias.primitive)));
        lift(BiasOp.prepare::<C>([x.node, bias.node]).compute_bound().stateless(output))
    }

    fn logistic(x: Tensor<Self, 1>) -> Tensor<Self, 1> {
        let x = lower(x);
        let output: FloatTensor<B> = lower(B::logistic(lift(x.primitive)));
        match LogisticOp.prepare::<C>([x.node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => lift(prepared.finish(output.clone(), output)),
            OpsKind::UnTracked(prepared) => lift(prepared.finish(output)),
        }
    }

    fn cross_entropy(logits: Tensor<Self, 2>, target: Tensor<Self, 2>) -> Tensor<Self, 1> {
        let (logits, target) = (lower(logits), lower(target).primitive);
        let output = lower(B::cross_entropy(lift(logits.primitive.clone()), lift(target.clone())));
        match CrossEntropyOp.prepare::<C>([logits.node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => lift(prepared.finish((logits.primitive, target), output)),
            OpsKind::UnTracked(prepared) => lift(prepared.finish(output)),
        }
    }
}
