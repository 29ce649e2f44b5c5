//! One forward pass: what every part of a block needs to know about it, and what it leaves behind.

use super::param::to_host;
use crate::kernel::later::Later;
use crate::kernel::{BodyRecord, Mode, Statistic};
use bloctrain_kernel::count::Count;
use burn_tensor::Tensor;
use burn_tensor::backend::Backend;

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
    pub statistics: Vec<Statistic>,
    /// The same where the device may still be working on them; see [`BodyRecord::queued`].
    pub queued: Option<Later>,
    /// Firing rates of the spiking layers, where asked for.
    pub rates: Option<Vec<f64>>,
    /// Operations, where asked for.
    pub count: Option<Count>,
}

impl Pass {
    /// A pass over `batch` samples.
    pub fn new(steps: usize, batch: usize, mode: Mode) -> Self {
        Self { steps, batch, mode, statistics: Vec::new(), queued: None, rates: None, count: None }
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
        self.count = Some(Count::new(self.batch));
        self
    }

    /// Takes what was counted so far and starts from zero.
    pub fn take_count(&mut self) -> Count {
        let fresh = Count::new(self.batch);
        self.count.as_mut().map(|count| std::mem::replace(count, fresh)).unwrap_or_default()
    }

    /// Mean firing rate over the layers measured.
    pub fn firing_rate(&self) -> Option<f64> {
        let rates = self.rates.as_ref().filter(|rates| !rates.is_empty())?;
        Some(rates.iter().sum::<f64>() / rates.len() as f64)
    }

    /// Takes in what a body left behind.
    pub(crate) fn absorb(&mut self, record: BodyRecord) {
        self.statistics.extend(record.statistics);
        self.queued = record.queued.or(self.queued.take());
        if let Some(rates) = &mut self.rates {
            rates.extend(record.rates);
        }
        if let Some(count) = &mut self.count {
            count.macs += record.count.macs;
            count.synops.iter_mut().zip(record.count.synops).for_each(|(sum, own)| *sum += own);
        }
    }

    pub(crate) fn saw_spikes<B: Backend, const D: usize>(&mut self, spikes: &Tensor<B, D>) {
        if let Some(rates) = &mut self.rates {
            rates.push(to_host(spikes.clone().detach().mean()).first().copied().map_or(0.0, f64::from));
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
