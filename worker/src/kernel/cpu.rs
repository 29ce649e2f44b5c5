//! Bodies on burn's Flex backend: its tensors as slices for the crate of CPU kernels.

use super::{
    BodyCall, BodyInput, BodyOutput, ConvPrecision, Count, Emitted, Moments, SpikingBackend, Statistic, StepRule,
    Stepped, Tracked, lift, lower, spikes_tensor,
};
use bloctrain_kernel::cpu::{self, FrozenBody, Input, Tape, linear, loss, neuron, optimize};
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::ImageShape;
use bloctrain_shared::graph::{AdaptivePool, Body};
use bloctrain_shared::math::sigmoid;
use bloctrain_shared::neuron::NeuronRule;
use burn_flex::{Flex, FlexTensor};
use burn_tensor::{Tensor, TensorData};
use std::sync::Arc;

/// A tensor's values in order; copied only when its memory is not in order.
fn ordered<const D: usize>(tensor: Tensor<Flex, D>) -> FlexTensor {
    let tensor = tensor.into_primitive().tensor();
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("the Flex backend's floats are f32 and the tensor was put in order")
}

/// A tensor in order, given away with its memory.
struct Values(FlexTensor);

impl AsRef<[f32]> for Values {
    fn as_ref(&self) -> &[f32] {
        values(&self.0)
    }
}

