//! One forward pass: what every layer needs to know about it, and what it leaves behind.

use super::param::{BufferId, to_host};
use bloctrain_shared::ImageShape;
use bloctrain_shared::compute::{conv_fan_out, conv_macs};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// How a pass treats norms and dropout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, dropout masks from this seed.
    Train {
        /// Seed of the step's dropout masks.
        seed: u64,
    },
    /// Running statistics, no dropout.
    Eval,
}

/// What flows between layers.
#[derive(Debug, Clone)]
pub enum Flow<B: Backend> {
    /// The same values at every step, `[B, C, H, W]`.
    Constant(Tensor<B, 4>),
    /// Values that change over time, `[T * B, C, H, W]`.
    Changing {
        /// The values.
        x: Tensor<B, 4>,
        /// Whether they are zeros and ones.
        binary: bool,
    },
}

/// New batch statistics of one norm.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// Where the running mean is kept.
    pub mean_id: BufferId,
    /// Where the running variance is kept.
    pub variance_id: BufferId,
    /// Batch mean by channel.
    pub mean: Vec<f32>,
    /// Unbiased batch variance by channel.
    pub variance: Vec<f32>,
}

/// Synaptic operations and multiply-accumulates of a pass; see [`bloctrain_shared::compute`] for the rules.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Count {
    /// Synaptic operations `[B]`.
    pub synops: Vec<f64>,
    /// MACs of one sample.
    pub macs: f64,
}

/// The state of one forward pass.
#[derive(Debug)]
pub struct Pass {
    /// Time steps T.
    pub steps: usize,
    /// Samples B.
    pub batch: usize,
    /// How norms and dropout behave.
    pub mode: Mode,
    /// Batch statistics for the running ones.
    pub statistics: Vec<Statistics>,
    /// Firing rates of the spiking layers, where asked for.
    pub rates: Option<Vec<f64>>,
    /// Operations, where asked for.
    pub count: Option<Count>,
}

impl Pass {
    /// A pass over `batch` samples.
    pub fn new(steps: usize, batch: usize, mode: Mode) -> Self {
        Self { steps, batch, mode, statistics: Vec::new(), rates: None, count: None }
    }

    /// Also measures firing rates.
    #[must_use]
    pub fn with_rates(mut self, wanted: bool) -> Self {
        self.rates = wanted.then(Vec::new);
        self
    }

    /// Also counts operations.
    #[must_use]
    pub fn with_count(mut self) -> Self {
        self.count = Some(Count { synops: vec![0.0; self.batch], macs: 0.0 });
        self
    }

    /// Takes what was counted so far and starts from zero.
    pub fn take_count(&mut self) -> Count {
        let fresh = Count { synops: vec![0.0; self.batch], macs: 0.0 };
        self.count.as_mut().map(|count| std::mem::replace(count, fresh)).unwrap_or_default()
    }

    /// Mean firing rate over the layers measured.
    pub fn firing_rate(&self) -> Option<f64> {
        let rates = self.rates.as_ref().filter(|rates| !rates.is_empty())?;
        Some(rates.iter().sum::<f64>() / rates.len() as f64)
    }

    pub(crate) fn saw_spikes<B: Backend, const D: usize>(&mut self, spikes: &Tensor<B, D>) {
        if let Some(rates) = &mut self.rates {
            rates.push(to_host(spikes.clone().detach().mean()).first().copied().map_or(0.0, f64::from));
        }
    }

    /// Counts a convolution on `input`.
    pub(crate) fn count_conv<B: Backend>(
        &mut self,
        input: &Flow<B>,
        shape: ImageShape,
        channels: usize,
        kernel: usize,
        stride: usize,
    ) {
        let (steps, batch) = (self.steps, self.batch);
        let Some(count) = &mut self.count else { return };
        match input {
            Flow::Constant(_) => count.macs += conv_macs(shape, channels, kernel, stride),
            Flow::Changing { binary: false, .. } => count.macs += steps as f64 * conv_macs(shape, channels, kernel, stride),
            Flow::Changing { x, binary: true } => {
                let fan_out = conv_fan_out(shape, channels, kernel, stride);
                let spikes = spikes_by_position(x, steps, batch, shape);
                for (sum, map) in count.synops.iter_mut().zip(spikes.chunks(shape.area())) {
                    *sum +=
                        map.iter().zip(&fan_out).map(|(&spikes, &fan_out)| f64::from(spikes) * f64::from(fan_out)).sum::<f64>();
                }
            }
        }
    }

    /// Counts a fully connected layer of `outputs` on `x [repeats * B, features]`.
    pub(crate) fn count_linear<B: Backend>(&mut self, x: &Tensor<B, 2>, binary: bool, outputs: usize) {
        let batch = self.batch;
        let Some(count) = &mut self.count else { return };
        let [rows, features] = x.dims();
        let repeats = rows / batch.max(1);
        if !binary {
            count.macs += (repeats * features * outputs) as f64;
            return;
        }
        let spikes = to_host(x.clone().sum_dim(1));
        for (row, spikes) in spikes.into_iter().enumerate() {
            count.synops[row % batch] += f64::from(spikes) * outputs as f64;
        }
    }
}

/// Spikes at each position summed over time and channels, `[B, H * W]`.
fn spikes_by_position<B: Backend>(x: &Tensor<B, 4>, steps: usize, batch: usize, shape: ImageShape) -> Vec<f32> {
    to_host(x.clone().reshape([steps, batch, shape.channels, shape.area()]).sum_dim(2).sum_dim(0))
}
