//! The figures of a finished run: `summary.json`, and the last thing that `train --json` prints.

use serde::{Deserialize, Serialize};

/// The summary of a run. Accuracies and fractions are between 0 and 1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// The run's id.
    pub run: String,
    /// Name of the data set.
    pub dataset: String,
    /// Accuracy with early exits.
    pub accuracy: Accuracy,
    /// One entry per trained block.
    pub blocks: Vec<BlockSummary>,
    /// Compute at inference, on test data.
    pub inference: Inference,
    /// Size of the spike cache that the run used.
    pub cache: CacheSize,
    /// Wall-clock seconds of the work on tasks, summed over all sessions that it took.
    pub wall_seconds: f64,
    /// Folder of the model package.
    pub model: String,
    /// File of the report; empty when none was made.
    pub report: String,
    /// What a reader of the figures should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Accuracy on both held-out sets.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Accuracy {
    /// On test data.
    pub test: f64,
    /// On validation data, on which the exits were calibrated.
    pub validation: f64,
}

/// One block's figures.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BlockSummary {
    /// The block, from 1.
    pub block: u32,
    /// Number of classes that it was trained on.
    pub classes: usize,
    /// Global labels of the classes that stayed hard; empty for the last block.
    pub hard_classes: Vec<u16>,
    /// Validation accuracy over its own classes.
    pub accuracy: f64,
    /// Validation accuracy of each of its classes, in ascending order of label; `null` where validation had no sample.
    pub class_accuracy: Vec<Option<f64>>,
    /// Fraction of the test inputs that exit here.
    pub exit_fraction: f64,
    /// Epochs trained.
    pub epochs: u32,
    /// Training samples in an epoch.
    pub train_samples: usize,
    /// Seconds spent in training rounds.
    pub train_seconds: f64,
    /// Share of them in which training waited for its input, in [0, 1].
    #[serde(default)]
    pub waiting_fraction: f64,
    /// Largest live tensor memory of a training step, in bytes.
    pub peak_memory_bytes: u64,
    /// Mean firing rate of its neurons in the last epoch.
    pub firing_rate: f64,
    /// Trainable parameters of its layers and classifier.
    pub parameters: usize,
}

/// Compute at inference.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Inference {
    /// Compute of the full network over the mean compute per input with early exit.
    pub compute_efficiency: f64,
    /// Mean synaptic operations per input with early exit.
    pub synops_per_sample: f64,
    /// Mean multiply-accumulates per input with early exit.
    pub macs_per_sample: f64,
    /// All parameters over those of the end-to-end network.
    pub parameter_overhead: f64,
}

/// Size of the spike cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CacheSize {
    /// Bytes in the object store.
    pub bytes: u64,
    /// Bytes of the same spikes packed, before compression.
    pub uncompressed_bytes: u64,
}
