//! The runs of a coordinator as a pure state machine: no clock, no randomness, no I/O, no protobuf.
//!
//! [`State::apply`] takes an event and answers with effects. What lasts is in [`Durable`] and changes by
//! [`Record`]s only, each of which is an [`Effect::Persist`]; workers and leases are not durable: after a
//! restart every lease is old (its epoch's upper half counts openings).
//!
//! Invariants: R-1 a committed task is refused ([`Rejected::Committed`]); R-3 an old lease is refused
//! ([`Rejected::Stale`]); R-4 tasks are derived from committed inputs only (`open.rs`); R-5 a rejected event changes
//! nothing, and replaying records gives the same durable state; R-6 hard classes are decided in one place (`record.rs`).

pub(crate) mod admission;
mod backup;
pub mod block;
mod lease;
mod open;
pub mod record;
pub mod replica;
mod share;
mod view;
pub mod worker;

use backup::Paces;
use bloctrain_shared::plan::{BACKENDS, Submission};
use bloctrain_shared::task::{Failure, ObjectRef, Progress, Report, Stage, Task, TaskId};
use bloctrain_shared::view::RunState;
pub use lease::{Attempt, Leases};
use record::{Durable, Record};
use std::collections::BTreeMap;
use worker::{Newcomer, Worker};

/// Most workers that may be known at once.
pub const MAX_WORKERS: usize = 20_000;

/// Most runs that one store may have.
pub const MAX_RUNS: usize = 10_000;

/// Longest text of a failure, in characters.
const MAX_MESSAGE: usize = 2_000;

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
    /// There is no room.
    #[error("the coordinator has {0} already; that is its limit")]
    Full(&'static str),
}

/// All runs, workers and leases.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// What lasts.
    pub durable: Durable,
    /// Workers by id.
    pub workers: BTreeMap<u64, Worker>,
    /// What workers are at.
    pub attempts: Leases,
    /// Worker that did the last training round of each run, block and replica: it still has that in memory.
    trainers: BTreeMap<(String, u32, u32), u64>,
    /// How long tasks take.
    paces: Paces,
    /// Leases on tasks that take too long, as of the last tick.
    stragglers: Vec<u64>,
    /// Which runs train the same blocks.
    chains: share::Chains,
    last_worker: u64,
    last_lease: u64,
    lease_ms: u64,
    /// Leases that ended by silence since this coordinator began.
    lost: u64,
    /// Until when workers of an earlier coordinator may claim what they hold, before it is given to others.
    settle_until: u64,
}

impl State {
    /// The state after a coordinator opened what an earlier one left.
    pub fn new(durable: Durable, lease_ms: u64) -> Self {
        // Neither leases nor workers of an earlier coordinator are mistaken for those of this one.
        let first = durable.openings << 32;
        let chains = share::Chains::new(&durable);
        Self { durable, lease_ms, chains, last_lease: first, last_worker: first, ..Self::default() }
    }

    /// Hands out nothing before this time: workers of an earlier coordinator come back with what they hold.
    pub fn settle(mut self, until_ms: u64) -> Self {
        self.settle_until = until_ms;
        self
    }

    /// Leases that ended by silence since this coordinator began.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Applies an event at a time in milliseconds.
    ///
    /// # Errors
    /// When the event is refused; the state is as it was.
    pub fn apply(&mut self, now: u64, event: Event) -> Result<Vec<Effect>, Rejected> {
        match event {
            Event::Submitted { submission, object } => self.submitted(now, submission, object),
            Event::Registered(newcomer) => self.registered(now, *newcomer),
            Event::Asked { worker } => self.asked(now, worker),
            Event::Waits { worker } => self.waits(now, worker),
            Event::Heartbeat { .. } => self.heartbeat(now, event),
            Event::Reported { worker, run, report } => self.reported(now, worker, run, *report),
            Event::Left { worker } => self.left(worker),
            Event::Tick => Ok(self.tick(now)),
            Event::Cancelled { run } => self.cancelled(now, run),
            Event::Paused { run } => self.paused(now, run),
            Event::Resumed { run } => self.resumed(now, run),
        }
    }

    /// Applies a record and lists the effects that go with it.
    fn record(&mut self, now: u64, run: &str, record: Record) -> Vec<Effect> {
        let mut effects = self.persist(now, record);
        effects.push(Effect::Changed { run: run.to_owned() });
        effects.extend(self.share(now, run));
        effects
    }

    fn persist(&mut self, now: u64, record: Record) -> Vec<Effect> {
        let mut unneeded = self.durable.replay(record.clone(), now);
        // Another run may have taken over what this one does not need any more.
        unneeded.retain(|key| !self.chains.is_named(key));
        let delete = (!unneeded.is_empty()).then_some(Effect::Delete(unneeded));
        [Effect::Persist(record)].into_iter().chain(delete).collect()
    }

