//! The operations of spiking layers, one implementation per backend.
//!
//! [`SpikingBackend`] adds three operations to a burn backend: convolution, batch normalisation over (T, B, H, W), and
//! the multi-step neuron, each with its own backward pass. [`mod@reference`] has them in plain tensor operations, which is
//! what GPU backends use; [`cpu`] overrides them for the Flex backend; [`autodiff`] connects them to burn's autodiff.
//! Nothing above this folder knows which one runs. Results do not depend on the number of threads.

pub mod autodiff;
pub mod cpu;
pub mod memory;
pub mod reference;

use bloctrain_shared::spec::{NeuronSpec, Reset, Surrogate};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};

/// Stride and padding of a square convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvRule {
    /// Step between output positions along both axes.
    pub stride: usize,
    /// Zeros added on every side.
    pub padding: usize,
}

/// What a neuron does with its membrane, apart from the leak.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NeuronRule {
    /// Membrane value at which the neuron fires.
    pub threshold: f32,
    /// What a spike does to the membrane.
    pub reset: Reset,
    /// Whether the gradient ignores the reset.
    pub detach_reset: bool,
    /// Derivative used in place of the step function's.
    pub surrogate: Surrogate,
    /// Its shape parameter.
    pub width: f32,
}

impl NeuronRule {
    /// The rule of a specification.
    pub fn new(spec: &NeuronSpec) -> Self {
        Self {
            threshold: spec.threshold,
            reset: spec.reset,
            detach_reset: spec.detach_reset,
            surrogate: spec.surrogate,
            width: spec.surrogate_width,
        }
    }
}

/// Surrogate derivative at `v = membrane - threshold`; see [`Surrogate`] for the formulas.
#[inline]
pub fn surrogate_derivative(surrogate: Surrogate, width: f32, v: f32) -> f32 {
    match surrogate {
        Surrogate::Atan => {
            let scaled = std::f32::consts::FRAC_PI_2 * width * v;
            0.5 * width / (1.0 + scaled * scaled)
        }
        Surrogate::FastSigmoid => {
            let slope = width * v.abs() + 1.0;
            1.0 / (slope * slope)
        }
        Surrogate::Triangle => (1.0 - v.abs() / width).max(0.0) / width,
        Surrogate::Rectangle => {
            if v.abs() < width {
                0.5 / width
            } else {
                0.0
            }
        }
    }
}

/// A backend with the operations of spiking layers. Every method has a default in plain tensor operations.
pub trait SpikingBackend: Backend {
    /// Convolution of `x [N, C, H, W]` with `weight [O, C, k, k]`, without bias: `[N, O, H', W']`.
    fn convolve(x: FloatTensor<Self>, weight: FloatTensor<Self>, rule: ConvRule) -> FloatTensor<Self> {
        reference::conv2d::<Self>(x, weight, rule)
    }

    /// Gradient of [`convolve`](Self::convolve) for `x`, from the gradient `[N, O, H', W']` of its output.
    fn convolve_input_grad(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rule: ConvRule,
    ) -> FloatTensor<Self> {
        reference::conv2d_input_grad::<Self>(x, weight, grad, rule)
    }

    /// Gradient of [`convolve`](Self::convolve) for `weight`.
    fn convolve_weight_grad(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rule: ConvRule,
    ) -> FloatTensor<Self> {
        reference::conv2d_weight_grad::<Self>(x, weight, grad, rule)
    }

    /// Batch normalisation of `x [N, C, H, W]` with its own statistics over (N, H, W), scaled by `gamma [C]` and
    /// shifted by `beta [C]` (Ioffe and Szegedy 2015). Returns the result, the mean `[C]` and the biased variance `[C]`.
    fn batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> [FloatTensor<Self>; 3] {
        reference::batch_norm::<Self>(x, gamma, beta, epsilon)
    }

    /// Gradients of [`batch_norm`](Self::batch_norm) for `x`, `gamma` and `beta`.
    fn batch_norm_grad(saved: BatchNormSaved<Self>, grad: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
        reference::batch_norm_grad::<Self>(saved, grad)
    }

    /// Spikes `[T, M]` of neurons driven by `x [T, M]`, with membranes that start at 0 and the factor `leak [1]`.
    fn neuron(x: FloatTensor<Self>, leak: FloatTensor<Self>, rule: NeuronRule) -> FloatTensor<Self> {
        reference::neuron::<Self>(x, leak, rule)
    }

    /// Gradients of [`neuron`](Self::neuron) for `x` and `leak` by back-propagation through time with the surrogate.
    fn neuron_grad(
        x: FloatTensor<Self>,
        leak: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rule: NeuronRule,
    ) -> [FloatTensor<Self>; 2] {
        reference::neuron_grad::<Self>(x, leak, grad, rule)
    }
}

/// What batch normalisation keeps for its backward pass.
#[derive(Debug, Clone)]
pub struct BatchNormSaved<B: Backend> {
    /// Input `[N, C, H, W]`.
    pub x: FloatTensor<B>,
    /// Scale `[C]`.
    pub gamma: FloatTensor<B>,
    /// Batch mean `[C]`.
    pub mean: FloatTensor<B>,
    /// Biased batch variance `[C]`.
    pub variance: FloatTensor<B>,
    /// Added to the variance.
    pub epsilon: f32,
}

#[cfg(feature = "cuda")]
impl SpikingBackend for burn::backend::Cuda {}

#[cfg(feature = "wgpu")]
impl SpikingBackend for burn::backend::Wgpu {}

fn lift<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn lower<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// [`SpikingBackend::convolve`] on tensors.
pub fn conv2d<B: SpikingBackend>(x: Tensor<B, 4>, weight: Tensor<B, 4>, rule: ConvRule) -> Tensor<B, 4> {
    lift(B::convolve(lower(x), lower(weight), rule))
}

/// [`SpikingBackend::batch_norm`] on tensors.
pub fn batch_norm<B: SpikingBackend>(
    x: Tensor<B, 4>,
    gamma: Tensor<B, 1>,
    beta: Tensor<B, 1>,
    epsilon: f32,
) -> (Tensor<B, 4>, Tensor<B, 1>, Tensor<B, 1>) {
    let [y, mean, variance] = B::batch_norm(lower(x), lower(gamma), lower(beta), epsilon);
    (lift(y), lift(mean), lift(variance))
}

/// [`SpikingBackend::neuron`] on tensors.
pub fn neuron<B: SpikingBackend>(x: Tensor<B, 2>, leak: Tensor<B, 1>, rule: NeuronRule) -> Tensor<B, 2> {
    lift(B::neuron(lower(x), lower(leak), rule))
}
