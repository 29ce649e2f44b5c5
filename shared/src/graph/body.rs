//! What the layers of a block compute, with nothing left open: the form in which every backend gets them.
//!
//! A [`Body`] is a graph in the order of its computation. Value 0 is what enters the block, value `n + 1` what node `n`
//! emits. Parameters are one flat vector; nodes say where in it theirs begin.

use super::content::Content;
use super::parameter::{Parameter, Running};
use crate::ImageShape;
use crate::compute::axis_fan_out;
use crate::neuron::{Leak, NeuronRule};

/// Added to the variance in norms, as in PyTorch.
pub const EPSILON: f32 = 1e-5;

/// The layers of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    /// Time steps T.
    pub steps: usize,
    /// What enters.
    pub input: ImageShape,
    /// The nodes, each after the ones that it reads.
    pub nodes: Vec<Node>,
    /// Parameters in the order of the flat vector.
    pub parameters: Vec<Parameter>,
    /// Running statistics of each norm that has them.
    pub running: Vec<Running>,
}

impl Body {
    /// A body without layers.
    pub fn new(input: ImageShape, steps: usize) -> Self {
        Self { steps, input, nodes: Vec::new(), parameters: Vec::new(), running: Vec::new() }
    }

    /// Adds a parameter and says where in the flat vector it begins.
    pub fn add(&mut self, parameter: Parameter) -> usize {
        let at = self.length();
        self.parameters.push(parameter);
        at
    }

    /// Length of the flat parameter vector.
    pub fn length(&self) -> usize {
        self.parameters.iter().map(Parameter::len).sum()
    }

    /// What the numbers of every value are when values of a kind enter, in training or at inference.
    pub fn contents(&self, enters: Content, training: bool) -> Vec<Content> {
        let mut contents = vec![enters];
        for node in &self.nodes {
            contents.push(node.content(&contents, training));
        }
        contents
    }

    /// Shape of a value.
    pub fn shape(&self, value: usize) -> ImageShape {
        match value.checked_sub(1).and_then(|node| self.nodes.get(node)) {
            None => self.input,
            Some(node) => node.output(),
        }
    }

    /// The value that leaves the block.
    pub fn output(&self) -> usize {
        self.nodes.len()
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Convolutions with norms, summed, into neurons.
    Spiking(Spiking),
    /// Averages or maxima over windows.
    Pool(Pool),
    /// Dropout with one mask for all time steps.
    Dropout {
        /// The value that it reads.
        source: usize,
        /// Probability of a zero.
        p: f32,
        /// Which dropout of the block, for its own random numbers.
        index: u64,
        /// Shape of what it reads and emits.
        shape: ImageShape,
    },
}

impl Node {
    /// The values that it reads.
    pub fn sources(&self) -> Vec<usize> {
        match self {
            Self::Spiking(spiking) => spiking.branches.iter().map(|branch| branch.source).collect(),
            Self::Pool(pool) => vec![pool.source],
            Self::Dropout { source, .. } => vec![*source],
        }
    }

    /// What the numbers that it emits are, from those of the values before it.
    pub fn content(&self, contents: &[Content], training: bool) -> Content {
        match self {
            Self::Spiking(_) => Content::Spikes,
            Self::Pool(pool) => match pool.kind {
                PoolKind::Average => contents[pool.source].averaged(pool.size * pool.size),
                PoolKind::Maximum => contents[pool.source],
            },
            Self::Dropout { source, p, .. } if training && *p > 0.0 => contents[*source].thinned(*p),
            Self::Dropout { source, .. } => contents[*source],
        }
    }

    /// Shape of what it emits.
    pub fn output(&self) -> ImageShape {
        match self {
            Self::Spiking(spiking) => spiking.output,
            Self::Pool(pool) => {
                ImageShape::new(pool.input.channels, pool.input.height / pool.size, pool.input.width / pool.size)
            }
            Self::Dropout { shape, .. } => *shape,
        }
    }
}

/// What a pooling makes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// The average.
    Average,
    /// The maximum.
    Maximum,
}

/// Pooling over windows that do not overlap; rows and columns that fill no window are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// What it makes of a window.
    pub kind: PoolKind,
    /// The value that it reads.
    pub source: usize,
    /// Side of the window.
    pub size: usize,
    /// Shape of what it reads.
    pub input: ImageShape,
}

/// A layer of neurons with what drives them.
#[derive(Debug, Clone, PartialEq)]
pub struct Spiking {
    /// Normalised convolutions whose sum is the drive.
    pub branches: Vec<Branch>,
    /// What the neurons do with their membranes.
    pub rule: NeuronRule,
    /// Factor by which membranes decay in one step.
    pub leak: Leak,
    /// Shape of the spikes.
    pub output: ImageShape,
}

/// A convolution with its norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Branch {
    /// The value that it reads.
    pub source: usize,
    /// Its sizes.
    pub conv: Conv,
    /// Where its weights `[O, C, kh, kw]` begin.
    pub weight: usize,
    /// Its norm.
    pub norm: BranchNorm,
}

/// What follows a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchNorm {
    /// Batch normalisation over (T, B, H, W).
    Batch {
        /// Where the scales `[O]` begin.
        gamma: usize,
        /// Where the shifts `[O]` begin.
        beta: usize,
        /// Index of its running statistics.
        statistic: usize,
    },
    /// A bias; the number is where its `[O]` values begin.
    Bias(usize),
}

/// Sizes of a convolution. A fully connected layer is one whose kernel covers the whole map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv {
    /// What it reads.
    pub input: ImageShape,
    /// Output channels O.
    pub outputs: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Step between output positions.
    pub stride: usize,
    /// Zeros added above and below, left and right.
    pub padding: [usize; 2],
}

impl Conv {
    /// A square kernel with padding `kernel / 2`.
    pub fn square(input: ImageShape, outputs: usize, kernel: usize, stride: usize) -> Self {
        Self { input, outputs, kernel: [kernel; 2], stride, padding: [kernel / 2; 2] }
    }

    /// A fully connected layer.
    pub fn full(input: ImageShape, outputs: usize) -> Self {
        Self { input, outputs, kernel: [input.height, input.width], stride: 1, padding: [0; 2] }
    }

    /// Whether every output sees the whole input.
    pub fn is_full(&self) -> bool {
        self.kernel == [self.input.height, self.input.width] && self.padding == [0; 2]
    }

    /// Shape of the output.
    pub fn output(&self) -> ImageShape {
        let positions =
            |size: usize, axis: usize| (size + 2 * self.padding[axis] - self.kernel[axis]) / self.stride + 1;
        ImageShape::new(self.outputs, positions(self.input.height, 0), positions(self.input.width, 1))
    }

    /// Positions of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Weights that one output sums over.
    pub fn inputs(&self) -> usize {
        self.input.channels * self.taps()
    }

    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.outputs * self.inputs()
    }

    /// Synapses that leave one channel of each input position, row-major `[H * W]`.
    pub fn fan_out(&self) -> Vec<f64> {
        let output = self.output();
        let rows = axis_fan_out(self.input.height, self.kernel[0], self.stride, self.padding[0], output.height);
        let columns = axis_fan_out(self.input.width, self.kernel[1], self.stride, self.padding[1], output.width);
        rows.iter().flat_map(|row| columns.iter().map(move |column| (row * column * self.outputs) as f64)).collect()
    }

    /// Multiply-accumulates for one frame, without those that fall on padding.
    pub fn macs(&self) -> f64 {
        self.fan_out().iter().sum::<f64>() * self.input.channels as f64
    }
}
