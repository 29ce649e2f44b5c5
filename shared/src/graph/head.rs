//! Classifiers and detectors on the spikes that leave a block.

use super::parameter::Parameter;
use super::pool::AdaptivePool;
use crate::ImageShape;
use crate::neuron::{Leak, NeuronRule, NeuronSpec};
use crate::spec::network::HeadSpec;

/// A fully connected layer: places of its parameters among those of its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dense {
    /// Index of the weights `[outputs, inputs]`.
    pub weight: usize,
    /// Index of the bias `[outputs]`.
    pub bias: usize,
    /// Inputs.
    pub inputs: usize,
    /// Outputs.
    pub outputs: usize,
}

impl Dense {
    fn new(parameters: &mut Vec<Parameter>, name: &str, inputs: usize, outputs: usize) -> Self {
        let weight = parameters.len();
        parameters.push(Parameter::weight(format!("{name}.weight"), vec![outputs, inputs]));
        parameters.push(Parameter::vector(format!("{name}.bias"), outputs, 0.0));
        Self { weight, bias: weight + 1, inputs, outputs }
    }
}

/// A spiking hidden layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HiddenLayer {
    /// What drives its neurons.
    pub dense: Dense,
    /// What the neurons do with their membranes.
    pub rule: NeuronRule,
    /// Their leak; a learned one is the parameter of this index.
    pub leak: Leak,
}

/// A classifier: adaptive average pooling, spiking hidden layers, a linear readout averaged over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    /// The pooling of what leaves the block.
    pub pool: AdaptivePool,
    /// Hidden layers, first to last.
    pub hidden: Vec<HiddenLayer>,
    /// The readout.
    pub readout: Dense,
    /// Its parameters, in the order of checkpoints.
    pub parameters: Vec<Parameter>,
}

impl Classifier {
    /// A classifier of `classes` classes on maps of shape `input`.
    pub fn new(spec: &HeadSpec, input: ImageShape, classes: usize, neuron: &NeuronSpec) -> Self {
        let pool = AdaptivePool::new(input, spec.pool);
        let mut parameters = Vec::new();
        let mut features = pool.features();
        let mut hidden = Vec::with_capacity(spec.hidden.len());
        for (index, &size) in spec.hidden.iter().enumerate() {
            let name = format!("head.hidden{}", index + 1);
            let dense = Dense::new(&mut parameters, &name, features, size);
            let leak = neuron.leak(&name, |logit| {
                parameters.push(logit);
                parameters.len() - 1
            });
            hidden.push(HiddenLayer { dense, rule: NeuronRule::new(neuron), leak });
            features = size;
        }
        let readout = Dense::new(&mut parameters, "head.readout", features, classes);
        Self { pool, hidden, readout, parameters }
    }

    /// The pooling whose averages over windows and time are all that the classifier sees of the spikes, if they are;
    /// `per_step` asks for logits at every step.
    pub fn sees_averages(&self, per_step: bool) -> Option<&AdaptivePool> {
        (self.hidden.is_empty() && !per_step).then_some(&self.pool)
    }
}

/// Side of the pooled map that a detector sees.
const SIDE: usize = 4;

/// Hidden units of a detector.
const HIDDEN: usize = 64;

/// A detector of hard classes on a block's averaged spikes: one rectified hidden layer, one output.
#[derive(Debug, Clone, PartialEq)]
pub struct Detector {
    /// The pooling of what leaves the block.
    pub pool: AdaptivePool,
    /// The hidden layer.
    pub hidden: Dense,
    /// The readout.
    pub readout: Dense,
    /// Its parameters, in the order of checkpoints.
    pub parameters: Vec<Parameter>,
}

impl Detector {
    /// A detector on maps of shape `input`.
    pub fn new(input: ImageShape) -> Self {
        let pool = AdaptivePool::new(input, SIDE);
        let mut parameters = Vec::new();
        let hidden = Dense::new(&mut parameters, "hidden", pool.features(), HIDDEN);
        let readout = Dense::new(&mut parameters, "readout", HIDDEN, 1);
        Self { pool, hidden, readout, parameters }
    }
}
