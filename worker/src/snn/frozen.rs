//! Classifiers and detectors of frozen blocks, at inference: on packed spikes, one sample after the other.
//!
//! They compute what [`Head`](super::head::Head) and [`DetectorNet`](super::detector::DetectorNet) compute in training, up
//! to rounding. But no number depends on which other samples are in a batch, as it does in matrix products that are
//! blocked by their sizes: so a sample is answered with the same bits alone, in a batch, and in a batch that others have
//! left. Weights lie by input, so a spike adds one row and a silent input costs nothing.

use crate::kernel::NeuronRule;
use crate::kernel::cpu::sample_averages;
use crate::kernel::pool::AdaptivePool;
use crate::kernel::spikes::Spikes;

/// A fully connected layer.
#[derive(Debug, Clone)]
pub struct FrozenLinear {
    /// `[inputs, outputs]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl FrozenLinear {
    /// From weights `[outputs, inputs]` and bias `[outputs]`.
    pub(super) fn new(weights: &[f32], bias: Vec<f32>) -> Self {
        let (outputs, inputs) = (bias.len(), weights.len() / bias.len().max(1));
        let mut by_input = vec![0.0; weights.len()];
        for (output, row) in weights.chunks(inputs.max(1)).enumerate() {
            row.iter().enumerate().for_each(|(input, &weight)| by_input[input * outputs + output] = weight);
        }
        Self { weights: by_input, bias }
    }

    fn inputs(&self) -> usize {
        self.weights.len() / self.bias.len().max(1)
    }

    /// Multiplications of one input vector.
    fn macs(&self) -> f64 {
        self.weights.len() as f64
    }

    fn row(&self, input: usize) -> &[f32] {
        &self.weights[input * self.bias.len()..][..self.bias.len()]
    }

    /// Outputs for spikes: rows of the inputs that fired, four at a time.
    fn spikes(&self, fired: &[usize]) -> Vec<f32> {
        let mut out = self.bias.clone();
        let (fours, rest) = fired.as_chunks::<4>();
        for inputs in fours {
            let [a, b, c, d] = inputs.map(|input| self.row(input));
            for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *out += (a + b) + (c + d);
            }
        }
        for &input in rest {
            out.iter_mut().zip(self.row(input)).for_each(|(out, weight)| *out += weight);
        }
        out
    }

    /// Outputs for numbers, in the order of the inputs.
    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut out = self.bias.clone();
        for (input, &value) in x.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            out.iter_mut().zip(self.row(input)).for_each(|(out, weight)| *out += value * weight);
        }
        out
    }
}

/// Neurons with a known leak.
#[derive(Debug, Clone, Copy)]
pub struct FrozenNeuron {
    pub(super) rule: NeuronRule,
    pub(super) leak: f32,
}

/// Features of one sample's average over time.
fn of_mean(pool: &AdaptivePool, spikes: &Spikes, sample: usize) -> Vec<f32> {
    let mut features = vec![0.0; pool.features()];
    sample_averages(spikes, sample, pool, &mut features);
    features
}

/// Features of one step of a sample.
fn of_step(pool: &AdaptivePool, spikes: &Spikes, sample: usize, step: usize) -> Vec<f32> {
    let mut map = vec![0.0; pool.input().len()];
    spikes.for_each_spike(sample, step, |site| map[site] = 1.0);
    pool.map(map)
}

/// A classifier; see [`Head`](super::head::Head).
#[derive(Debug, Clone)]
pub struct FrozenHead {
    pool: AdaptivePool,
    hidden: Vec<(FrozenLinear, FrozenNeuron)>,
    readout: FrozenLinear,
}

impl FrozenHead {
    pub(super) fn new(pool: &AdaptivePool, hidden: Vec<(FrozenLinear, FrozenNeuron)>, readout: FrozenLinear) -> Self {
        Self { pool: pool.clone(), hidden, readout }
    }

    /// Probabilities over the classes for one sample, and the synaptic operations that they took.
    pub fn probabilities(&self, spikes: &Spikes, sample: usize) -> (Vec<f32>, f64) {
        if self.hidden.is_empty() {
            return (softmax(self.readout.forward(&of_mean(&self.pool, spikes, sample))), 0.0);
        }
        let mut membranes: Vec<Vec<f32>> = self.hidden.iter().map(|(linear, _)| vec![0.0; linear.bias.len()]).collect();
        let mut mean = vec![0.0; self.readout.inputs()];
        let mut synops = 0.0;
        for step in 0..spikes.steps() {
            let mut fired: Option<Vec<usize>> = None;
            for ((linear, neuron), membranes) in self.hidden.iter().zip(&mut membranes) {
                if fired.is_none() && self.pool.is_identity() {
                    let mut sites = Vec::new();
                    spikes.for_each_spike(sample, step, |site| sites.push(site));
                    fired = Some(sites);
                }
                let drive = match fired {
                    Some(fired) => {
                        synops += (fired.len() * linear.bias.len()) as f64;
                        linear.spikes(&fired)
                    }
                    None => linear.forward(&of_step(&self.pool, spikes, sample, step)),
                };
                let fires = membranes
                    .iter_mut()
                    .zip(&drive)
                    .enumerate()
                    .filter_map(|(site, (membrane, &drive))| neuron.rule.fire(membrane, neuron.leak, drive).then_some(site));
                fired = Some(fires.collect());
            }
            fired.iter().flatten().for_each(|&site| mean[site] += 1.0);
        }
        mean.iter_mut().for_each(|count| *count /= spikes.steps() as f32);
        (softmax(self.readout.forward(&mean)), synops)
    }

    /// MACs for one sample of `steps` steps.
    pub fn macs(&self, steps: usize) -> f64 {
        let analogue = !self.pool.is_identity();
        let first = self.hidden.first().filter(|_| analogue).map_or(0.0, |(linear, _)| steps as f64 * linear.macs());
        first + self.readout.macs()
    }
}

/// A detector; see [`DetectorNet`](super::detector::DetectorNet).
#[derive(Debug, Clone)]
pub struct FrozenDetector {
    pool: AdaptivePool,
    hidden: FrozenLinear,
    readout: FrozenLinear,
}

impl FrozenDetector {
    pub(super) fn new(pool: &AdaptivePool, hidden: FrozenLinear, readout: FrozenLinear) -> Self {
        Self { pool: pool.clone(), hidden, readout }
    }

    /// P(hard) of one sample.
    pub fn probability(&self, spikes: &Spikes, sample: usize) -> f32 {
        let hidden = self.hidden.forward(&of_mean(&self.pool, spikes, sample));
        let rectified: Vec<f32> = hidden.into_iter().map(|value| value.max(0.0)).collect();
        let logit = self.readout.forward(&rectified).first().copied().unwrap_or(0.0);
        1.0 / (1.0 + (-logit).exp())
    }

    /// MACs for one sample.
    pub fn macs(&self) -> f64 {
        self.hidden.macs() + self.readout.macs()
    }
}

fn softmax(logits: Vec<f32>) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}
