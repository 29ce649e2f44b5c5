//! The spiking neuron: `[neuron]` of a specification, its rule, and what of it is learned.
//!
//! All models are leaky integrate-and-fire; they differ in their leak. What computes them: `cpu/norm_neuron` of the
//! kernel crate, and `reference/neuron` and `gpu/kernels/neuron` in the worker's kernels.

use crate::graph::Parameter;
use crate::math;
use serde::{Deserialize, Serialize};

/// `[neuron]`: `u[t] = leak * u[t-1] + x[t]`, `s[t] = [u[t] >= threshold]`, then a reset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NeuronSpec {
    /// Dynamics of the membrane.
    pub model: NeuronModel,
    /// Factor by which the membrane decays in one step, in [0, 1]; the initial value for `plif`; ignored by `if`.
    pub leak: f32,
    /// Membrane value at which the neuron fires, > 0.
    pub threshold: f32,
    /// What a spike does to the membrane.
    pub reset: Reset,
    /// Whether the gradient ignores the reset.
    pub detach_reset: bool,
    /// Derivative used in place of the step function's.
    pub surrogate: Surrogate,
    /// Shape parameter of the surrogate, > 0: its slope (`atan`, `fast-sigmoid`) or half width (`triangle`,
    /// `rectangle`).
    pub surrogate_width: f32,
}

impl Default for NeuronSpec {
    fn default() -> Self {
        Self {
            model: NeuronModel::Lif,
            leak: 0.5,
            threshold: 1.0,
            reset: Reset::Subtract,
            detach_reset: true,
            surrogate: Surrogate::Atan,
            surrogate_width: 2.0,
        }
    }
}

/// Dynamics of the membrane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NeuronModel {
    /// Leaky integrate and fire: a fixed leak.
    #[serde(rename = "lif")]
    Lif,
    /// Integrate and fire: leak 1.
    #[serde(rename = "if")]
    If,
    /// Parametric leaky integrate and fire: one learned leak per layer, `leak = sigmoid(w)` (Fang et al. 2021).
    #[serde(rename = "plif")]
    Plif,
}

impl NeuronModel {
    /// All of them: tests of kernels go through the list.
    pub const ALL: [Self; 3] = [Self::Lif, Self::Plif, Self::If];
}

/// What a spike does to the membrane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reset {
    /// `u <- u - threshold`.
    #[serde(rename = "subtract")]
    Subtract,
    /// `u <- 0`.
    #[serde(rename = "zero")]
    Zero,
}

/// Derivative used in place of the step function's; `v = u - threshold`, `a` = `surrogate_width`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Surrogate {
    /// `a / 2 / (1 + (pi/2 a v)^2)` (SpikingJelly `ATan`).
    #[serde(rename = "atan")]
    Atan,
    /// `1 / (a |v| + 1)^2` (Zenke and Ganguli 2018; snnTorch `fast_sigmoid`).
    #[serde(rename = "fast-sigmoid")]
    FastSigmoid,
    /// `max(0, 1 - |v| / a) / a` (Bellec et al. 2018).
    #[serde(rename = "triangle")]
    Triangle,
    /// `[|v| < a] / (2 a)` (Wu et al. 2018).
    #[serde(rename = "rectangle")]
    Rectangle,
}

/// What a neuron does with its membrane, apart from the leak.
///
/// Whoever computes it takes it apart without `..`, so that a further field does not compile before every backend has
/// it.
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

    /// One step of one neuron: whether it fires, and its membrane after that.
    #[inline]
    pub fn step(&self, membrane: &mut f32, leak: f32, drive: f32) -> bool {
        let Self { threshold, reset, detach_reset: _, surrogate: _, width: _ } = *self;
        let before = *membrane * leak + drive;
        let fires = before >= threshold;
        *membrane = match (fires, reset) {
            (false, _) => before,
            (true, Reset::Subtract) => before - threshold,
            (true, Reset::Zero) => 0.0,
        };
        fires
    }
}

/// Factor by which the membranes of a layer decay in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Leak {
    /// A constant.
    Fixed(f32),
    /// `sigmoid` of a parameter, which is here.
    Learned(usize),
}

impl NeuronSpec {
    /// The leak of a layer called `name`; a learned one becomes a parameter, whose place `add` gives.
    pub fn leak(&self, name: &str, add: impl FnOnce(Parameter) -> usize) -> Leak {
        match self.model {
            NeuronModel::If => Leak::Fixed(1.0),
            NeuronModel::Lif => Leak::Fixed(self.leak),
            NeuronModel::Plif => {
                Leak::Learned(add(Parameter::vector(format!("{name}.leak_logit"), 1, self.leak_logit())))
            }
        }
    }

    /// The parameter whose sigmoid is the initial leak.
    fn leak_logit(&self) -> f32 {
        let leak = self.leak.clamp(1e-3, 1.0 - 1e-3);
        math::ln(leak / (1.0 - leak))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_is_in_the_list() {
        for (index, model) in NeuronModel::ALL.into_iter().enumerate() {
            // Whoever adds a model is asked for it here, and counts on.
            let place = match model {
                NeuronModel::Lif => 0,
                NeuronModel::Plif => 1,
                NeuronModel::If => 2,
            };
            assert_eq!(index, place);
        }
    }
}
