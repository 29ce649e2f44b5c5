//! Tasks: pure functions of named inputs, and what workers say about them.
//!
//! A [`Task`] reads objects, writes objects, and is determined by its [`Work`], the run's specification and the code
//! version. Running one twice is harmless. A worker answers with a [`Report`]: an [`Output`] or a [`Failure`]. What
//! tasks of each kind do and make is in [`stage`](crate::stage).

pub use crate::object::ObjectRef;
pub use crate::split::Split;
pub use crate::stage::finish::BlockProgress;
pub use crate::stage::input::{CachedShard, Fresh, Frozen, FrozenBlock, Source};
pub use crate::stage::merge::Trained;
pub use crate::stage::train::{Checkpoint, RoundMetrics};
pub use crate::stage::{Output, Stage, TaskId, Work};

use crate::Digest;
use serde::{Deserialize, Serialize};

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
        /// Whether it has its digest, and its content is of no use: only whoever computes with it can tell.
        #[serde(default, skip_serializing_if = "is_false")]
        content: bool,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !*value
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
            Self::InputLost { key, problem, content } => {
                Self::InputLost { key: cut(key), problem: cut(problem), content }
            }
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
    /// [`Work::identity`] of what the worker did: what it made of other inputs than the open task has is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Digest>,
    /// What was made, or why nothing was.
    pub result: Result<Output, Failure>,
}

/// Progress within an attempt. For people, but that a task whose progress does not change counts as hung.
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
    /// Signs of life: steps, and objects that were read or written.
    #[serde(default, skip_serializing_if = "is_none")]
    pub ticks: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_none(value: &u64) -> bool {
    *value == 0
}
