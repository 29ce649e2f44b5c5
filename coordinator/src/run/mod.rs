//! The runs of a coordinator as a pure state machine: no clock, no randomness, no I/O, no protobuf.
//!
//! [`State::apply`] takes an event and answers with effects. What lasts is in [`Durable`] and changes by
//! [`Record`]s only, each of which is an [`Effect::Persist`]; workers and leases are not durable: after a
//! restart every lease is old (its epoch's upper half counts openings).
//!
//! Invariants: R-1 a committed task is refused ([`Rejected::Committed`]); R-3 an old lease is refused
//! ([`Rejected::Stale`]); R-4 tasks are derived from committed inputs only (`open.rs`); R-5 a rejected event changes
//! nothing, and replaying records gives the same durable state; R-6 hard classes are decided in one place (`record.rs`).

pub mod block;
mod open;
pub mod record;
mod view;

use bloctrain_shared::plan::{ARITHMETIC_VERSION, Plan, Submission};
use bloctrain_shared::task::{Failure, ObjectRef, Output, Progress, Report, Stage, Task, TaskId};
use bloctrain_shared::view::RunState;
use record::{Durable, Record, Run};
use std::collections::BTreeMap;

/// A worker that is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Name for people.
    pub name: String,
    /// Its backend.
    pub backend: String,
    /// When it was last heard of, milliseconds.
    pub seen_ms: u64,
}

/// One worker's work on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Who works.
    pub worker: u64,
    /// Epoch of the lease.
    pub lease_epoch: u64,
    /// When the lease ends unless the worker is heard of, milliseconds.
    pub expires_ms: u64,
    /// How far it is.
    pub progress: Progress,
}

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
    Registered {
        /// Name for people.
        name: String,
        /// Its backend.
        backend: String,
        /// Its arithmetic version.
        arithmetic: u32,
    },
    /// A worker asks for a task.
    Asked {
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
    /// A worker leaves.
    Left {
        /// The worker.
        worker: u64,
    },
    /// Time passed.
    Tick,
    /// A person stops a run.
    Cancelled {
        /// The run.
        run: String,
    },
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
    },
    /// Remove objects that nothing needs any more.
    Delete(Vec<String>),
    /// A run changed: watchers want to see it, and waiting workers may find a task.
    Changed {
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
    /// The lease is not the sender's any more.
    #[error("the lease of {0} has ended")]
    Stale(TaskId),
    /// The task was committed already.
    #[error("{0} is committed already")]
    Committed(TaskId),
    /// The output does not belong to the task.
    #[error("the report of {0} holds the output of another kind of task")]
    WrongOutput(TaskId),
    /// Another arithmetic version.
    #[error(
        "this worker computes by version {worker}, the coordinator by version {coordinator}; run the same bloctrain everywhere"
    )]
    Arithmetic {
        /// The worker's.
        worker: u32,
        /// The coordinator's.
        coordinator: u32,
    },
    /// A submission that cannot work.
    #[error("{0}")]
    BadSubmission(String),
}

/// All runs, workers and leases.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// What lasts.
    pub durable: Durable,
    /// Workers by id.
    pub workers: BTreeMap<u64, Worker>,
    /// Attempts by run and task.
    pub attempts: BTreeMap<(String, TaskId), Attempt>,
    /// Worker that did the last training round of each run and block: it still has the block in memory.
    trainers: BTreeMap<(String, u32), u64>,
    last_worker: u64,
    last_lease: u64,
    lease_ms: u64,
}

impl State {
    /// The state after a coordinator opened what an earlier one left.
    pub fn new(durable: Durable, lease_ms: u64) -> Self {
        let last_lease = durable.openings << 32;
        Self { durable, lease_ms, last_lease, ..Self::default() }
    }

    /// Applies an event at a time in milliseconds.
    ///
    /// # Errors
    /// When the event is refused; the state is as it was.
    pub fn apply(&mut self, now: u64, event: Event) -> Result<Vec<Effect>, Rejected> {
        match event {
            Event::Submitted { submission, object } => self.submitted(now, submission, object),
            Event::Registered { name, backend, arithmetic } => self.registered(now, name, backend, arithmetic),
            Event::Asked { worker } => self.asked(now, worker),
            Event::Heartbeat { worker, run, task, lease_epoch, progress } => {
                self.heartbeat(now, worker, run, task, lease_epoch, progress)
            }
            Event::Reported { worker, run, report } => self.reported(now, worker, run, *report),
            Event::Left { worker } => self.left(worker),
            Event::Tick => Ok(self.tick(now)),
            Event::Cancelled { run } => self.cancelled(now, run),
        }
    }

