//! Parameters and running statistics: what a checkpoint holds, known before any value is.

/// One trainable tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Name in checkpoints.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its first values.
    pub initial: Initial,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// First values of a parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// Uniform in `±sqrt(6 / fan_in)`, with the fan-in of one output (He et al. 2015).
    HeUniform,
    /// One value.
    Constant(f32),
}

impl Parameter {
    /// Weights `[outputs, ..]`, drawn and subject to decay.
    pub fn weight(name: String, shape: Vec<usize>) -> Self {
        Self { name, shape, initial: Initial::HeUniform, decay: true }
    }

    /// A vector of one value, exempt from decay.
    pub fn vector(name: String, length: usize, value: f32) -> Self {
        Self { name, shape: vec![length], initial: Initial::Constant(value), decay: false }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Weights that one output sums over.
    pub fn fan_in(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
}

/// Running statistics of one norm: a mean, at first 0, and a variance, at first 1, for each channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Name of the normalised convolution.
    pub name: String,
    /// Channels.
    pub channels: usize,
}

impl Running {
    /// Name of the mean in checkpoints.
    pub fn mean(&self) -> String {
        format!("{}.running_mean", self.name)
    }

    /// Name of the variance in checkpoints.
    pub fn variance(&self) -> String {
        format!("{}.running_variance", self.name)
    }
}
