//! The operations under burn's autodiff: forward by the inner backend, backward by its `_grad` methods.
//!
//! A gradient that nobody asks for is not computed: the first layer of a block has no input gradient.

use super::{BatchNormSaved, ConvRule, NeuronRule, SpikingBackend};
use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::FloatTensor;

#[derive(Debug)]
struct ConvOp;

impl<B: SpikingBackend> Backward<B, 2> for ConvOp {
    type State = (FloatTensor<B>, FloatTensor<B>, ConvRule);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (x, weight, rule) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let [x_node, weight_node] = ops.parents;
        if let Some(node) = weight_node {
            grads.register::<B>(node.id, B::convolve_weight_grad(x.clone(), weight.clone(), grad.clone(), rule));
        }
        if let Some(node) = x_node {
            grads.register::<B>(node.id, B::convolve_input_grad(x, weight, grad, rule));
        }
    }
}

#[derive(Debug)]
struct BatchNormOp;

impl<B: SpikingBackend> Backward<B, 3> for BatchNormOp {
    type State = BatchNormSaved<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let computed = B::batch_norm_grad(ops.state, grad);
        for (node, grad) in ops.parents.into_iter().zip(computed) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
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

impl<B: SpikingBackend, C: CheckpointStrategy> SpikingBackend for Autodiff<B, C> {
    fn convolve(x: FloatTensor<Self>, weight: FloatTensor<Self>, rule: ConvRule) -> FloatTensor<Self> {
        let output = B::convolve(x.primitive.clone(), weight.primitive.clone(), rule);
        match ConvOp.prepare::<C>([x.node, weight.node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((x.primitive, weight.primitive, rule), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> [FloatTensor<Self>; 3] {
        let [output, mean, variance] = B::batch_norm(x.primitive.clone(), gamma.primitive.clone(), beta.primitive, epsilon);
        let saved =
            BatchNormSaved { x: x.primitive, gamma: gamma.primitive, mean: mean.clone(), variance: variance.clone(), epsilon };
        let output = match BatchNormOp.prepare::<C>([x.node, gamma.node, beta.node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(saved, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        };
        [output, Self::from_inner(mean), Self::from_inner(variance)]
    }

    fn neuron(x: FloatTensor<Self>, leak: FloatTensor<Self>, rule: NeuronRule) -> FloatTensor<Self> {
        let output = B::neuron(x.primitive.clone(), leak.primitive.clone(), rule);
        match NeuronOp.prepare::<C>([x.node, leak.node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((x.primitive, leak.primitive, rule), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}
