//! Classifiers and detectors of frozen blocks: on packed spikes, one sample after the other.
//!
//! They compute what the worker's classifiers and detectors compute in training, up to rounding. But no number depends
//! on which other samples are in a batch, as it does in matrix products that are blocked by their sizes: so a sample is
//! answered with the same bits alone, in a batch, and in a batch that others have left. Weights lie by input, so a
//! spike adds one row and a silent input costs nothing.

use bloctrain_kernel::cpu::sample_averages;
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::graph::{AdaptivePool, Classifier, Dense, Detector, HiddenLayer};
use bloctrain_shared::math::{sigmoid, softmax};
use bloctrain_shared::neuron::{Leak, NeuronRule};
use rayon::prelude::*;

/// A fully connected layer.
#[derive(Debug, Clone)]
struct Linear {
    /// `[inputs, outputs]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    /// From the values of a part's parameters.
    fn new(dense: &Dense, values: &[Vec<f32>]) -> Self {
        let (outputs, inputs) = (dense.outputs, dense.inputs);
        let mut by_input = vec![0.0; inputs * outputs];
        for (output, row) in values[dense.weight].chunks(inputs.max(1)).enumerate() {
            row.iter().enumerate().for_each(|(input, &weight)| by_input[input * outputs + output] = weight);
        }
        Self { weights: by_input, bias: values[dense.bias].clone() }
    }

    fn inputs(&self) -> usize {
        self.weights.len() / self.bias.len().max(1)
    }

    /// Multiplications of one input vector.
    fn macs(&self) -> f64 {
        self.weights.len() as f64
    }

    /// Synaptic operations of some spikes.
    fn operations(&self, fired: &[usize]) -> f64 {
        (fired.len() * self.bias.len()) as f64
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
struct Neuron {
    rule: NeuronRule,
    leak: f32,
}

impl Neuron {
    fn new(rule: NeuronRule, leak: Leak, values: &[Vec<f32>]) -> Self {
        let leak = match leak {
            Leak::Fixed(leak) => leak,
            Leak::Learned(logit) => sigmoid(values[logit][0]),
        };
        Self { rule, leak }
    }

    /// The neurons that fire, after a step of all of them.
    fn fires(&self, membranes: &mut [f32], drive: &[f32]) -> Vec<usize> {
        let step = |(site, (membrane, &drive)): (usize, (&mut f32, &f32))| {
            self.rule.step(membrane, self.leak, drive).then_some(site)
        };
        membranes.iter_mut().zip(drive).enumerate().filter_map(step).collect()
    }
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
    if pool.is_identity() {
        return map;
    }
    let mean = |plane: &[f32], positions: &Vec<usize>| {
        positions.iter().map(|&position| plane[position]).sum::<f32>() / positions.len() as f32
    };
    map.chunks(pool.input().area())
        .flat_map(|plane| pool.windows().iter().map(move |window| mean(plane, window)))
        .collect()
}

/// A classifier of a block.
#[derive(Debug, Clone)]
pub struct FrozenHead {
    pool: AdaptivePool,
    hidden: Vec<(Linear, Neuron)>,
    readout: Linear,
}

impl FrozenHead {
    /// A classifier with the values of its parameters, one vector for each.
    ///
    /// # Panics
    /// When these are not the classifier's.
    pub fn new(graph: &Classifier, values: &[Vec<f32>]) -> Self {
        let hidden =
            |layer: &HiddenLayer| (Linear::new(&layer.dense, values), Neuron::new(layer.rule, layer.leak, values));
        let hidden = graph.hidden.iter().map(hidden).collect();
        Self { pool: graph.pool.clone(), hidden, readout: Linear::new(&graph.readout, values) }
    }

    /// Probabilities over the classes for one sample, and the synaptic operations that they took.
    pub fn probabilities(&self, spikes: &Spikes, sample: usize) -> (Vec<f32>, f64) {
        if self.hidden.is_empty() {
            return (softmax(&self.readout.forward(&of_mean(&self.pool, spikes, sample))), 0.0);
        }
        let mut membranes: Vec<Vec<f32>> = self.hidden.iter().map(|(linear, _)| vec![0.0; linear.bias.len()]).collect();
        let mut mean = vec![0.0; self.readout.inputs()];
        let mut synops = 0.0;
        // What drives the first layer does not depend on the steps before.
        let driven: Vec<_> =
            (0..spikes.steps()).into_par_iter().map(|step| self.enters(spikes, sample, step)).collect();
        for (drive, spent) in driven {
            synops += spent;
            let mut drive = Some(drive);
            let mut fired = Vec::new();
            for ((linear, neuron), membranes) in self.hidden.iter().zip(&mut membranes) {
                let drive = drive.take().unwrap_or_else(|| {
                    synops += linear.operations(&fired);
                    linear.spikes(&fired)
                });
                fired = neuron.fires(membranes, &drive);
            }
            fired.iter().for_each(|&site| mean[site] += 1.0);
        }
        mean.iter_mut().for_each(|count| *count /= spikes.steps() as f32);
        (softmax(&self.readout.forward(&mean)), synops)
    }

    /// What drives the first hidden layer at a step, and the synaptic operations that it took.
    fn enters(&self, spikes: &Spikes, sample: usize, step: usize) -> (Vec<f32>, f64) {
        let linear = &self.hidden[0].0;
        if !self.pool.is_identity() {
            return (linear.forward(&of_step(&self.pool, spikes, sample, step)), 0.0);
        }
        let mut sites = Vec::new();
        spikes.for_each_spike(sample, step, |site| sites.push(site));
        (linear.spikes(&sites), linear.operations(&sites))
    }

    /// MACs for one sample of `steps` steps.
    pub fn macs(&self, steps: usize) -> f64 {
        let analogue = !self.pool.is_identity();
        let first = self.hidden.first().filter(|_| analogue).map_or(0.0, |(linear, _)| steps as f64 * linear.macs());
        first + self.readout.macs()
    }
}

/// A detector of a block.
#[derive(Debug, Clone)]
pub struct FrozenDetector {
    pool: AdaptivePool,
    hidden: Linear,
    readout: Linear,
}

impl FrozenDetector {
    /// A detector with the values of its parameters, one vector for each.
    ///
    /// # Panics
    /// When these are not the detector's.
    pub fn new(graph: &Detector, values: &[Vec<f32>]) -> Self {
        let [hidden, readout] = [&graph.hidden, &graph.readout].map(|dense| Linear::new(dense, values));
        Self { pool: graph.pool.clone(), hidden, readout }
    }

    /// P(hard) of one sample.
    pub fn probability(&self, spikes: &Spikes, sample: usize) -> f32 {
        let hidden = self.hidden.forward(&of_mean(&self.pool, spikes, sample));
        let rectified: Vec<f32> = hidden.into_iter().map(|value| value.max(0.0)).collect();
        let logit = self.readout.forward(&rectified).first().copied().unwrap_or(0.0);
        sigmoid(logit)
    }

    /// MACs for one sample.
    pub fn macs(&self) -> f64 {
        self.hidden.macs() + self.readout.macs()
    }
}
