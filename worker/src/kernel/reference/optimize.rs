//! Optimiser steps in plain tensor operations.

use super::super::{Moments, StepRule, Stepped};
use burn_tensor::Tensor;
use burn_tensor::backend::Backend;

/// See [`SpikingBackend::optimize`](crate::kernel::SpikingBackend::optimize).
pub fn optimize<B: Backend>(
    rule: &StepRule,
    parameter: Tensor<B, 1>,
    grad: Tensor<B, 1>,
    moments: Moments<B>,
) -> Stepped<B> {
    match *rule {
        StepRule::Sgd { momentum, decay, rate } => {
            let grad = if decay > 0.0 { grad + parameter.clone().mul_scalar(decay) } else { grad };
            let first = moments.first.mul_scalar(momentum) + grad;
            let parameter = parameter - first.clone().mul_scalar(rate);
            Stepped { parameter, moments: Moments { first, second: moments.second } }
        }
        StepRule::Adamw { betas, keep, rate, share, epsilon } => {
            let second = moments.second.unwrap_or_else(|| grad.zeros_like());
            let first = moments.first.mul_scalar(betas[0]) + grad.clone().mul_scalar(1.0 - betas[0]);
            let second = second.mul_scalar(betas[1]) + (grad.clone() * grad).mul_scalar(1.0 - betas[1]);
            let scale = second.clone().mul_scalar(share).sqrt().add_scalar(epsilon);
            let parameter = parameter.mul_scalar(keep) - first.clone().div(scale).mul_scalar(rate);
            Stepped { parameter, moments: Moments { first, second: Some(second) } }
        }
    }
}
