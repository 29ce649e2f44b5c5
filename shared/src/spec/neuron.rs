//! `[neuron]` and `[encoding]`: the spiking neuron and the input code.

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
    /// Shape parameter of the surrogate, > 0: its slope (`atan`, `fast-sigmoid`) or half width (`triangle`, `rectangle`).
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

/// `[encoding]`: how an image becomes T steps of input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncodingSpec {
    /// The code.
    pub kind: EncodingKind,
    /// Time steps T, at least 1.
    pub steps: usize,
}

impl Default for EncodingSpec {
    fn default() -> Self {
        Self { kind: EncodingKind::Direct, steps: 4 }
    }
}

/// The code in which an image is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncodingKind {
    /// The first layer sees the normalised image at every step.
    #[serde(rename = "direct")]
    Direct,
    /// Each pixel spikes at each step with probability equal to its intensity.
    #[serde(rename = "poisson")]
    Poisson,
    /// Each pixel spikes once, brighter ones earlier; a black pixel never.
    #[serde(rename = "latency")]
    Latency,
}
