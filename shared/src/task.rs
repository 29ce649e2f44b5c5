//! Tasks: pure functions of named inputs, and what workers say about them.
//!
//! A [`Task`] reads objects, writes objects, and is determined by its [`Work`], the run's specification and the code
//! version. Running one twice is harmless. A worker answers with a [`Report`]: an [`Output`] or a [`Failure`].

use crate::Digest;
use crate::label::LabelMap;
use crate::metric::Confusion;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A stored object with the digest that its content must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// Key below the store's root.
    pub key: String,
    /// Digest of the content, verified on every read.
    pub digest: Digest,
    /// Size of the content.
    pub bytes: u64,
}

/// A part of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Samples that are trained on.
    Train,
    /// Training data held out by seed, for decisions and calibration.
    Validation,
    /// The data set's own test data, for reported figures only.
    Test,
}

impl Split {
    /// The split in a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// Kinds of stages. Together with a block they are the nodes of the run's graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Rounds of training, one after another; with replicas, their parts of a round beside each other.
    Train,
    /// The outer step over the replicas of a round.
    Merge,
    /// Class-wise accuracy of the frozen block, sharded.
    Validate,
    /// Training of the block's detector.
    Detect,
    /// Spikes of the hard classes into the cache, sharded.
    Export,
    /// The whole network on validation and test data, sharded.
    Evaluate,
    /// Calibration, summary and model package.
    Finish,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Train, Self::Merge, Self::Validate, Self::Detect, Self::Export, Self::Evaluate, Self::Finish];

    /// The stage in a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Merge => "merge",
            Self::Validate => "validate",
            Self::Detect => "detect",
            Self::Export => "export",
            Self::Evaluate => "evaluate",
            Self::Finish => "finish",
        }
    }
}

/// A task's place in its run's plan: block (from 1; 0 for the whole network), stage, part of the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The block, from 1; 0 for `evaluate` and `finish`.
    pub block: u32,
    /// The stage.
    pub stage: Stage,
    /// The link of a training chain (the round, unless one was handed back half done), the round of a merge, or the part of
    /// a sharded stage.
    pub part: u32,
    /// The replica that trains, from 1; 0 where there is only one, and for all other stages.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replica: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.block {
            0 => write!(f, "{}/{}", self.stage.name(), self.part)?,
            block => write!(f, "block{block}/{}/{}", self.stage.name(), self.part)?,
        }
        match self.replica {
            0 => Ok(()),
            replica => write!(f, "/replica{replica}"),
        }
    }
}

/// Parameters and optimiser state of a committed round. After a merge the state is the outer optimiser's; each replica keeps
/// its own beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Parameters and running statistics.
    pub weights: ObjectRef,
    /// Optimiser state and progress.
    pub optimizer: ObjectRef,
}

/// One committed shard of the spike cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedShard {
    /// Split that the samples belong to.
    pub split: Split,
    /// Augmented view; 0 for validation data.
    pub view: u32,
    /// Shard of the split.
    pub shard: u32,
    /// The Arrow IPC file.
    pub object: ObjectRef,
}

/// Where a block's input comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Encoded images of the data set.
    Images,
    /// Cached spikes of the block before.
    Cache(Vec<CachedShard>),
}

impl Source {
    fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        let shards = match self {
            Self::Images => [].as_slice(),
            Self::Cache(shards) => shards,
        };
        shards.iter().map(|shard| &shard.object)
    }
}

/// A block whose parameters do not change any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenBlock {
    /// The block, from 1.
    pub block: u32,
    /// Classes that it tells apart.
    pub classes: LabelMap,
    /// Classes that stayed hard; empty for the last block.
    pub hard: LabelMap,
    /// Its parameters.
    pub weights: ObjectRef,
    /// Its detector; `None` for the last block and for policies that learn nothing.
    pub detector: Option<ObjectRef>,
}

impl FrozenBlock {
    fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        [Some(&self.weights), self.detector.as_ref()].into_iter().flatten()
    }
}

