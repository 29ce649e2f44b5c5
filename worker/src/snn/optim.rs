//! Optimisers over flat parameters, and gradient clipping.

use super::param::{Param, to_host};
use crate::kernel::{Moments, SpikingBackend, StepRule};
use bloctrain_infer::{NamedTensor, NamedTensors};
use bloctrain_shared::math::double as math;
use bloctrain_shared::spec::{OptimizerKind, TrainSpec};
use burn_tensor::backend::{AutodiffBackend, Backend};
use burn_tensor::{Tensor, TensorData};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// SGD with momentum, or AdamW; weight decay only where a parameter asks for it.
#[derive(Debug, Clone)]
pub struct Optimizer<B: SpikingBackend> {
    kind: OptimizerKind,
    momentum: f64,
    weight_decay: f64,
    step: u64,
    /// Velocity (SGD) or first moment (AdamW) of each parameter.
    first: Vec<Tensor<B, 1>>,
    /// Second moment of each parameter (AdamW).
    second: Vec<Tensor<B, 1>>,
}

impl<B: SpikingBackend> Optimizer<B> {
    /// An optimiser with zero moments for parameters of these lengths.
    pub fn new(spec: &TrainSpec, lengths: &[usize], device: &B::Device) -> Self {
        let zeros = || lengths.iter().map(|&length| Tensor::zeros([length], device)).collect();
        let second = if spec.optimizer == OptimizerKind::Adamw { zeros() } else { Vec::new() };
        Self {
            kind: spec.optimizer,
            momentum: spec.momentum,
            weight_decay: spec.weight_decay,
            step: 0,
            first: zeros(),
            second,
        }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// One step at learning rate `rate` from gradients in the order of the parameters; returns the new values.
    pub fn step(
        &mut self,
        values: Vec<(Tensor<B, 1>, bool)>,
        grads: Vec<Tensor<B, 1>>,
        rate: f64,
    ) -> Vec<Tensor<B, 1>> {
        self.step += 1;
        let mut second = std::mem::take(&mut self.second).into_iter();
        let moments: Vec<Moments<B>> =
            std::mem::take(&mut self.first).into_iter().map(|first| Moments { first, second: second.next() }).collect();
        let mut new = Vec::with_capacity(values.len());
        for (((value, decays), grad), moments) in values.into_iter().zip(grads).zip(moments) {
            let rule = self.rule(if decays { self.weight_decay } else { 0.0 }, rate);
            let stepped = B::optimize(&rule, value, grad, moments);
            new.push(stepped.parameter);
            self.first.push(stepped.moments.first);
            self.second.extend(stepped.moments.second);
        }
        new
    }

    /// The rule of the present step.
    fn rule(&self, decay: f64, rate: f64) -> StepRule {
        match self.kind {
            OptimizerKind::Sgd => {
                StepRule::Sgd { momentum: self.momentum as f32, decay: decay as f32, rate: rate as f32 }
            }
            OptimizerKind::Adamw => {
                let left = |beta: f64| 1.0 - math::pow(beta, self.step as f64);
                StepRule::Adamw {
                    betas: [BETA1 as f32, BETA2 as f32],
                    keep: (1.0 - rate * decay) as f32,
                    rate: (rate / left(BETA1)) as f32,
                    share: (1.0 / left(BETA2)) as f32,
                    epsilon: EPSILON as f32,
                }
            }
        }
    }

    /// Moments by parameter name.
    pub fn export<P: Backend>(&self, params: &[Param<P>]) -> Vec<NamedTensor> {
        let named = |kind: &'static str, moments: &[Tensor<B, 1>]| -> Vec<NamedTensor> {
            let one = |(param, moment): (&Param<P>, &Tensor<B, 1>)| NamedTensor {
                name: format!("{kind}.{}", param.name),
                shape: param.shape.clone(),
                values: to_host(moment.clone()),
            };
            params.iter().zip(moments).map(one).collect()
        };
        [named("first", &self.first), named("second", &self.second)].concat()
    }

    /// Restores moments and the number of steps.
    ///
    /// # Errors
    /// Names the moment that is missing or has the wrong length.
    pub fn load<P: Backend>(&mut self, params: &[Param<P>], tensors: &NamedTensors, step: u64) -> Result<(), String> {
        for (kind, moments) in [("first", &mut self.first), ("second", &mut self.second)] {
            for (param, moment) in params.iter().zip(moments) {
                let name = format!("{kind}.{}", param.name);
                let found = tensors.get(&name).filter(|found| found.values.len() == moment.dims()[0]);
                let found = found.ok_or_else(|| format!("the optimiser state has no fitting `{name}`"))?;
                let data = TensorData::new(found.values.clone(), [found.values.len()]);
                *moment = Tensor::from_data(data, &moment.device());
            }
        }
        self.step = step;
        Ok(())
    }
}

/// Marks every parameter as a leaf whose gradient is wanted.
pub fn track<B: AutodiffBackend>(params: &mut [Param<B>]) {
    for param in params {
        param.value = param.value.clone().detach().require_grad();
    }
}

/// Gradients in the order of the parameters; zero where a parameter had no influence.
pub fn gradients<B: AutodiffBackend>(params: &[Param<B>], grads: &B::Gradients) -> Vec<Tensor<B::InnerBackend, 1>> {
    let zero = |param: &Param<B>| Tensor::zeros([param.value.dims()[0]], &param.value.device());
    params.iter().map(|param| param.value.grad(grads).unwrap_or_else(|| zero(param))).collect()
}

/// Scales gradients down to a global norm of at most `limit`; a limit of 0 leaves them, and so does a norm that is not
/// finite.
pub fn clip<B: SpikingBackend>(grads: Vec<Tensor<B, 1>>, limit: f64) -> Vec<Tensor<B, 1>> {
    if limit <= 0.0 || grads.is_empty() {
        return grads;
    }
    if B::QUEUES {
        let squares = grads.iter().map(|grad| B::squared_norm(grad.clone())).collect();
        let norm = Tensor::cat(squares, 0).sum().sqrt();
        let above = norm.clone().is_finite().bool_and(norm.clone().greater_elem(limit));
        let factor = norm.recip().mul_scalar(limit).mask_fill(above.bool_not(), 1.0);
        return grads.into_iter().map(|grad| grad * factor.clone()).collect();
    }
    let norm = grads.iter().map(|grad| B::sum_of_squares(grad.clone())).sum::<f64>().sqrt();
    if norm <= limit || !norm.is_finite() {
        return grads;
    }
    grads.into_iter().map(|grad| grad.mul_scalar(limit / norm)).collect()
}

/// Applies one optimiser step to tracked parameters.
pub fn apply<B: AutodiffBackend<InnerBackend: SpikingBackend>>(
    params: &mut Vec<Param<B>>,
    optimizer: &mut Optimizer<B::InnerBackend>,
    grads: Vec<Tensor<B::InnerBackend, 1>>,
    rate: f64,
) {
    // Values are taken out, not copied: the step may then work in place.
    let (named, values): (Vec<_>, Vec<_>) = std::mem::take(params)
        .into_iter()
        .map(|Param { name, shape, value, decay }| ((name, shape, decay), (value.inner(), decay)))
        .unzip();
    let new = optimizer.step(values, grads, rate);
    *params = named
        .into_iter()
        .zip(new)
        .map(|((name, shape, decay), value)| Param {
            name,
            shape,
            value: Tensor::from_inner(value).require_grad(),
            decay,
        })
        .collect();
}
