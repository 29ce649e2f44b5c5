//! What layers are lowered with: each adds its nodes and parameters to a body.

use super::body::{Body, Branch, BranchNorm, Conv, Node, Spiking};
use super::parameter::{Parameter, Running};
use crate::ImageShape;
use crate::neuron::{NeuronRule, NeuronSpec};
use crate::norm;

/// A body in the making.
#[derive(Debug)]
pub struct Lowering<'a> {
    body: Body,
    norm: norm::Norm,
    neuron: &'a NeuronSpec,
    /// Put before the names of parameters.
    prefix: String,
}

impl<'a> Lowering<'a> {
    /// A body without layers.
    pub fn new(input: ImageShape, steps: usize, norm: norm::Norm, neuron: &'a NeuronSpec) -> Self {
        Self { body: Body::new(input, steps), norm, neuron, prefix: String::new() }
    }

    /// A body that goes on from another, with a prefix to the names of what is added.
    pub fn behind(body: Body, norm: norm::Norm, neuron: &'a NeuronSpec, prefix: String) -> Self {
        Self { body, norm, neuron, prefix }
    }

    /// The value that the next layer reads: what was emitted last.
    pub fn value(&self) -> usize {
        self.body.output()
    }

    /// Shape of a value.
    pub fn shape(&self, value: usize) -> ImageShape {
        self.body.shape(value)
    }

    /// The body as far as it is there.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The body.
    pub fn finish(self) -> Body {
        self.body
    }

    /// The threshold of the neurons, at which tdBN starts its scale.
    pub fn threshold(&self) -> f32 {
        self.neuron.threshold
    }

    /// Adds a node that is not spiking.
    pub fn push(&mut self, node: Node) {
        self.body.nodes.push(node);
    }

    /// A convolution of a value, with its norm; tdBN starts its scale at `gain`.
    pub fn convolution(&mut self, name: &str, source: usize, conv: Conv, gain: f32) -> Branch {
        let (name, channels) = (format!("{}{name}", self.prefix), conv.outputs);
        let shape = vec![channels, conv.input.channels, conv.kernel[0], conv.kernel[1]];
        let weight = self.body.add(Parameter::weight(format!("{name}.weight"), shape));
        let first = match self.norm {
            norm::Norm::None => {
                let bias = self.body.add(Parameter::vector(format!("{name}.bias"), channels, 0.0));
                return Branch { source, conv, weight, norm: BranchNorm::Bias(bias) };
            }
            norm::Norm::Batch => 1.0,
            norm::Norm::Td => gain,
        };
        let gamma = self.body.add(Parameter::vector(format!("{name}.gamma"), channels, first));
        let beta = self.body.add(Parameter::vector(format!("{name}.beta"), channels, 0.0));
        let statistic = self.body.running.len();
        self.body.running.push(Running { name, channels });
        Branch { source, conv, weight, norm: BranchNorm::Batch { gamma, beta, statistic } }
    }

    /// Fully connected weights on a value, with a bias and without a norm.
    pub fn fully_connected(&mut self, name: &str, source: usize, features: usize) -> Branch {
        let (name, input) = (format!("{}{name}", self.prefix), self.shape(source));
        let weight = self.body.add(Parameter::weight(format!("{name}.weight"), vec![features, input.len()]));
        let bias = self.body.add(Parameter::vector(format!("{name}.bias"), features, 0.0));
        Branch { source, conv: Conv::full(input, features), weight, norm: BranchNorm::Bias(bias) }
    }

    /// Neurons driven by the sum of some branches.
    pub fn spiking(&mut self, name: &str, branches: Vec<Branch>) {
        let output = branches[0].conv.output();
        let leak = self.neuron.leak(&format!("{}{name}", self.prefix), |logit| self.body.add(logit));
        self.body.nodes.push(Node::Spiking(Spiking { branches, rule: NeuronRule::new(self.neuron), leak, output }));
    }
}