/// What a task does, with all its inputs by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// One round of training, or a replica's part of one.
    Train {
        /// The round, from 0.
        round: u32,
        /// The replica, from 1; 0 where there is only one.
        #[serde(default, skip_serializing_if = "is_zero")]
        replica: u32,
        /// Classes of the block.
        classes: LabelMap,
        /// The round before; `None` starts from the seed. For a replica: the merged parameters with its own optimiser state,
        /// or where its part of the round was handed back.
        from: Option<Checkpoint>,
        /// Input of the block: training shards of the views that the round reads, and validation shards.
        source: Source,
    },
    /// The outer step over the replicas of a round.
    Merge {
        /// The round, from 0.
        round: u32,
        /// Classes of the block.
        classes: LabelMap,
        /// Where the round started; `None` starts from the seed.
        from: Option<Checkpoint>,
        /// What the replicas trained, in their order.
        replicas: Vec<Trained>,
        /// Input of the block: validation shards, where `patience` asks for the accuracy.
        source: Source,
    },
    /// The confusion matrix of one validation shard.
    Validate {
        /// Shard of the validation split.
        shard: u32,
        /// Classes of the block.
        classes: LabelMap,
        /// The frozen block.
        weights: ObjectRef,
        /// Input of the block: this shard.
        source: Source,
    },
    /// Training of the block's detector.
    Detect {
        /// Classes of the block.
        classes: LabelMap,
        /// Classes that stayed hard.
        hard: LabelMap,
        /// The frozen block.
        weights: ObjectRef,
        /// Input of the block: all training shards of view 0.
        source: Source,
    },
    /// Spikes of one shard's hard samples, into the cache.
    Export {
        /// Split of the shard.
        split: Split,
        /// Augmented view.
        view: u32,
        /// The shard.
        shard: u32,
        /// Classes of the block.
        classes: LabelMap,
        /// Classes whose samples are exported.
        hard: LabelMap,
        /// The frozen block.
        weights: ObjectRef,
        /// Input of the block: this shard and view.
        source: Source,
    },
    /// Answers of the whole network to one shard.
    Evaluate {
        /// Validation or test.
        split: Split,
        /// The shard.
        shard: u32,
        /// The network.
        blocks: Vec<FrozenBlock>,
    },
    /// Calibration, summary and model package.
    Finish {
        /// The network.
        blocks: Vec<FrozenBlock>,
        /// Records of the validation shards, in order.
        validation: Vec<ObjectRef>,
        /// Records of the test shards, in order.
        test: Vec<ObjectRef>,
        /// What training and validation of each block found.
        progress: Vec<BlockProgress>,
        /// Totals of the spike cache.
        cache: crate::summary::CacheSize,
        /// Seconds of work on all committed tasks of the run.
        seconds: f64,
    },
}

impl Work {
    /// The stored objects that it reads, apart from the submission and the data set.
    pub fn objects(&self) -> Vec<&ObjectRef> {
        match self {
            Self::Train { from, source, .. } => {
                let own = from.iter().flat_map(|from| [&from.weights, &from.optimizer]);
                own.chain(source.objects()).collect()
            }
            Self::Merge { from, replicas, source, .. } => {
                let own = from.iter().flat_map(|from| [&from.weights, &from.optimizer]);
                own.chain(replicas.iter().map(|replica| &replica.weights)).chain(source.objects()).collect()
            }
            Self::Validate { weights, source, .. }
            | Self::Detect { weights, source, .. }
            | Self::Export { weights, source, .. } => [weights].into_iter().chain(source.objects()).collect(),
            Self::Evaluate { blocks, .. } => blocks.iter().flat_map(FrozenBlock::objects).collect(),
            Self::Finish { blocks, validation, test, .. } => {
                blocks.iter().flat_map(FrozenBlock::objects).chain(validation).chain(test).collect()
            }
        }
    }
}

/// What one replica trained in a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Its parameters and running statistics.
    pub weights: ObjectRef,
    /// Its metrics.
    pub metrics: RoundMetrics,
}

/// What training and validation of a block found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockProgress {
    /// Metrics of every committed round, in order.
    pub rounds: Vec<RoundMetrics>,
    /// Complete validation of the frozen block.
    pub confusion: Confusion,
}

/// A task with what a worker needs to find its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Place in the plan.
    pub id: TaskId,
    /// The run.
    pub run: String,
    /// The run's [`Submission`](crate::plan::Submission).
    pub submission: ObjectRef,
    /// What to do.
    pub work: Work,
}

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
    /// The figures of several parts of a round together: sums, means by their samples, the largest memory. What the parts do
    /// not know (epochs done, validation) is as in a new one.
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
            samples,
            seconds: parts.clone().map(|part| part.seconds).sum(),
            waiting_seconds: parts.clone().map(|part| part.waiting_seconds).sum(),
            peak_memory_bytes: parts.clone().map(|part| part.peak_memory_bytes).max().unwrap_or_default(),
            parameters: parts.clone().map(|part| part.parameters).max().unwrap_or_default(),
            ..Self::default()
        }
    }
}

