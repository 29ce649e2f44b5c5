//! Kinds of tasks, one file each: what a task of the kind does ([`Work`]), what it makes ([`Output`]), and which stored
//! objects both name.
//!
//! The other half of a kind, what a run does with it, is the file of the same name in the coordinator's `run/stage`.

pub mod detect;
pub mod evaluate;
pub mod export;
pub mod finish;
pub mod input;
pub mod merge;
pub mod score;
pub mod select;
pub mod train;
pub mod validate;

use crate::Digest;
use crate::object::{Names, ObjectRef};
use crate::summary::CacheSize;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Defines [`Stage`] with the list of all of them, so that none is missing there.
macro_rules! stages {
    ($($(#[$about:meta])* $stage:ident = $name:literal),+ $(,)?) => {
        /// Kinds of stages. Together with a block they are the nodes of the run's graph.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Stage {
            $($(#[$about])* $stage),+
        }

        impl Stage {
            /// All of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$stage),+];

            /// The stage in a word.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$stage => $name),+
                }
            }
        }
    };
}

stages! {
    /// Rounds of training, one after another; with replicas, their parts of a round beside each other.
    Train = "train",
    /// The outer step over the replicas of a round.
    Merge = "merge",
    /// Class-wise accuracy of the frozen block, sharded.
    Validate = "validate",
    /// How sure the frozen block is of its training samples, sharded, where hard inputs are selected.
    Score = "score",
    /// Which of them train the next block.
    Select = "select",
    /// Training of the block's detector.
    Detect = "detect",
    /// Spikes of the hard classes or inputs into the cache, sharded.
    Export = "export",
    /// The whole network on validation and test data, sharded.
    Evaluate = "evaluate",
    /// Calibration, summary and model package.
    Finish = "finish",
}

impl Stage {
    /// How long its tasks may go without getting on before they count as hung, in units of what a step of training has:
    /// some do much between two signs of life.
    pub const fn patience(self) -> u64 {
        match self {
            Self::Train | Self::Merge | Self::Validate | Self::Score | Self::Select | Self::Export | Self::Evaluate => {
                1
            }
            Self::Detect => 2,
            Self::Finish => 3,
        }
    }

    /// Whether its tasks change a block's parameters. What one run trains, others may take over.
    pub const fn is_training(self) -> bool {
        match self {
            Self::Train | Self::Merge => true,
            Self::Validate
            | Self::Score
            | Self::Select
            | Self::Detect
            | Self::Export
            | Self::Evaluate
            | Self::Finish => false,
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
    /// The link of a training chain (the round, unless one was handed back half done), the round of a merge, or the
    /// part of a sharded stage.
    pub part: u32,
    /// The replica that trains, from 1; 0 where there is only one, and for all other stages.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replica: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
pub(crate) fn is_zero(value: &u32) -> bool {
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

/// What a task does, with all its inputs by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// One round of training, or a replica's part of one.
    Train(train::Work),
    /// The outer step over the replicas of a round.
    Merge(merge::Work),
    /// The confusion matrix of one validation shard.
    Validate(validate::Work),
    /// How sure the frozen block is of the training samples of one shard.
    Score(score::Work),
    /// Which of them train the next block.
    Select(select::Work),
    /// Training of the block's detector.
    Detect(detect::Work),
    /// Spikes of one shard's hard samples, into the cache.
    Export(export::Work),
    /// Answers of the whole network to one shard.
    Evaluate(evaluate::Work),
    /// Calibration, summary and model package.
    Finish(finish::Work),
}

impl Work {
    /// The stored objects that it reads, apart from the submission and the data set.
    pub fn objects(&self) -> Vec<&ObjectRef> {
        match self {
            Self::Train(work) => work.objects(),
            Self::Merge(work) => work.objects(),
            Self::Validate(work) => work.objects(),
            Self::Score(work) => work.objects(),
            Self::Select(work) => work.objects(),
            Self::Detect(work) => work.objects(),
            Self::Export(work) => work.objects(),
            Self::Evaluate(work) => work.objects(),
            Self::Finish(work) => work.objects(),
        }
    }

    /// What it works from: the digest of all of it, but of figures for people that may change while the task is open.
    pub fn identity(&self) -> Digest {
        match self {
            Self::Finish(work) => {
                let (cache, seconds) = (CacheSize::default(), 0.0);
                Digest::of_json(&Self::Finish(finish::Work { cache, seconds, ..work.clone() }))
            }
            work => Digest::of_json(work),
        }
    }
}

/// What a finished task made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// A committed round, trained by one worker or merged.
    Train(train::Output),
    /// A replica's part of a round.
    Replica(train::Part),
    /// Counts of one shard.
    Validate(validate::Output),
    /// How sure the block is of a shard.
    Score(score::Output),
    /// The training samples of the next block.
    Select(select::Output),
    /// A detector.
    Detect(detect::Output),
    /// A cached shard.
    Export(export::Output),
    /// Answers to one shard.
    Evaluate(evaluate::Output),
    /// A finished run.
    Finish(finish::Output),
}

impl Output {
    /// Whether it is of the kind that a task makes.
    pub fn is_of(&self, task: TaskId) -> bool {
        match self {
            Self::Train(_) => matches!((task.stage, task.replica), (Stage::Train, 0) | (Stage::Merge, _)),
            Self::Replica(_) => task.stage == Stage::Train && task.replica > 0,
            Self::Validate(_) => task.stage == Stage::Validate,
            Self::Score(_) => task.stage == Stage::Score,
            Self::Select(_) => task.stage == Stage::Select,
            Self::Detect(_) => task.stage == Stage::Detect,
            Self::Export(_) => task.stage == Stage::Export,
            Self::Evaluate(_) => task.stage == Stage::Evaluate,
            Self::Finish(_) => task.stage == Stage::Finish,
        }
    }

    /// The stored objects that it names.
    pub fn objects(&self) -> Vec<&ObjectRef> {
        match self {
            Self::Train(output) => output.objects(),
            Self::Replica(output) => output.objects(),
            Self::Validate(output) => output.objects(),
            Self::Score(output) => output.objects(),
            Self::Select(output) => output.objects(),
            Self::Detect(output) => output.objects(),
            Self::Export(output) => output.objects(),
            Self::Evaluate(output) => output.objects(),
            Self::Finish(output) => output.objects(),
        }
    }
}
