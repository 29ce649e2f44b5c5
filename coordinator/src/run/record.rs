//! The records of the log: one per accepted change. They are the truth; replaying them gives the same state, also
//! in a later program: what was decided is in them, and is not decided again.

use super::round::Round;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::plan::{Plan, Submission};
use bloctrain_shared::task::{Failure, ObjectRef, Output, TaskId};
use serde::{Deserialize, Serialize};

/// One accepted change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// A coordinator began to work on this state.
    Opened,
    /// A state got its identity, and its count of openings goes on from a number that nobody has published an address
    /// under.
    Founded {
        /// Which state it is: another one in the same store has another.
        state: String,
        /// Openings so far.
        openings: u64,
    },
    /// A run was submitted, or submitted again.
    Submitted {
        /// The run.
        run: String,
        /// What was asked.
        submission: Box<Submission>,
        /// Where it is stored.
        object: ObjectRef,
        /// What follows from it, as it was derived then. Records of before have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<Box<Plan>>,
    },
    /// A task's output was accepted.
    Committed {
        /// The run.
        run: String,
        /// The task.
        task: TaskId,
        /// Seconds of work.
        seconds: f64,
        /// What was made.
        output: Box<Output>,
        /// The hard classes, where they were decided by this. Records of before do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hard: Option<LabelMap>,
    },
    /// An attempt failed.
    Failed {
        /// The run.
        run: String,
        /// The task.
        task: TaskId,
        /// Name of the worker.
        worker: String,
        /// Why.
        failure: Failure,
    },
    /// A lease ended because its worker fell silent, or its task stood still.
    Lost {
        /// The run.
        run: String,
        /// The task.
        task: TaskId,
        /// Name of the worker.
        worker: String,
        /// What is known of the worker and how far it was.
        about: String,
    },
    /// A run was stopped.
    Cancelled {
        /// The run.
        run: String,
    },
    /// A run was paused.
    Paused {
        /// The run.
        run: String,
    },
    /// A paused run goes on.
    Resumed {
        /// The run.
        run: String,
    },
    /// A run that had ended was deleted: what it made is garbage, its model too.
    Deleted {
        /// The run.
        run: String,
    },
    /// The first worker decided a run's backend and precision.
    Backend {
        /// The run.
        run: String,
        /// The backend.
        backend: String,
        /// What its workers compute convolutions in, where the specification leaves it open.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        precision: Option<String>,
    },
    /// A run got a frozen block that another run trained from the same inputs.
    Shared {
        /// The run.
        run: String,
        /// The block, from 1.
        block: u32,
        /// The run that has it.
        from: String,
        /// Its rounds; only the frozen one is kept, under the keys that it has.
        rounds: Vec<Round>,
        /// Index of the round whose weights are final.
        frozen: usize,
    },
}

impl Record {
    /// The run that it is about.
    pub fn run(&self) -> Option<&str> {
        match self {
            Self::Opened | Self::Founded { .. } => None,
            Self::Submitted { run, .. }
            | Self::Committed { run, .. }
            | Self::Failed { run, .. }
            | Self::Lost { run, .. }
            | Self::Cancelled { run }
            | Self::Paused { run }
            | Self::Resumed { run }
            | Self::Deleted { run }
            | Self::Backend { run, .. }
            | Self::Shared { run, .. } => Some(run),
        }
    }
}
