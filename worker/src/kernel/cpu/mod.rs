//! The operations on the CPU (burn's Flex backend): f32 slices, the `gemm` crate, rayon over fixed partitions.
//!
//! Work is cut by frames or channels, never by the number of threads, and partial sums are added in a fixed order, so
//! results are bit-identical for any number of threads.

mod conv;
mod neuron;
mod norm;

use super::{BatchNormSaved, ConvRule, NeuronRule, SpikingBackend};
use burn::tensor::{Shape, TensorData};
use burn_flex::{Flex, FlexTensor};

/// A tensor's values in order; copied only when its memory is not in order.
fn ordered(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("the Flex backend's floats are f32 and the tensor was put in order")
}

fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    let shape = tensor.layout().shape();
    std::array::from_fn(|axis| shape[axis])
}

fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

impl SpikingBackend for Flex {
    fn convolve(x: FlexTensor, weight: FlexTensor, rule: ConvRule) -> FlexTensor {
        let (x, weight) = (ordered(x), ordered(weight));
        let plan = conv::Plan::new(dims(&x), dims(&weight), rule);
        tensor(conv::forward(&plan, values(&x), values(&weight)), plan.output_shape())
    }

    fn convolve_input_grad(x: FlexTensor, weight: FlexTensor, grad: FlexTensor, rule: ConvRule) -> FlexTensor {
        let (weight, grad) = (ordered(weight), ordered(grad));
        let shape: [usize; 4] = dims(&x);
        let plan = conv::Plan::new(shape, dims(&weight), rule);
        tensor(conv::input_grad(&plan, values(&weight), values(&grad)), shape)
    }

    fn convolve_weight_grad(x: FlexTensor, weight: FlexTensor, grad: FlexTensor, rule: ConvRule) -> FlexTensor {
        let (x, grad) = (ordered(x), ordered(grad));
        let shape: [usize; 4] = dims(&weight);
        let plan = conv::Plan::new(dims(&x), shape, rule);
        tensor(conv::weight_grad(&plan, values(&x), values(&grad)), shape)
    }

    fn batch_norm(x: FlexTensor, gamma: FlexTensor, beta: FlexTensor, epsilon: f32) -> [FlexTensor; 3] {
        let (x, gamma, beta) = (ordered(x), ordered(gamma), ordered(beta));
        let shape: [usize; 4] = dims(&x);
        let (y, mean, variance) = norm::forward(shape, values(&x), values(&gamma), values(&beta), epsilon);
        [tensor(y, shape), tensor(mean, [shape[1]]), tensor(variance, [shape[1]])]
    }

    fn batch_norm_grad(saved: BatchNormSaved<Self>, grad: FlexTensor) -> [FlexTensor; 3] {
        let (x, grad) = (ordered(saved.x), ordered(grad));
        let (gamma, mean, variance) = (ordered(saved.gamma), ordered(saved.mean), ordered(saved.variance));
        let shape: [usize; 4] = dims(&x);
        let statistics = norm::Statistics { mean: values(&mean), variance: values(&variance), epsilon: saved.epsilon };
        let (x_grad, gamma_grad, beta_grad) = norm::backward(shape, values(&x), values(&gamma), &statistics, values(&grad));
        [tensor(x_grad, shape), tensor(gamma_grad, [shape[1]]), tensor(beta_grad, [shape[1]])]
    }

    fn neuron(x: FlexTensor, leak: FlexTensor, rule: NeuronRule) -> FlexTensor {
        let (x, leak) = (ordered(x), ordered(leak));
        let shape: [usize; 2] = dims(&x);
        tensor(neuron::forward(shape, values(&x), values(&leak)[0], rule), shape)
    }

    fn neuron_grad(x: FlexTensor, leak: FlexTensor, grad: FlexTensor, rule: NeuronRule) -> [FlexTensor; 2] {
        let (x, leak, grad) = (ordered(x), ordered(leak), ordered(grad));
        let shape: [usize; 2] = dims(&x);
        let (x_grad, leak_grad) = neuron::backward(shape, values(&x), values(&leak)[0], values(&grad), rule);
        [tensor(x_grad, shape), tensor(vec![leak_grad], [1])]
    }
}
