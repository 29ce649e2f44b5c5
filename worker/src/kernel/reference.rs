//! The operations in plain tensor operations: for backends without their own, and as the measure of those that have.

use super::{BatchNormSaved, ConvRule, NeuronRule, lift, lower};
use bloctrain_shared::spec::{Reset, Surrogate};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::{ConvOptions, FloatTensor};

fn options(rule: ConvRule) -> ConvOptions<2> {
    ConvOptions::new([rule.stride; 2], [rule.padding; 2], [1, 1], 1)
}

/// See [`SpikingBackend::convolve`](super::SpikingBackend::convolve).
pub fn conv2d<B: Backend>(x: FloatTensor<B>, weight: FloatTensor<B>, rule: ConvRule) -> FloatTensor<B> {
    B::conv2d(x, weight, None, options(rule))
}

/// See [`SpikingBackend::convolve_input_grad`](super::SpikingBackend::convolve_input_grad).
pub fn conv2d_input_grad<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    rule: ConvRule,
) -> FloatTensor<B> {
    B::conv2d_x_backward(x, weight, grad, options(rule))
}

/// See [`SpikingBackend::convolve_weight_grad`](super::SpikingBackend::convolve_weight_grad).
pub fn conv2d_weight_grad<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    rule: ConvRule,
) -> FloatTensor<B> {
    B::conv2d_weight_backward(x, weight, grad, options(rule))
}

fn per_channel<B: Backend>(values: Tensor<B, 1>) -> Tensor<B, 4> {
    let channels = values.dims()[0];
    values.reshape([1, channels, 1, 1])
}

fn sum_channels<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 1> {
    let channels = x.dims()[1];
    x.sum_dim(0).sum_dim(2).sum_dim(3).reshape([channels])
}

/// See [`SpikingBackend::batch_norm`](super::SpikingBackend::batch_norm).
pub fn batch_norm<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    epsilon: f32,
) -> [FloatTensor<B>; 3] {
    let (x, gamma, beta): (Tensor<B, 4>, Tensor<B, 1>, Tensor<B, 1>) = (lift(x), lift(gamma), lift(beta));
    let [n, _, h, w] = x.dims();
    let count = (n * h * w) as f64;
    let mean = sum_channels(x.clone()).div_scalar(count);
    let centred = x - per_channel(mean.clone());
    let variance = sum_channels(centred.clone().powi_scalar(2)).div_scalar(count);
    let inverse = variance.clone().add_scalar(epsilon).sqrt().recip();
    let y = centred * per_channel(inverse * gamma) + per_channel(beta);
    [lower(y), lower(mean), lower(variance)]
}

/// See [`SpikingBackend::batch_norm_grad`](super::SpikingBackend::batch_norm_grad):
/// `dx = gamma / sigma * (dy - mean(dy) - xhat * mean(dy * xhat))`.
pub fn batch_norm_grad<B: Backend>(saved: BatchNormSaved<B>, grad: FloatTensor<B>) -> [FloatTensor<B>; 3] {
    let (x, grad): (Tensor<B, 4>, Tensor<B, 4>) = (lift(saved.x), lift(grad));
    let (gamma, mean, variance): (Tensor<B, 1>, Tensor<B, 1>, Tensor<B, 1>) =
        (lift(saved.gamma), lift(saved.mean), lift(saved.variance));
    let [n, _, h, w] = x.dims();
    let count = (n * h * w) as f64;
    let inverse = variance.add_scalar(saved.epsilon).sqrt().recip();
    let normal = (x - per_channel(mean)) * per_channel(inverse.clone());
    let beta_grad = sum_channels(grad.clone());
    let gamma_grad = sum_channels(grad.clone() * normal.clone());
    let centred =
        grad - per_channel(beta_grad.clone().div_scalar(count)) - normal * per_channel(gamma_grad.clone().div_scalar(count));
    let x_grad = centred * per_channel(gamma * inverse);
    [lower(x_grad), lower(gamma_grad), lower(beta_grad)]
}

struct Trace<B: Backend> {
    /// Membranes before the reset, one `[1, M]` per step.
    before: Vec<Tensor<B, 2>>,
    /// Membranes after the reset.
    after: Vec<Tensor<B, 2>>,
    spikes: Vec<Tensor<B, 2>>,
}