    fn submitted(&mut self, now: u64, submission: Box<Submission>, object: ObjectRef) -> Result<Vec<Effect>, Rejected> {
        let plan = admission::plan(&submission)?;
        if !self.durable.runs.contains_key(&plan.run) && self.durable.runs.len() >= MAX_RUNS {
            return Err(Rejected::Full("as many runs as it keeps"));
        }
        let record = Record::Submitted { run: plan.run.clone(), submission, object };
        let mut effects = self.record(now, &plan.run, record);
        effects.push(Effect::Log(Entry { run: plan.run, text: "submitted".into(), ..Entry::default() }));
        Ok(effects)
    }

    fn registered(&mut self, now: u64, mut newcomer: Newcomer) -> Result<Vec<Effect>, Rejected> {
        admission::newcomer(&newcomer)?;
        let same = |worker: &Worker| !newcomer.instance.is_empty() && worker.about.instance == newcomer.instance;
        let before = self.workers.iter().find(|(_, worker)| same(worker)).map(|(id, _)| *id);
        if before.is_none() && self.workers.len() >= MAX_WORKERS {
            return Err(Rejected::Full("as many workers as it takes"));
        }
        let mut effects = Vec::new();
        if let Some(before) = before {
            effects.extend(self.release(before, "registered anew"));
            self.workers.remove(&before);
        }
        let holding = newcomer.holding.take();
        self.last_worker += 1;
        let id = self.last_worker;
        let worker = Worker::new(newcomer, now);
        let adopted = holding.and_then(|holding| self.adopt(now, id, &worker, &holding));
        self.workers.insert(id, worker);
        effects.push(Effect::Welcome { worker: id, adopted: adopted.as_ref().and_then(|entry| entry.attempt) });
        effects.extend(adopted.map(Effect::Log));
        Ok(effects)
    }

    fn name(&self, worker: u64) -> Option<String> {
        self.workers.get(&worker).map(|worker| worker.about.name.clone())
    }

    fn asked(&mut self, now: u64, worker: u64) -> Result<Vec<Effect>, Rejected> {
        let known = self.workers.get_mut(&worker).ok_or(Rejected::UnknownWorker(worker))?;
        known.seen_ms = now;
        let backend = known.about.backend.clone();
        // A worker holds one task; what it held before it asked again, it has dropped.
        let mut effects = self.release(worker, "dropped");
        let task = loop {
            let Some(task) = self.choose(now, worker).or_else(|| self.straggling(now, worker)) else {
                effects.extend(self.why_nothing(worker).map(|why| Effect::Refuse { worker, why }));
                return Ok(effects);
            };
            if self.durable.runs.get(&task.run).is_none_or(|known| known.backend().is_some()) {
                break task;
            }
            // From now on it is known whether another run has trained its first block.
            let record = Record::Backend { run: task.run.clone(), backend: backend.clone() };
            effects.extend(self.record(now, &task.run, record));
        };
        let run = task.run.clone();
        let lease_epoch = self.lease(now, &run, task.id, worker);
        effects.extend([Effect::Grant { worker, lease_epoch, task: Box::new(task) }, Effect::Progressed { run }]);
        let attempt = self.attempts.get(lease_epoch);
        let text = |backup| if backup { "handed out a second time: the first attempt takes too long" } else { "handed out" };
        effects.extend(attempt.map(|attempt| Effect::Log(self.line(attempt, text(attempt.backup)))));
        Ok(effects)
    }

    fn waits(&mut self, now: u64, worker: u64) -> Result<Vec<Effect>, Rejected> {
        self.workers.get_mut(&worker).ok_or(Rejected::UnknownWorker(worker))?.seen_ms = now;
        Ok(Vec::new())
    }

