//! Training: a round of a block, or a replica's part of one.

use super::input::Source;
use super::is_zero;
use crate::label::LabelMap;
use crate::object::{ObjectRef, nameless, names};
use serde::{Deserialize, Serialize};

/// Parameters and optimiser state of a committed round. After a merge the state is the outer optimiser's; each replica
/// keeps its own beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Parameters and running statistics.
    pub weights: ObjectRef,
    /// Optimiser state and progress.
    pub optimizer: ObjectRef,
}

names!(Checkpoint { weights, optimizer });

/// One round of training, or a replica's part of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The round, from 0.
    pub round: u32,
    /// The replica, from 1; 0 where there is only one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replica: u32,
    /// Classes of the block.
    pub classes: LabelMap,
    /// The round before; `None` starts from the seed. For a replica: the merged parameters with its own optimiser
    /// state, or where its part of the round was handed back.
    pub from: Option<Checkpoint>,
    /// Final weights of the block before, where this block starts from what that one was trained with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherits: Option<ObjectRef>,
    /// The block's training samples, where the block before selected some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub among: Option<ObjectRef>,
    /// Input of the block: training shards of the views that the round reads, and validation shards.
    pub source: Source,
}

names!(Work { round, replica, classes, from, inherits, among, source });

/// A committed round, trained by one worker or merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// State after the round.
    pub checkpoint: Checkpoint,
    /// Whether all epochs are done.
    pub finished: bool,
    /// Metrics of the round.
    pub metrics: RoundMetrics,
}

names!(Output { checkpoint, finished, metrics });

/// A replica's part of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its state.
    pub checkpoint: Checkpoint,
    /// Whether it made all its steps; not when it was handed back.
    pub complete: bool,
    /// Metrics of the steps that it made.
    pub metrics: RoundMetrics,
}

names!(Part { checkpoint, complete, metrics });

/// Metrics of one round of training.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RoundMetrics {
    /// Epochs completed since the block's start.
    pub epochs: u32,
    /// Samples of one epoch.
    pub epoch_samples: usize,
    /// Mean training loss of the round.
    pub loss: f64,
    /// Training accuracy of the round in [0, 1].
    pub accuracy: f64,
    /// Validation accuracy after the round, where `patience` asks for it.
    pub validation_accuracy: Option<f64>,
    /// Mean firing rate over the block's spiking layers.
    pub firing_rate: f64,
    /// Firing rate of every spiking layer, in their order; of rounds of older programs it is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firing_rates: Vec<f64>,
    /// Samples trained on in the round.
    pub samples: u64,
    /// Seconds spent in training steps, of all replicas together.
    pub seconds: f64,
    /// Those of them in which training waited for its input.
    #[serde(default)]
    pub waiting_seconds: f64,
    /// Largest live tensor memory of a training step, in bytes.
    pub peak_memory_bytes: u64,
    /// Trainable parameters of the block and its classifier.
    pub parameters: usize,
}

impl RoundMetrics {
    /// The figures of several parts of a round together: sums, means by their samples, the largest memory. What the
    /// parts do not know (epochs done, validation) is as in a new one.
    pub fn joined<'a>(parts: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let samples: u64 = parts.clone().map(|part| part.samples).sum();
        let mean = |figure: fn(&Self) -> f64| {
            parts.clone().map(|part| figure(part) * part.samples as f64).sum::<f64>() / samples.max(1) as f64
        };
        Self {
            epoch_samples: parts.clone().map(|part| part.epoch_samples).max().unwrap_or_default(),
            loss: mean(|part| part.loss),
            accuracy: mean(|part| part.accuracy),
            firing_rate: mean(|part| part.firing_rate),
            firing_rates: Self::joined_rates(parts.clone()),
            samples,
            seconds: parts.clone().map(|part| part.seconds).sum(),
            waiting_seconds: parts.clone().map(|part| part.waiting_seconds).sum(),
            peak_memory_bytes: parts.clone().map(|part| part.peak_memory_bytes).max().unwrap_or_default(),
            parameters: parts.clone().map(|part| part.parameters).max().unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Means of the layers' firing rates over the parts that know them, by their samples.
    fn joined_rates<'a>(parts: impl Iterator<Item = &'a Self> + Clone) -> Vec<f64> {
        let layers = parts.clone().map(|part| part.firing_rates.len()).max().unwrap_or_default();
        let (mut sums, mut samples) = (vec![0.0; layers], 0.0);
        for part in parts.filter(|part| part.firing_rates.len() == layers) {
            let own = part.samples as f64;
            samples += own;
            sums.iter_mut().zip(&part.firing_rates).for_each(|(sum, rate)| *sum += rate * own);
        }
        sums.iter_mut().for_each(|sum| *sum /= f64::max(samples, 1.0));
        sums
    }
}

nameless!(RoundMetrics);
