//! A run as people see it.

use crate::label::LabelMap;
use crate::summary::Summary;
use crate::task::{Progress, RoundMetrics, Stage, TaskId};
use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum RunState {
    /// Tasks are open.
    Running,
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
    /// How far it is.
    pub progress: Progress,
}