/// What a finished task made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// A committed round, trained by one worker or merged.
    Train {
        /// State after the round.
        checkpoint: Checkpoint,
        /// Whether all epochs are done.
        finished: bool,
        /// Metrics of the round.
        metrics: RoundMetrics,
    },
    /// A replica's part of a round.
    Replica {
        /// Its state.
        checkpoint: Checkpoint,
        /// Whether it made all its steps; not when it was handed back.
        complete: bool,
        /// Metrics of the steps that it made.
        metrics: RoundMetrics,
    },
    /// Counts of one shard.
    Validate {
        /// The confusion matrix over the block's classes.
        confusion: Confusion,
    },
    /// A detector.
    Detect {
        /// Its parameters; `None` for policies that learn nothing.
        detector: Option<ObjectRef>,
    },
    /// A cached shard.
    Export {
        /// The shard.
        shard: CachedShard,
        /// Bytes of its spikes packed, before compression.
        uncompressed_bytes: u64,
        /// Whether an earlier run had left it in the cache.
        reused: bool,
    },
    /// Answers to one shard.
    Evaluate {
        /// The records.
        records: ObjectRef,
    },
    /// A finished run.
    Finish {
        /// Its figures.
        summary: Box<crate::summary::Summary>,
    },
}

impl Output {
    /// Whether it is of the kind that a task makes.
    pub fn is_of(&self, task: TaskId) -> bool {
        match self {
            Self::Train { .. } => matches!((task.stage, task.replica), (Stage::Train, 0) | (Stage::Merge, _)),
            Self::Replica { .. } => task.stage == Stage::Train && task.replica > 0,
            Self::Validate { .. } => task.stage == Stage::Validate,
            Self::Detect { .. } => task.stage == Stage::Detect,
            Self::Export { .. } => task.stage == Stage::Export,
            Self::Evaluate { .. } => task.stage == Stage::Evaluate,
            Self::Finish { .. } => task.stage == Stage::Finish,
        }
    }

    /// The stored objects that it names.
    pub fn objects(&self) -> Vec<&ObjectRef> {
        match self {
            Self::Train { checkpoint, .. } | Self::Replica { checkpoint, .. } => vec![&checkpoint.weights, &checkpoint.optimizer],
            Self::Detect { detector } => detector.iter().collect(),
            Self::Export { shard, .. } => vec![&shard.object],
            Self::Evaluate { records } => vec![records],
            Self::Validate { .. } | Self::Finish { .. } => Vec::new(),
        }
    }
}

/// Why an attempt made nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// An input is missing or does not have its digest: it has to be made again.
    #[error("the stored object {key} is damaged or missing: {problem}")]
    InputLost {
        /// Key of the object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Trying again cannot help.
    #[error("{message}")]
    Fatal {
        /// What was wrong, where, and what to do.
        message: String,
    },
    /// Another attempt may succeed.
    #[error("{message}")]
    Transient {
        /// What was wrong.
        message: String,
    },
    /// This worker cannot take part in the run, and another may: it has not got the data, for example.
    #[error("{message}")]
    Unable {
        /// What is missing, and what to do.
        message: String,
    },
}

impl Failure {
    /// The same with a text of limited length on one line, which logs and terminals take as it is.
    pub fn shortened(self, limit: usize) -> Self {
        let plain = |text: &str| text.replace(char::is_control, " ");
        let cut = |text: String| match text.char_indices().nth(limit) {
            Some((end, _)) => format!("{} ...", plain(&text[..end])),
            None => plain(&text),
        };
        match self {
            Self::InputLost { key, problem } => Self::InputLost { key: cut(key), problem: cut(problem) },
            Self::Fatal { message } => Self::Fatal { message: cut(message) },
            Self::Transient { message } => Self::Transient { message: cut(message) },
            Self::Unable { message } => Self::Unable { message: cut(message) },
        }
    }
}

/// What a worker claims about an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The task.
    pub task: TaskId,
    /// The lease's epoch: reports of an older one change nothing.
    pub lease_epoch: u64,
    /// Seconds of work.
    pub seconds: f64,
    /// What was made, or why nothing was.
    pub result: Result<Output, Failure>,
}

/// Progress within an attempt, for people only: nothing is decided from it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Samples done.
    pub done: u64,
    /// Samples in all.
    pub total: u64,
    /// Epoch of training, from 0.
    pub epoch: u32,
    /// Epochs in all.
    pub epochs: u32,
    /// Running mean of the loss.
    pub loss: f64,
    /// Running accuracy in [0, 1].
    pub accuracy: f64,
    /// Samples per second.
    pub images_per_second: f64,
    /// Mean firing rate.
    pub firing_rate: f64,
    /// Share of the time in which training waited for its input, in [0, 1].
    #[serde(default)]
    pub waiting_fraction: f64,
}