/// Runs something on an input as the kernels take it.
fn with_input<R>(input: BodyInput<Flex>, run: impl FnOnce(Input<'_>) -> R) -> R {
    match input {
        BodyInput::Image(image) => run(Input::Images(values(&ordered(image)))),
        BodyInput::Spikes(spikes) => run(Input::Spikes(spikes)),
    }
}

impl SpikingBackend for Flex {
    type Tape = Tape;
    type Frozen = FrozenBody;

    const FUSED: bool = true;

    fn body(call: &BodyCall<'_>, params: Tensor<Self, 1>, input: BodyInput<Self>) -> BodyOutput<Self> {
        let params = ordered(params);
        let found = with_input(input, |input| cpu::forward(&call.call, values(&params), input));
        let (emitted, tapped) = (Emitted::Spikes(found.spikes), found.tapped.map(Emitted::Spikes));
        BodyOutput { emitted, tapped, record: found.record.into() }
    }

    fn body_tracked(call: &BodyCall<'_>, params: Tensor<Self, 1>, input: BodyInput<Self>) -> Tracked<Self> {
        let params = ordered(params);
        let (found, tape) = with_input(input, |input| cpu::forward_tracked(&call.call, values(&params), input));
        let leaves = |spikes: &Spikes, average: Option<&AdaptivePool>| match average {
            Some(pool) => Self::average(spikes, pool, &Default::default()),
            None => spikes_tensor(spikes, &Default::default()),
        };
        let tapped = found.tapped.as_ref().zip(call.call.tap).map(|(spikes, tap)| leaves(spikes, tap.average));
        let left = tapped.into_iter().chain([leaves(&found.spikes, call.call.average)]).collect();
        Tracked { left, record: found.record.into(), tape: Arc::new(tape) }
    }

    fn body_grad(tape: &Tape, params: Tensor<Self, 1>, grads: Vec<Tensor<Self, 4>>) -> Tensor<Self, 1> {
        let grads = grads.into_iter().map(|grad| Values(ordered(grad))).collect();
        vector(cpu::backward(tape, values(&ordered(params)), grads))
    }

    fn freeze(body: &Body, params: Tensor<Self, 1>, running: Vec<Statistic>, _precision: ConvPrecision) -> FrozenBody {
        FrozenBody::new(body.clone(), owned(params), running)
    }

    fn run_frozen(frozen: &FrozenBody, input: BodyInput<Self>, count: bool) -> (Emitted<Self>, Count) {
        let found = with_input(input, |input| frozen.run(input, count));
        (Emitted::Spikes(found.spikes), found.record.count)
    }

    fn average(spikes: &Spikes, pool: &AdaptivePool, device: &Self::Device) -> Tensor<Self, 4> {
        let ImageShape { channels, height, width } = pool.output();
        let averages = TensorData::new(cpu::averages(spikes, pool), [spikes.batch(), channels, height, width]);
        Tensor::from_data(averages, device)
    }

    fn fully_connected(x: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let ([samples, inputs], outputs) = (x.dims(), weight.dims()[0]);
        matrix(linear::forward(values(&ordered(x)), values(&ordered(weight)), inputs), [samples, outputs])
    }

    fn fully_connected_weight_grad(x: Tensor<Self, 2>, grad: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let ([samples, inputs], outputs) = (x.dims(), grad.dims()[1]);
        matrix(linear::weight_grad(values(&ordered(x)), values(&ordered(grad)), samples), [outputs, inputs])
    }

    fn fully_connected_input_grad(grad: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let ([samples, outputs], inputs) = (grad.dims(), weight.dims()[1]);
        matrix(linear::input_grad(values(&ordered(grad)), values(&ordered(weight)), outputs), [samples, inputs])
    }

    fn bias_grad(grad: Tensor<Self, 2>) -> Tensor<Self, 1> {
        let outputs = grad.dims()[1];
        vector(linear::bias_grad(values(&ordered(grad)), outputs))
    }

    fn logistic(x: Tensor<Self, 1>) -> Tensor<Self, 1> {
        vector(owned(x).into_iter().map(sigmoid).collect())
    }

    fn cross_entropy(logits: Tensor<Self, 2>, target: Tensor<Self, 2>) -> Tensor<Self, 1> {
        let classes = logits.dims()[1];
        vector(vec![loss::cross_entropy(values(&ordered(logits)), values(&ordered(target)), classes)])
    }

    fn cross_entropy_grad(logits: Tensor<Self, 2>, target: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let shape = logits.dims();
        matrix(loss::cross_entropy_grad(values(&ordered(logits)), values(&ordered(target)), shape[1]), shape)
    }

    fn neuron(x: FlexTensor, leak: FlexTensor, rule: NeuronRule) -> FlexTensor {
        let (x, leak) = (lift::<Self, 2>(x), lift::<Self, 1>(leak));
        let shape = x.dims();
        let spikes = neuron::spikes(values(&ordered(x)), shape[0], scalar(leak), rule);
        lower(matrix(spikes, shape))
    }

    fn neuron_grad(x: FlexTensor, leak: FlexTensor, grad: FlexTensor, rule: NeuronRule) -> [FlexTensor; 2] {
        let (x, leak, grad) = (lift::<Self, 2>(x), lift::<Self, 1>(leak), lift::<Self, 2>(grad));
        let shape = x.dims();
        let (of_x, of_leak) = neuron::grads(values(&ordered(x)), values(&ordered(grad)), shape[0], scalar(leak), rule);
        [lower(matrix(of_x, shape)), lower(vector(vec![of_leak]))]
    }

    fn optimize(
        rule: &StepRule,
        parameter: Tensor<Self, 1>,
        grad: Tensor<Self, 1>,
        moments: Moments<Self>,
    ) -> Stepped<Self> {
        let (grad, mut parameter, mut first) = (ordered(grad), owned(parameter), owned(moments.first));
        let mut second = moments.second.map(owned).unwrap_or_default();
        optimize::step(rule, &mut parameter, values(&grad), &mut first, &mut second);
        let second = (!second.is_empty()).then(|| vector(second));
        Stepped { parameter: vector(parameter), moments: Moments { first: vector(first), second } }
    }

    fn sum_of_squares(x: Tensor<Self, 1>) -> f64 {
        optimize::sum_of_squares(values(&ordered(x)))
    }
}

/// A vector's values, taken without a copy where nobody else holds them.
fn owned(tensor: Tensor<Flex, 1>) -> Vec<f32> {
    tensor.into_data().into_vec().expect("the Flex backend's floats are f32")
}

fn scalar(tensor: Tensor<Flex, 1>) -> f32 {
    values(&ordered(tensor))[0]
}

fn vector(values: Vec<f32>) -> Tensor<Flex, 1> {
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), &Default::default())
}

fn matrix(values: Vec<f32>, shape: [usize; 2]) -> Tensor<Flex, 2> {
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}
