//! The multi-step neuron: all T steps of a group of sites while their membranes are in cache.
//!
//! The backward pass keeps nothing but the input: it recomputes the membranes group by group.

use super::super::{NeuronRule, surrogate_derivative};
use bloctrain_shared::spec::{Reset, Surrogate};
use rayon::prelude::*;

/// Sites worked on together. Fixed, so that the order of additions is.
const GROUP: usize = 1024;

struct Sendable(*mut f32);
// SAFETY: each task writes only the sites of its own group, which no other task touches.
#[expect(unsafe_code, reason = "disjoint column ranges of one matrix are written in parallel")]
unsafe impl Sync for Sendable {}

/// Writes `values` to row `step`, columns `start..`, of a `[T, M]` matrix.
#[expect(unsafe_code, reason = "disjoint column ranges of one matrix are written in parallel")]
fn write(out: &Sendable, sites: usize, step: usize, start: usize, values: &[f32]) {
    debug_assert!(start + values.len() <= sites);
    // SAFETY: the matrix has `sites` columns and more than `step` rows, and `start + values.len() <= sites`; the column
    // range belongs to the calling task alone.
    unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), out.0.add(step * sites + start), values.len()) }
}

fn reset(rule: NeuronRule, membrane: f32, spike: f32) -> f32 {
    match rule.reset {
        Reset::Subtract => membrane - rule.threshold * spike,
        Reset::Zero => membrane * (1.0 - spike),
    }
}

/// Spikes `[T, M]`.
pub(super) fn forward([steps, sites]: [usize; 2], x: &[f32], leak: f32, rule: NeuronRule) -> Vec<f32> {
    let mut out = vec![0.0_f32; steps * sites];
    let target = Sendable(out.as_mut_ptr());
    let target = &target;
    (0..sites.div_ceil(GROUP)).into_par_iter().for_each(|group| {
        let start = group * GROUP;
        let width = GROUP.min(sites - start);
        let (mut membrane, mut spikes) = ([0.0_f32; GROUP], [0.0_f32; GROUP]);
        for step in 0..steps {
            let x = &x[step * sites + start..][..width];
            for ((membrane, spike), &x) in membrane.iter_mut().zip(&mut spikes).zip(x) {
                let before = leak * *membrane + x;
                *spike = f32::from(u8::from(before >= rule.threshold));
                *membrane = reset(rule, before, *spike);
            }
            write(target, sites, step, start, &spikes[..width]);
        }
    });
    out
}

/// Gradients for the input `[T, M]` and the leak.
pub(super) fn backward(shape: [usize; 2], x: &[f32], leak: f32, grad: &[f32], rule: NeuronRule) -> (Vec<f32>, f32) {
    // One loop per surrogate, so that the innermost loop has no branch.
    match rule.surrogate {
        Surrogate::Atan => backward_with(shape, x, leak, grad, rule, |v| surrogate_derivative(Surrogate::Atan, rule.width, v)),
        Surrogate::FastSigmoid => {
            backward_with(shape, x, leak, grad, rule, |v| surrogate_derivative(Surrogate::FastSigmoid, rule.width, v))
        }
        Surrogate::Triangle => {
            backward_with(shape, x, leak, grad, rule, |v| surrogate_derivative(Surrogate::Triangle, rule.width, v))
        }
        Surrogate::Rectangle => {
            backward_with(shape, x, leak, grad, rule, |v| surrogate_derivative(Surrogate::Rectangle, rule.width, v))
        }
    }
}

fn backward_with(
    [steps, sites]: [usize; 2],
    x: &[f32],
    leak: f32,
    grad: &[f32],
    rule: NeuronRule,
    slope: impl Fn(f32) -> f32 + Sync,
) -> (Vec<f32>, f32) {
    let mut out = vec![0.0_f32; steps * sites];
    let target = Sendable(out.as_mut_ptr());
    let target = &target;
    let leak_grads: Vec<f64> = (0..sites.div_ceil(GROUP))
        .into_par_iter()
        .map(|group| {
            let start = group * GROUP;
            let width = GROUP.min(sites - start);
            let before = membranes([steps, sites], x, leak, rule, start, width);
            let mut after_grad = [0.0_f32; GROUP];
            let mut values = [0.0_f32; GROUP];
            let mut leak_grad = 0.0_f64;
            for step in (0..steps).rev() {
                let grad = &grad[step * sites + start..][..width];
                let row = &before[step * width..(step + 1) * width];
                for (((value, after_grad), &membrane), &grad) in values.iter_mut().zip(&mut after_grad).zip(row).zip(grad) {
                    let slope = slope(membrane - rule.threshold);
                    let spike = f32::from(u8::from(membrane >= rule.threshold));
                    let through_reset = if rule.detach_reset { 0.0 } else { slope };
                    let kept = match rule.reset {
                        Reset::Subtract => 1.0 - rule.threshold * through_reset,
                        Reset::Zero => 1.0 - spike - membrane * through_reset,
                    };
                    *value = grad * slope + *after_grad * kept;
                    *after_grad = leak * *value;
                }
                if step > 0 {
                    let earlier = &before[(step - 1) * width..step * width];
                    let product = |(&value, &before): (&f32, &f32)| {
                        let spike = f32::from(u8::from(before >= rule.threshold));
                        value * reset(rule, before, spike)
                    };
                    leak_grad += f64::from(values.iter().zip(earlier).map(product).sum::<f32>());
                }
                write(target, sites, step, start, &values[..width]);
            }
            leak_grad
        })
        .collect();
    (out, leak_grads.iter().sum::<f64>() as f32)
}

/// Membranes before the reset of one group, `[T, width]`.
fn membranes([steps, sites]: [usize; 2], x: &[f32], leak: f32, rule: NeuronRule, start: usize, width: usize) -> Vec<f32> {
    let mut before = vec![0.0_f32; steps * width];
    let mut membrane = [0.0_f32; GROUP];
    for step in 0..steps {
        let x = &x[step * sites + start..][..width];
        let row = &mut before[step * width..(step + 1) * width];
        for ((before, membrane), &x) in row.iter_mut().zip(&mut membrane).zip(x) {
            *before = leak * *membrane + x;
            let spike = f32::from(u8::from(*before >= rule.threshold));
            *membrane = reset(rule, *before, spike);
        }
    }
    before
}
