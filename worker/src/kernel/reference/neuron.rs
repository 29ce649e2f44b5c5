//! The multi-step neuron in plain tensor operations, forward and backward.

use super::super::{lift, lower};
use bloctrain_shared::neuron::{NeuronRule, Reset, Surrogate};
use burn_tensor::Tensor;
use burn_tensor::backend::Backend;
use burn_tensor::ops::FloatTensor;

struct Trace<B: Backend> {
    /// Membranes before the reset, one `[1, M]` per step.
    before: Vec<Tensor<B, 2>>,
    /// Membranes after the reset.
    after: Vec<Tensor<B, 2>>,
    spikes: Vec<Tensor<B, 2>>,
}

fn run<B: Backend>(x: &Tensor<B, 2>, leak: &Tensor<B, 1>, rule: NeuronRule) -> Trace<B> {
    let NeuronRule { threshold, reset, detach_reset: _, surrogate: _, width: _ } = rule;
    let [steps, sites] = x.dims();
    let leak = leak.clone().reshape([1, 1]);
    let mut trace = Trace { before: Vec::new(), after: Vec::new(), spikes: Vec::new() };
    let mut membrane = Tensor::zeros([1, sites], &x.device());
    for step in 0..steps {
        let before = membrane * leak.clone() + x.clone().slice([step..step + 1, 0..sites]);
        let spike = before.clone().greater_equal_elem(threshold).float();
        membrane = match reset {
            Reset::Subtract => before.clone() - spike.clone().mul_scalar(threshold),
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

/// See [`SpikingBackend::neuron`](crate::kernel::SpikingBackend::neuron).
pub fn neuron<B: Backend>(x: FloatTensor<B>, leak: FloatTensor<B>, rule: NeuronRule) -> FloatTensor<B> {
    lower(Tensor::cat(run::<B>(&lift(x), &lift(leak), rule).spikes, 0))
}

/// Membranes after the reset `[T, M]`, for monitors and tests: the neuron operation itself keeps none.
pub fn membranes<B: Backend>(x: Tensor<B, 2>, leak: Tensor<B, 1>, rule: NeuronRule) -> Tensor<B, 2> {
    Tensor::cat(run(&x, &leak, rule).after, 0)
}

/// See [`SpikingBackend::neuron_grad`](crate::kernel::SpikingBackend::neuron_grad).
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
    let NeuronRule { threshold, reset, detach_reset, surrogate: _, width: _ } = rule;
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
        let kept = match (reset, detach_reset) {
            (Reset::Subtract, true) => Tensor::ones_like(&slope),
            (Reset::Subtract, false) => slope.clone().mul_scalar(-threshold).add_scalar(1.0),
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