    /// Applies a record and lists the effects that go with it.
    fn record(&mut self, now: u64, run: &str, record: Record) -> Vec<Effect> {
        let unneeded = self.durable.replay(record.clone(), now);
        let mut effects = vec![Effect::Persist(record)];
        if !unneeded.is_empty() {
            effects.push(Effect::Delete(unneeded));
        }
        effects.push(Effect::Changed { run: run.to_owned() });
        effects
    }

    fn submitted(&mut self, now: u64, submission: Box<Submission>, object: ObjectRef) -> Result<Vec<Effect>, Rejected> {
        if submission.arithmetic != ARITHMETIC_VERSION {
            return Err(Rejected::Arithmetic { worker: submission.arithmetic, coordinator: ARITHMETIC_VERSION });
        }
        let plan = Plan::new(&submission).map_err(|error| Rejected::BadSubmission(error.to_string()))?;
        let record = Record::Submitted { run: plan.run.clone(), submission, object };
        Ok(self.record(now, &plan.run, record))
    }

    fn registered(&mut self, now: u64, name: String, backend: String, arithmetic: u32) -> Result<Vec<Effect>, Rejected> {
        if arithmetic != ARITHMETIC_VERSION {
            return Err(Rejected::Arithmetic { worker: arithmetic, coordinator: ARITHMETIC_VERSION });
        }
        self.last_worker += 1;
        self.workers.insert(self.last_worker, Worker { name, backend, seen_ms: now });
        Ok(vec![Effect::Welcome { worker: self.last_worker }])
    }

    fn asked(&mut self, now: u64, worker: u64) -> Result<Vec<Effect>, Rejected> {
        let lease_ms = self.lease_ms;
        let known = self.workers.get_mut(&worker).ok_or(Rejected::UnknownWorker(worker))?;
        known.seen_ms = now;
        // A worker holds one task; what it held before it asked again, it has dropped.
        self.attempts.retain(|_, attempt| attempt.worker != worker);
        let Some(task) = self.choose(worker) else { return Ok(Vec::new()) };
        self.last_lease += 1;
        let lease_epoch = self.last_lease;
        let attempt = Attempt { worker, lease_epoch, expires_ms: now + lease_ms, progress: Progress::default() };
        self.attempts.insert((task.run.clone(), task.id), attempt);
        let run = task.run.clone();
        Ok(vec![Effect::Grant { worker, lease_epoch, task: Box::new(task) }, Effect::Changed { run }])
    }

    /// The best open task for a worker: runs by priority and age, tasks by block and stage, and a training round for the
    /// worker that did the one before, as long as that worker is idle.
    fn choose(&self, worker: u64) -> Option<Task> {
        let backend = &self.workers.get(&worker)?.backend;
        let mut runs: Vec<&Run> = self.durable.runs.values().filter(|run| run.submission.backend == *backend).collect();
        runs.sort_by_key(|run| (u32::MAX - run.submission.spec.run.priority, run.created_ms));
        let free = |task: &Task| !self.attempts.contains_key(&(task.run.clone(), task.id));
        let others = |task: &Task| {
            let trainer = self.trainers.get(&(task.run.clone(), task.id.block));
            let waits = |trainer: &u64| {
                let busy = self.attempts.values().any(|attempt| attempt.worker == *trainer);
                *trainer != worker && !busy && self.workers.contains_key(trainer)
            };
            task.id.stage == Stage::Train && trainer.is_some_and(waits)
        };
        runs.iter().flat_map(|run| run.open_tasks()).find(|task| free(task) && !others(task))
    }

