//! One pass over a body: what is asked, and what it saw.

use crate::count::Count;
use bloctrain_shared::graph::{AdaptivePool, Body};
use bloctrain_shared::seed;
use rand::RngExt;

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

/// Mean and variance by channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistic {
    /// Mean.
    pub mean: Vec<f32>,
    /// Variance: of the running statistics, or unbiased of a batch.
    pub variance: Vec<f32>,
}

/// One pass over a body.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The layers.
    pub body: &'a Body,
    /// How norms and dropout behave.
    pub mode: Mode,
    /// Running statistics of every norm, for [`Mode::Eval`].
    pub running: &'a [Statistic],
    /// Whether firing rates are wanted.
    pub measure: bool,
    /// Whether operations are to be counted.
    pub count: bool,
    /// The pooling whose averages over windows and time are all that is wanted of the spikes, in [`Mode::Train`].
    pub average: Option<&'a AdaptivePool>,
    /// Spikes of an inner node that leave too, in [`Mode::Train`].
    pub tap: Option<Tap<'a>>,
}

/// A value that left a body, as its backward pass needs to know it.
#[derive(Debug, Clone)]
pub struct Left {
    /// The value of the body's graph.
    pub value: usize,
    /// The pooling whose averages left, rather than the spikes.
    pub average: Option<AdaptivePool>,
}

impl Call<'_> {
    /// What leaves: the tapped value where there is one, then the last.
    pub fn left(&self) -> Vec<Left> {
        let tap = self.tap.map(|tap| Left { value: tap.value, average: tap.average.cloned() });
        let last = Left { value: self.body.output(), average: self.average.cloned() };
        tap.into_iter().chain([last]).collect()
    }
}

/// Spikes of an inner node that leave a body besides those of its last.
#[derive(Debug, Clone, Copy)]
pub struct Tap<'a> {
    /// The value of the body's graph.
    pub value: usize,
    /// The pooling whose averages over windows and time are all that is wanted of the spikes.
    pub average: Option<&'a AdaptivePool>,
}

/// What a pass saw on its way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Batch statistics of every norm, in [`Mode::Train`].
    pub statistics: Vec<Statistic>,
    /// Firing rates of the spiking layers, where they were wanted.
    pub rates: Vec<f64>,
    /// Operations, where they were wanted.
    pub count: Count,
}

impl Mode {
    /// Whether norms take the statistics of the batch and dropout drops.
    pub fn trains(self) -> bool {
        match self {
            Self::Train { .. } => true,
            Self::Eval => false,
        }
    }
}

/// Which of some sites a dropout keeps: each with probability `1 - p`, drawn in order.
pub fn dropout_mask(seed: u64, index: u64, p: f32, sites: usize) -> Vec<bool> {
    let mut rng = seed::rng(seed, "dropout", &[index]);
    (0..sites).map(|_| rng.random::<f32>() >= p).collect()
}
