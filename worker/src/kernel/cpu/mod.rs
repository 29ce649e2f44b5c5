//! Bodies on the CPU (burn's Flex backend): sparse where spikes are, dense where gradients are, in vectors as wide as the
//! processor has, over fixed partitions of the work.
//!
//! `simd` finds the processor's vectors, `value` is what flows, `geometry` says where taps reach, `sparse` and
//! `dense` are the products, `fire` is norm and neuron, `body` puts a block together.

mod averages;
mod body;
mod buffer;
mod dense;
mod fire;
mod geometry;
mod group;
mod linear;
mod listing;
mod map;
mod optimize;
mod orders;
mod polyphase;
mod simd;
mod sparse;
mod value;
mod winograd;
mod winograd_grad;

use super::{BodyCall, BodyInput, BodyOutput, BodyRecord, Emitted, Moments, SpikingBackend, StepRule, Stepped, spikes_tensor};
pub use averages::{averages, sample_averages};
pub use body::{Kept, Tape};
use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexTensor};
use std::sync::Arc;

/// A tensor's values in order; copied only when its memory is not in order.
fn ordered<const D: usize>(tensor: Tensor<Flex, D>) -> FlexTensor {
    let tensor = tensor.into_primitive().tensor();
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("the Flex backend's floats are f32 and the tensor was put in order")
}

/// Runs on a thread of the pool: parallel parts then begin without waking anybody, and there are some hundred of them in
/// a step.
fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

fn run(call: &BodyCall<'_>, params: Tensor<Flex, 1>, input: BodyInput<Flex>, keep: bool) -> body::Outcome {
    let params = ordered(params);
    let (batch, input) = match input {
        BodyInput::Image(image) => (image.dims()[0], body::image(values(&ordered(image)), call.body.input)),
        BodyInput::Spikes(spikes) => (spikes.batch(), body::spikes(spikes)),
    };
    body::forward(call, values(&params), input, batch, keep)
}

impl SpikingBackend for Flex {
    type Tape = Tape;

    const FUSED: bool = true;

    fn body(call: &BodyCall<'_>, params: Tensor<Self, 1>, input: BodyInput<Self>) -> BodyOutput<Self> {
        let found = run(call, params, input, false);
        BodyOutput { emitted: Emitted::Spikes(found.spikes), record: found.record }
    }

    fn body_tracked(
        call: &BodyCall<'_>,
        params: Tensor<Self, 1>,
        input: BodyInput<Self>,
    ) -> (Tensor<Self, 4>, BodyRecord, Arc<Tape>) {
        let found = run(call, params, input, true);
        let tape = found.tape.expect("it was asked for");
        let spikes = match call.average {
            Some(pool) => Emitted::Spikes(found.spikes).average(pool, call.body.steps, &Default::default()),
            None => spikes_tensor(&found.spikes, &Default::default()),
        };
        (spikes, found.record, Arc::new(tape))
    }

    fn body_grad(tape: &Tape, params: Tensor<Self, 1>, grad: Tensor<Self, 4>) -> Tensor<Self, 1> {
        let (params, grad) = (ordered(params), ordered(grad));
        vector(body::backward(tape, values(&params), values(&grad)))
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

    fn optimize(rule: &StepRule, parameter: Tensor<Self, 1>, grad: Tensor<Self, 1>, moments: Moments<Self>) -> Stepped<Self> {
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

fn vector(values: Vec<f32>) -> Tensor<Flex, 1> {
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), &Default::default())
}

fn matrix(values: Vec<f32>, shape: [usize; 2]) -> Tensor<Flex, 2> {
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}