    fn reported(&mut self, now: u64, worker: u64, run: String, report: Report) -> Result<Vec<Effect>, Rejected> {
        let known = self.workers.get(&worker).ok_or(Rejected::UnknownWorker(worker))?;
        let state = self.durable.runs.get(&run).ok_or_else(|| Rejected::UnknownRun(run.clone()))?;
        if state.is_committed(report.task) {
            return Err(Rejected::Committed(report.task));
        }
        let goes_on = matches!(state.state, RunState::Running | RunState::Paused);
        if !goes_on || !self.attempts.holds(worker, &run, report.task, report.lease_epoch) {
            return Err(Rejected::Stale(report.task));
        }
        admission::report(state, &report)?;
        let name = known.about.name.clone();
        let entry = |text: String| {
            let (run, task, worker) = (run.clone(), Some(report.task), Some(name.clone()));
            Effect::Log(Entry { run, task, worker, attempt: Some(report.lease_epoch), text })
        };
        let (record, text) = match report.result {
            Ok(output) => {
                let text = format!("committed after {:.1} s of work", report.seconds);
                (
                    Record::Committed { run: run.clone(), task: report.task, seconds: report.seconds, output: Box::new(output) },
                    text,
                )
            }
            Err(Failure::Unable { message }) => {
                let why = Failure::Unable { message }.shortened(MAX_MESSAGE).to_string();
                self.attempts.end(report.lease_epoch);
                if let Some(known) = self.workers.get_mut(&worker) {
                    known.unable.insert(run.clone(), why.clone());
                }
                return Ok(vec![entry(format!("cannot be done there: {why}")), Effect::Changed { run: run.clone() }]);
            }
            Err(failure) => {
                let failure = match admission::failure(state, report.task, failure).shortened(MAX_MESSAGE) {
                    // What no attempt there can mend may be the worker's own trouble, such as a store that it cannot write.
                    Failure::Fatal { message } if self.others_may_try(worker, state, report.task) => {
                        Failure::Transient { message }
                    }
                    failure => failure,
                };
                let text = format!("failed: {failure}");
                (Record::Failed { run: run.clone(), task: report.task, worker: name.clone(), failure }, text)
            }
        };
        let attempt = self.attempts.end(report.lease_epoch);
        if report.task.stage == Stage::Train {
            self.trained(&run, report.task, worker, matches!(record, Record::Committed { .. }));
        }
        if matches!(record, Record::Failed { failure: Failure::InputLost { .. }, .. }) {
            // Attempts that work on what may now be done again are of no use.
            self.attempts.end_run(&run);
        }
        self.remember(worker, &record);
        if let (Record::Committed { task, .. }, Some(attempt)) = (&record, attempt) {
            self.paces.note(&run, *task, now.saturating_sub(attempt.begun_ms));
        }
        let others = self.end_others(&record);
        let mut effects = self.record(now, &run, record);
        effects.push(entry(text));
        effects.extend(others);
        if let Some(ended) = self.ended(&run) {
            self.paces.forget(&run);
            effects.push(Effect::Log(ended));
        }
        Ok(effects)
    }

    /// Counts what a worker does well and what it does not.
    fn remember(&mut self, worker: u64, record: &Record) {
        let Some(known) = self.workers.get_mut(&worker) else { return };
        match record {
            Record::Committed { .. } => {
                known.completed += 1;
                known.failures = 0;
            }
            Record::Failed { failure: Failure::Transient { message }, task, .. } => {
                known.failures += 1;
                known.last_failure = format!("{task}: {message}");
            }
            _ => {}
        }
    }

    fn ended(&self, run: &str) -> Option<Entry> {
        let text = match &self.durable.runs.get(run)?.state {
            RunState::Completed => "the run is completed".into(),
            RunState::Failed { message } => format!("the run failed: {message}"),
            _ => return None,
        };
        Some(Entry { run: run.to_owned(), text, ..Entry::default() })
    }

    /// The state of a run, for an order about it.
    fn order(&self, run: &str) -> Result<&RunState, Rejected> {
        self.durable.runs.get(run).map(|run| &run.state).ok_or_else(|| Rejected::UnknownRun(run.to_owned()))
    }

    fn ordered(&mut self, now: u64, run: String, record: Record, text: &str) -> Vec<Effect> {
        let mut effects = self.record(now, &run, record);
        effects.push(Effect::Log(Entry { run, text: text.to_owned(), ..Entry::default() }));
        effects
    }

    fn cancelled(&mut self, now: u64, run: String) -> Result<Vec<Effect>, Rejected> {
        if !matches!(self.order(&run)?, RunState::Running | RunState::Paused) {
            return Ok(Vec::new());
        }
        self.attempts.end_run(&run);
        self.paces.forget(&run);
        Ok(self.ordered(now, run.clone(), Record::Cancelled { run }, "cancelled"))
    }

    fn paused(&mut self, now: u64, run: String) -> Result<Vec<Effect>, Rejected> {
        match self.order(&run)? {
            RunState::Running => Ok(self.ordered(now, run.clone(), Record::Paused { run }, "paused")),
            RunState::Paused => Ok(Vec::new()),
            _ => Err(Rejected::Ended(run)),
        }
    }

    fn resumed(&mut self, now: u64, run: String) -> Result<Vec<Effect>, Rejected> {
        match self.order(&run)? {
            RunState::Paused => Ok(self.ordered(now, run.clone(), Record::Resumed { run }, "resumed")),
            RunState::Running => Ok(Vec::new()),
            _ => Err(Rejected::Ended(run)),
        }
    }
}

#[cfg(test)]
mod admission_tests;
#[cfg(test)]
mod backup_tests;
#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod fleet_tests;
#[cfg(test)]
mod replica_tests;
#[cfg(test)]
mod share_tests;
#[cfg(test)]
mod tests;