fn run<B: Backend>(x: &Tensor<B, 2>, leak: &Tensor<B, 1>, rule: NeuronRule) -> Trace<B> {
    let [steps, sites] = x.dims();
    let leak = leak.clone().reshape([1, 1]);
    let mut trace = Trace { before: Vec::new(), after: Vec::new(), spikes: Vec::new() };
    let mut membrane = Tensor::zeros([1, sites], &x.device());
    for step in 0..steps {
        let before = membrane * leak.clone() + x.clone().slice([step..step + 1, 0..sites]);
        let spike = before.clone().greater_equal_elem(rule.threshold).float();
        membrane = match rule.reset {
            Reset::Subtract => before.clone() - spike.clone().mul_scalar(rule.threshold),
            Reset::Zero => before.clone() * spike.clone().neg().add_scalar(1.0),
        };
        trace.before.push(before);
        trace.after.push(membrane.clone());
        trace.spikes.push(spike);
    }
    trace
}

fn derivative<B: Backend>(rule: NeuronRule, membrane: Tensor<B, 2>) -> Tensor<B, 2> {
    let v = membrane.sub_scalar(rule.threshold);
    let a = rule.width;
    match rule.surrogate {
        Surrogate::Atan => {
            v.mul_scalar(std::f32::consts::FRAC_PI_2 * a).powi_scalar(2).add_scalar(1.0).recip().mul_scalar(0.5 * a)
        }
        Surrogate::FastSigmoid => v.abs().mul_scalar(a).add_scalar(1.0).powi_scalar(2).recip(),
        Surrogate::Triangle => v.abs().div_scalar(a).neg().add_scalar(1.0).clamp_min(0.0).div_scalar(a),
        Surrogate::Rectangle => v.abs().lower_elem(a).float().mul_scalar(0.5 / a),
    }
}

/// See [`SpikingBackend::neuron`](super::SpikingBackend::neuron).
pub fn neuron<B: Backend>(x: FloatTensor<B>, leak: FloatTensor<B>, rule: NeuronRule) -> FloatTensor<B> {
    lower(Tensor::cat(run::<B>(&lift(x), &lift(leak), rule).spikes, 0))
}

/// Membranes after the reset `[T, M]`, for monitors and tests: the neuron operation itself keeps none.
pub fn membranes<B: Backend>(x: Tensor<B, 2>, leak: Tensor<B, 1>, rule: NeuronRule) -> Tensor<B, 2> {
    Tensor::cat(run(&x, &leak, rule).after, 0)
}

/// See [`SpikingBackend::neuron_grad`](super::SpikingBackend::neuron_grad).
///
/// With `dv[t] = leak * du[t+1]`: subtraction `du = ds σ' + dv (1 - θ σ')`, to zero `du = ds σ' + dv (1 - s - u σ')`;
/// a detached reset drops the terms in σ' that multiply dv. `dx = du`, `dleak = Σ du[t] v[t-1]`.
pub fn neuron_grad<B: Backend>(
    x: FloatTensor<B>,
    leak: FloatTensor<B>,
    grad: FloatTensor<B>,
    rule: NeuronRule,
) -> [FloatTensor<B>; 2] {
    let (x, leak, grad): (Tensor<B, 2>, Tensor<B, 1>, Tensor<B, 2>) = (lift(x), lift(leak), lift(grad));
    let [steps, sites] = x.dims();
    let trace = run(&x, &leak, rule);
    let factor = leak.reshape([1, 1]);
    let mut leak_grad = Tensor::<B, 1>::zeros([1], &x.device());
    let mut after_grad = Tensor::<B, 2>::zeros([1, sites], &x.device());
    let mut x_grad = Vec::with_capacity(steps);
    for step in (0..steps).rev() {
        let membrane = trace.before[step].clone();
        let slope = derivative(rule, membrane.clone());
        let spike_grad = grad.clone().slice([step..step + 1, 0..sites]);
        let kept = match (rule.reset, rule.detach_reset) {
            (Reset::Subtract, true) => Tensor::ones_like(&slope),
            (Reset::Subtract, false) => slope.clone().mul_scalar(-rule.threshold).add_scalar(1.0),
            (Reset::Zero, true) => trace.spikes[step].clone().neg().add_scalar(1.0),
            (Reset::Zero, false) => trace.spikes[step].clone().neg().add_scalar(1.0) - membrane * slope.clone(),
        };
        let before_grad = spike_grad * slope + after_grad * kept;
        if step > 0 {
            leak_grad = leak_grad + (before_grad.clone() * trace.after[step - 1].clone()).sum();
        }
        after_grad = before_grad.clone() * factor.clone();
        x_grad.push(before_grad);
    }
    x_grad.reverse();
    [lower(Tensor::cat(x_grad, 0)), lower(leak_grad)]
}