    fn heartbeat(
        &mut self,
        now: u64,
        worker: u64,
        run: String,
        task: TaskId,
        lease_epoch: u64,
        progress: Progress,
    ) -> Result<Vec<Effect>, Rejected> {
        let lease_ms = self.lease_ms;
        let known = self.workers.get_mut(&worker).ok_or(Rejected::UnknownWorker(worker))?;
        let running = self.durable.runs.get(&run).is_some_and(|run| run.state == RunState::Running);
        let attempt = self.attempts.get_mut(&(run.clone(), task));
        let attempt = attempt.filter(|attempt| running && attempt.worker == worker && attempt.lease_epoch == lease_epoch);
        let attempt = attempt.ok_or(Rejected::Stale(task))?;
        known.seen_ms = now;
        attempt.expires_ms = now + lease_ms;
        attempt.progress = progress;
        Ok(vec![Effect::Changed { run }])
    }

    fn reported(&mut self, now: u64, worker: u64, run: String, report: Report) -> Result<Vec<Effect>, Rejected> {
        let known = self.workers.get(&worker).ok_or(Rejected::UnknownWorker(worker))?;
        let state = self.durable.runs.get(&run).ok_or_else(|| Rejected::UnknownRun(run.clone()))?;
        if state.is_committed(report.task) {
            return Err(Rejected::Committed(report.task));
        }
        let key = (run.clone(), report.task);
        let holds = |attempt: &Attempt| attempt.worker == worker && attempt.lease_epoch == report.lease_epoch;
        if state.state != RunState::Running || !self.attempts.get(&key).is_some_and(holds) {
            return Err(Rejected::Stale(report.task));
        }
        let record = match report.result {
            Ok(output) if !fits(report.task.stage, &output) => return Err(Rejected::WrongOutput(report.task)),
            Ok(output) => {
                Record::Committed { run: run.clone(), task: report.task, seconds: report.seconds, output: Box::new(output) }
            }
            Err(failure) => Record::Failed { run: run.clone(), task: report.task, worker: known.name.clone(), failure },
        };
        self.attempts.remove(&key);
        if report.task.stage == Stage::Train {
            self.trainers.insert((run.clone(), report.task.block), worker);
        }
        if matches!(record, Record::Failed { failure: Failure::InputLost { .. }, .. }) {
            // Attempts that work on what may now be done again are of no use.
            self.attempts.retain(|(of, _), _| *of != run);
        }
        Ok(self.record(now, &run, record))
    }

    fn left(&mut self, worker: u64) -> Result<Vec<Effect>, Rejected> {
        self.workers.remove(&worker).ok_or(Rejected::UnknownWorker(worker))?;
        Ok(self.release(|attempt| attempt.worker == worker))
    }

    fn tick(&mut self, now: u64) -> Vec<Effect> {
        let silent = 3 * self.lease_ms;
        self.workers.retain(|_, worker| worker.seen_ms + silent > now);
        self.release(|attempt| attempt.expires_ms <= now)
    }

    /// Ends the leases of some attempts; their tasks are open again.
    fn release(&mut self, ends: impl Fn(&Attempt) -> bool) -> Vec<Effect> {
        let mut runs: Vec<String> =
            self.attempts.iter().filter(|(_, attempt)| ends(attempt)).map(|((run, _), _)| run.clone()).collect();
        self.attempts.retain(|_, attempt| !ends(attempt));
        runs.dedup();
        runs.into_iter().map(|run| Effect::Changed { run }).collect()
    }

    fn cancelled(&mut self, now: u64, run: String) -> Result<Vec<Effect>, Rejected> {
        let state = self.durable.runs.get(&run).ok_or_else(|| Rejected::UnknownRun(run.clone()))?;
        if state.state != RunState::Running {
            return Ok(Vec::new());
        }
        self.attempts.retain(|(of, _), _| *of != run);
        let record = Record::Cancelled { run: run.clone() };
        Ok(self.record(now, &run, record))
    }
}

/// Whether an output is of the kind that a stage makes.
fn fits(stage: Stage, output: &Output) -> bool {
    matches!(
        (stage, output),
        (Stage::Train, Output::Train { .. })
            | (Stage::Validate, Output::Validate { .. })
            | (Stage::Detect, Output::Detect { .. })
            | (Stage::Export, Output::Export { .. })
            | (Stage::Evaluate, Output::Evaluate { .. })
            | (Stage::Finish, Output::Finish { .. })
    )
}

#[cfg(test)]
mod tests;
