//! A run as people see it.

use crate::label::LabelMap;
use crate::stage::train::RoundMetrics;
use crate::stage::{Stage, TaskId};
use crate::summary::Summary;
use crate::task::Progress;
use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum RunState {
    /// Tasks are open.
    Running,
    /// A person paused it.
    Paused,
    /// Everything is done.
    Completed,
    /// It cannot go on.
    Failed {
        /// Why, in the words of the workers.
        message: String,
    },
    /// A person stopped it.
    Cancelled,
}

impl RunState {
    /// Names of all states.
    pub const NAMES: [&'static str; 5] = ["running", "paused", "completed", "failed", "cancelled"];

    /// Its name, as it is in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Running => Self::NAMES[0],
            Self::Paused => Self::NAMES[1],
            Self::Completed => Self::NAMES[2],
            Self::Failed { .. } => Self::NAMES[3],
            Self::Cancelled => Self::NAMES[4],
        }
    }

    /// Whether the run may go on without being submitted again.
    pub fn is_live(&self) -> bool {
        match self {
            Self::Running | Self::Paused => true,
            Self::Completed | Self::Failed { .. } | Self::Cancelled => false,
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// Its id.
    pub run: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Name of its data set.
    pub dataset: String,
    /// Whether it trains without blocks.
    pub end_to_end: bool,
    /// Where it stands.
    pub state: RunState,
    /// When it was first submitted, in Unix milliseconds.
    pub created_ms: u64,
    /// When it last changed, in Unix milliseconds.
    pub updated_ms: u64,
    /// Its blocks, first to last, as far as they have begun.
    pub blocks: Vec<BlockView>,
    /// Stages of the whole network.
    pub stages: Vec<StageView>,
    /// Attempts that are being worked on.
    pub attempts: Vec<AttemptView>,
    /// What people should know, oldest first.
    pub notes: Vec<String>,
    /// Its figures, once completed.
    pub summary: Option<Summary>,
    /// Workers that get no tasks of it, with the reason; the first few.
    #[serde(default)]
    pub refused: Vec<RefusedView>,
    /// Tasks that are not done and were lost with the workers that held them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<LostView>,
    /// Why no worker of the fleet may work on it, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Blocks that it has at most: fewer when hard classes run out. 0 from coordinators of before.
    #[serde(default)]
    pub planned_blocks: u32,
    /// Epochs of a block at most: fewer under `train.patience`. 0 from coordinators of before.
    #[serde(default)]
    pub planned_epochs: u32,
    /// The same of every block behind the first. 0 from coordinators of before, which planned as many.
    #[serde(default)]
    pub later_epochs: u32,
}

impl RunView {
    /// Epochs that a block, from 1, has at most.
    pub fn epochs_of(&self, block: u32) -> u32 {
        if block <= 1 || self.later_epochs == 0 { self.planned_epochs } else { self.later_epochs }
    }
}

/// A task whose leases were lost with the workers that held them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostView {
    /// The task.
    pub task: TaskId,
    /// What is known of each worker, oldest first.
    pub workers: Vec<String>,
}

/// A worker that gets no tasks of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// Name of the worker.
    pub worker: String,
    /// Why.
    pub why: String,
}

/// A worker as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerView {
    /// Its name.
    pub name: String,
    /// Its backend.
    pub backend: String,
    /// Its device.
    pub device: String,
    /// Version of its code.
    pub version: String,
    /// Memory of its machine in bytes; 0 when it is not known.
    pub memory_bytes: u64,
    /// Milliseconds since it was last heard of.
    pub silent_ms: u64,
    /// What it works on: run and task.
    pub task: Option<(String, TaskId)>,
    /// Tasks that it has completed under this coordinator.
    pub completed: u64,
    /// Why it gets no tasks, or none of some runs.
    pub refused: Vec<String>,
}

/// A block of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockView {
    /// The block, from 1.
    pub block: u32,
    /// Its classes.
    pub classes: LabelMap,
    /// Classes that stayed hard, once decided.
    pub hard: Option<LabelMap>,
    /// Committed rounds of training.
    pub rounds: u32,
    /// Metrics of the last round.
    pub last_round: Option<RoundMetrics>,
    /// Validation accuracy, once validated.
    pub accuracy: Option<f64>,
    /// Its stages.
    pub stages: Vec<StageView>,
}

/// How far a stage is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageView {
    /// The stage.
    pub stage: Stage,
    /// Committed tasks.
    pub done: u32,
    /// Tasks in all; for training, those known so far.
    pub total: u32,
}

/// One attempt at a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptView {
    /// The task.
    pub task: TaskId,
    /// Name of the worker.
    pub worker: String,
    /// Whether it began because another attempt at the task takes too long.
    #[serde(default)]
    pub backup: bool,
    /// How far it is.
    pub progress: Progress,
}
