//! What happens, what is to be done about it, and what is refused.

use super::worker::Newcomer;
use crate::run::record::Record;
use bloctrain_shared::key::NO_STORE;
use bloctrain_shared::plan::{BACKENDS, Submission};
use bloctrain_shared::task::{ObjectRef, Progress, Report, Task, TaskId};

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A run was submitted.
    Submitted {
        /// What was asked.
        submission: Box<Submission>,
        /// Where it is stored.
        object: ObjectRef,
    },
    /// A worker made itself known.
    Registered(Box<Newcomer>),
    /// A worker asks for a task.
    Asked {
        /// The worker.
        worker: u64,
    },
    /// A worker that asked in vain is still there.
    Waits {
        /// The worker.
        worker: u64,
    },
    /// A worker is alive and works.
    Heartbeat {
        /// The worker.
        worker: u64,
        /// The run.
        run: String,
        /// The task.
        task: TaskId,
        /// Epoch of its lease.
        lease_epoch: u64,
        /// How far it is.
        progress: Progress,
    },
    /// A worker reports.
    Reported {
        /// The worker.
        worker: u64,
        /// The run.
        run: String,
        /// What it claims.
        report: Box<Report>,
    },
    /// The coordinator has looked for what a worker said is lost.
    Verified {
        /// What was looked for.
        doubt: Box<Doubt>,
        /// What is lost indeed, or why that cannot be told.
        found: Result<Vec<Lost>, String>,
    },
    /// A worker leaves.
    Left {
        /// The worker.
        worker: u64,
    },
    /// This coordinator itself stood still, as for a slow write, and could hear nobody.
    Late {
        /// For how long, milliseconds.
        by_ms: u64,
    },
    /// Time passed.
    Tick,
    /// A person stops a run.
    Cancelled {
        /// The run.
        run: String,
    },
    /// What a completed run promises is not there.
    PackageLost {
        /// The run.
        run: String,
        /// The file.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A person deletes a run that has ended.
    Deleted {
        /// The run.
        run: String,
    },
    /// A person pauses a run.
    Paused {
        /// The run.
        run: String,
    },
    /// A person goes on with a paused run.
    Resumed {
        /// The run.
        run: String,
    },
}

/// A loss that a worker reported, and that the coordinator looks for itself before anything is reset.
#[derive(Debug, Clone, PartialEq)]
pub struct Doubt {
    /// The run.
    pub run: String,
    /// The task whose input it is.
    pub task: TaskId,
    /// The worker.
    pub worker: u64,
    /// Its name.
    pub name: String,
    /// Epoch of the lease under which it was reported.
    pub lease_epoch: u64,
    /// Key of the object that is said to be lost.
    pub key: String,
    /// What the worker says about it.
    pub problem: String,
    /// All inputs of the task: where one is lost, others may be.
    pub inputs: Vec<ObjectRef>,
}

/// An object that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

/// One line of a run's log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entry {
    /// The run.
    pub run: String,
    /// The task, for lines about one.
    pub task: Option<TaskId>,
    /// Name of the worker.
    pub worker: Option<String>,
    /// Epoch of the lease: it names the attempt.
    pub attempt: Option<u64>,
    /// What happened.
    pub text: String,
}

/// What to do about it, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make a record durable before anything that follows.
    Persist(Record),
    /// Give a worker a task.
    Grant {
        /// The worker.
        worker: u64,
        /// Epoch of the lease.
        lease_epoch: u64,
        /// The task.
        task: Box<Task>,
    },
    /// Tell a worker its id.
    Welcome {
        /// The worker.
        worker: u64,
        /// Epoch of the lease on what it holds; `None` when it is to drop that.
        adopted: Option<u64>,
    },
    /// Tell a worker why there is nothing for it.
    Refuse {
        /// The worker.
        worker: u64,
        /// Why.
        why: String,
    },
    /// Tell a worker to come to an end with its task.
    HandBack {
        /// The worker.
        worker: u64,
    },
    /// Look whether a task's inputs are lost, and say so by [`Event::Verified`].
    Verify(Box<Doubt>),
    /// Tell people.
    Log(Entry),
    /// Remove objects that nothing needs any more.
    Delete(Vec<String>),
    /// A run changed: watchers want to see it, and waiting workers may find a task.
    Changed {
        /// The run.
        run: String,
    },
    /// An attempt got on: watchers want to see it.
    Progressed {
        /// The run.
        run: String,
    },
}

/// An event that was refused; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The worker is not known, or was thought lost.
    #[error("worker {0} is not registered here")]
    UnknownWorker(u64),
    /// There is no such run.
    #[error("there is no run {0}")]
    UnknownRun(String),
    /// The lease ended because nothing was heard of its holder, who may register again with what it holds.
    #[error("the lease of {0} has ended while nothing was heard; register again with what is held")]
    Expired(TaskId),
    /// The lease is not the sender's any more.
    #[error("the lease of {0} has ended")]
    Stale(TaskId),
    /// The attempt worked from other inputs than the task has now.
    #[error("{0} has other inputs by now than this attempt worked from")]
    Outdated(TaskId),
    /// The task was committed already.
    #[error("{0} is committed already")]
    Committed(TaskId),
    /// The output does not belong to the task.
    #[error("the report of {0} holds the output of another kind of task")]
    WrongOutput(TaskId),
    /// Another arithmetic version.
    #[error(
        "this worker computes by version {worker}, the coordinator by version {coordinator}; run the same bloctrain \
        everywhere"
    )]
    Arithmetic {
        /// The worker's.
        worker: u32,
        /// The coordinator's.
        coordinator: u32,
    },
    /// A worker that sees another store.
    #[error(
        "{}, and the fleet's store is {fleet}; check that its --store is the fleet's, and that what it names is \
        mounted",
        seen_store(.seen)
    )]
    OtherStore {
        /// Identity of the store that the worker sees.
        seen: String,
        /// That of the coordinator's.
        fleet: String,
    },
    /// A backend that there is not.
    #[error("there is no backend `{0}`; a worker has one of {BACKENDS:?}")]
    Backend(String),
    /// A report that contradicts its task, or what is known of its run.
    #[error("the report of {task} cannot be true: {problem}")]
    Impossible {
        /// The task.
        task: TaskId,
        /// What is wrong with it.
        problem: String,
    },
    /// A submission that cannot work.
    #[error("{0}")]
    BadSubmission(String),
    /// An output that names an object outside its run.
    #[error("the report of {task} names the object {key}, which is not the run's own")]
    ForeignKey {
        /// The task.
        task: TaskId,
        /// The key.
        key: String,
    },
    /// A run that has ended cannot be paused or resumed.
    #[error("run {0} has ended; submit it again to go on")]
    Ended(String),
    /// A run that goes on cannot be deleted.
    #[error("run {0} has not ended; cancel it before it is deleted")]
    GoesOn(String),
    /// There is no room.
    #[error("the coordinator has {0} already; that is its limit")]
    Full(&'static str),
}

fn seen_store(seen: &str) -> String {
    if seen == NO_STORE {
        "this worker sees no store at its address".into()
    } else {
        format!("this worker sees the store {seen}")
    }
}
