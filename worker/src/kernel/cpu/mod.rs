//! Bodies on the CPU (burn's Flex backend): sparse where spikes are, dense where gradients are, in vectors as wide as the
//! processor has, over fixed partitions of the work.
//!
//! `simd` finds the processor's vectors, `value` is what flows, `geometry` says where taps reach, `sparse` and
//! `dense` are the products, `fire` is norm and neuron, `body` puts a block together.

mod body;
mod buffer;
mod dense;
mod fire;
mod geometry;
mod group;
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
use bloctrain_shared::ImageShape;
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
        let ImageShape { channels, height, width } = found.spikes.shape();
        let batch = found.spikes.batch();
        let spikes = if call.mean {
            let shape = [batch, channels, height, width];
            Tensor::from_data(TensorData::new(found.spikes.to_means(), shape), &Default::default())
        } else {
            spikes_tensor(&found.spikes, &Default::default())
        };
        (spikes, found.record, Arc::new(tape))
    }

    fn body_grad(tape: &Tape, params: Tensor<Self, 1>, grad: Tensor<Self, 4>) -> Tensor<Self, 1> {
        let (params, grad) = (ordered(params), ordered(grad));
        vector(body::backward(tape, values(&params), values(&grad)))
    }

    fn fully_connected(x: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        // The product's left side is packed by all threads, its right side by one: the weights are the larger one. Turned
        // around here, because Flex puts a view in order one value at a time.
        let [samples, outputs] = [x.dims()[0], weight.dims()[0]];
        let product = ordered(weight.matmul(x.transpose()));
        let mut turned = vec![0.0; samples * outputs];
        for (output, row) in values(&product).chunks(samples).enumerate() {
            turned[output..].iter_mut().step_by(outputs).zip(row).for_each(|(to, value)| *to = *value);
        }
        Tensor::from_data(TensorData::new(turned, [samples, outputs]), &Default::default())
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
