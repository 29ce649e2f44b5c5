//! Workers as the state machine knows them, and why one of them gets no tasks of a run.

use super::State;
use super::record::Run;
use super::share::Leaders;
use bloctrain_shared::Digest;
use bloctrain_shared::plan::ANY_BACKEND;
use bloctrain_shared::task::{Stage, Task, TaskId};
use bloctrain_shared::view::{RefusedView, RunState, WorkerView};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Failures one after another that set a worker aside.
pub const ASIDE_AFTER: u32 = 3;

/// Refused workers that a run's view names.
const SHOWN: usize = 16;

/// A worker that makes itself known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Newcomer {
    /// Name for people.
    pub name: String,
    /// Its backend.
    pub backend: String,
    /// Its arithmetic version.
    pub arithmetic: u32,
    /// Version of its code.
    pub version: String,
    /// Its device.
    pub device: String,
    /// Memory of its machine.
    pub memory_bytes: u64,
    /// Its process.
    pub instance: String,
    /// What it still works on.
    pub holding: Option<Holding>,
}

/// A task that a worker holds while it registers.
#[derive(Debug, Clone, PartialEq)]
pub struct Holding {
    /// The run.
    pub run: String,
    /// The task.
    pub task: TaskId,
    /// Digest of what it does: the same place in the plan may have other inputs by now.
    pub work: Digest,
}

/// A worker that is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// What it said of itself.
    pub about: Newcomer,
    /// When it was last heard of, milliseconds.
    pub seen_ms: u64,
    /// Tasks that it completed.
    pub completed: u64,
    /// Failures since its last completed task.
    pub failures: u32,
    /// Its last error.
    pub last_failure: String,
    /// Runs that it cannot take part in, with the reason.
    pub unable: BTreeMap<String, String>,
}

impl Worker {
    /// A worker that was just heard of.
    pub fn new(about: Newcomer, now: u64) -> Self {
        Self { about, seen_ms: now, completed: 0, failures: 0, last_failure: String::new(), unable: BTreeMap::new() }
    }

    fn is_aside(&self) -> bool {
        self.failures >= ASIDE_AFTER
    }
}

/// What sets workers apart from others of their backend.
#[derive(Debug)]
pub struct Apart {
    /// Names of those that failed at a task of a running run.
    failed: BTreeSet<String>,
    /// Those that have a block in memory.
    trainers: BTreeSet<u64>,
}

impl Run {
    /// The backend that its workers must have; `None` until the first one decides.
    pub fn backend(&self) -> Option<&str> {
        match self.submission.backend.as_str() {
            ANY_BACKEND => self.backend.as_deref(),
            backend => Some(backend),
        }
    }

    pub(super) fn failed_at(&self, task: TaskId, worker: &str) -> bool {
        self.failed_on.iter().any(|(of, on)| *of == task && on == worker)
    }
}

impl State {
    /// The best open task for a worker: runs by priority, then those with the fewest attempts, then by age; tasks by block and
    /// stage, and a training round for the worker that did the one before, as long as that worker is alive and idle.
    pub(super) fn choose(&self, now: u64, worker: u64) -> Option<Task> {
        let known = self.workers.get(&worker)?;
        if now < self.settle_until || self.why_aside(worker).is_some() {
            return None;
        }
        let mut runs: Vec<&Run> =
            self.durable.runs.values().filter(|run| run.state == RunState::Running && fits(known, run).is_ok()).collect();
        runs.sort_by_cached_key(|run| {
            (Reverse(run.submission.spec.run.priority), self.attempts.running(&run.plan.run), run.created_ms)
        });
        let mut leaders = Leaders::new();
        let task = runs.iter().find_map(|run| {
            run.open_task(|task| {
                self.attempts.of_task(&run.plan.run, task).next().is_none()
                    && !self.is_led(known, run, task, &mut leaders)
                    && !self.is_for_trainer(now, worker, run, task)
                    && !self.is_for_others(worker, run, task)
            })
        })?;
        Some(self.in_memory(worker, task))
    }

    /// What sets workers apart, for [`kind`](Self::kind).
    pub fn apart(&self) -> Apart {
        let running = self.durable.runs.values().filter(|run| run.state == RunState::Running);
        let failed = running.flat_map(|run| &run.failed_on).map(|(_, name)| name.clone()).collect();
        Apart { failed, trainers: self.trainers.values().copied().collect() }
    }

    /// Idle workers of one kind are alike where tasks are chosen: where one gets nothing, so do all. `None` for a worker that
    /// something sets apart: a failure, a run that it cannot take part in, a block in its memory.
    pub fn kind(&self, apart: &Apart, worker: u64) -> Option<&str> {
        let known = self.workers.get(&worker)?;
        let is_plain = known.failures == 0 && known.unable.is_empty();
        let is_alike = is_plain && !apart.trainers.contains(&worker) && !apart.failed.contains(&known.about.name);
        is_alike.then_some(known.about.backend.as_str())
    }

    /// Whether another worker has the block in memory and will ask for this round soon.
    fn is_for_trainer(&self, now: u64, worker: u64, run: &Run, task: TaskId) -> bool {
        if task.stage != Stage::Train {
            return false;
        }
        let run = &run.plan.run;
        let Some(trainer) = self.trainers.get(&(run.clone(), task.block, task.replica)) else { return false };
        let busy = || self.attempts.of_worker(*trainer).is_some();
        // Who cannot take part in the run any more will not ask for the round.
        let comes = |known: &Worker| known.seen_ms + self.lease_ms > now && !known.unable.contains_key(run);
        let alive = self.workers.get(trainer).is_some_and(comes);
        *trainer != worker && alive && !busy()
    }

    /// Whether this worker failed at the task and there is one that did not.
    pub(super) fn is_for_others(&self, worker: u64, run: &Run, task: TaskId) -> bool {
        let own = self.workers.get(&worker).is_some_and(|known| run.failed_at(task, &known.about.name));
        own && self.others_may_try(worker, run, task)
    }

    /// Whether another worker could take a task and has not failed at it.
    pub(super) fn others_may_try(&self, worker: u64, run: &Run, task: TaskId) -> bool {
        let fresh = |known: &Worker| !run.failed_at(task, &known.about.name) && fits(known, run).is_ok();
        self.workers.iter().any(|(other, known)| *other != worker && fresh(known))
    }

    /// Why a worker that keeps failing gets nothing, as long as a healthy one of its kind is there.
    pub(super) fn why_aside(&self, worker: u64) -> Option<String> {
        let known = self.workers.get(&worker).filter(|known| known.is_aside())?;
        let healthy = |other: &Worker| !other.is_aside() && other.about.backend == known.about.backend;
        let text = || format!("set aside after {} failures in a row; the last: {}", known.failures, known.last_failure);
        self.workers.values().any(healthy).then(text)
    }

    /// Why a worker gets nothing now, when that is its own matter.
    pub(super) fn why_nothing(&self, worker: u64) -> Option<String> {
        let reasons = self.refusals(worker);
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn refusals(&self, worker: u64) -> Vec<String> {
        let Some(known) = self.workers.get(&worker) else { return Vec::new() };
        let running = self.durable.runs.values().filter(|run| run.state == RunState::Running);
        let reasons = running.filter_map(|run| fits(known, run).err().map(|why| format!("run {}: {why}", run.plan.run)));
        self.why_aside(worker).into_iter().chain(reasons).take(SHOWN).collect()
    }

    /// Workers that get no tasks of a run, with the reason.
    pub(super) fn refused(&self, run: &Run) -> Vec<RefusedView> {
        let reason = |(id, known): (&u64, &Worker)| {
            let why = fits(known, run).err().or_else(|| self.why_aside(*id))?;
            Some(RefusedView { worker: known.about.name.clone(), why })
        };
        self.workers.iter().filter_map(reason).take(SHOWN).collect()
    }

    /// The workers of the fleet.
    pub fn worker_views(&self, now: u64) -> Vec<WorkerView> {
        let view = |(id, known): (&u64, &Worker)| WorkerView {
            name: known.about.name.clone(),
            backend: known.about.backend.clone(),
            device: known.about.device.clone(),
            version: known.about.version.clone(),
            memory_bytes: known.about.memory_bytes,
            silent_ms: now.saturating_sub(known.seen_ms),
            task: self.attempts.of_worker(*id).map(|attempt| (attempt.run.clone(), attempt.task)),
            completed: known.completed,
            refused: self.refusals(*id),
        };
        self.workers.iter().map(view).collect()
    }
}

/// Whether a worker may take part in a run, or why not.
pub(super) fn fits(worker: &Worker, run: &Run) -> Result<(), String> {
    let own = &worker.about.backend;
    match run.backend() {
        Some(wanted) if wanted != own => {
            return Err(format!("it takes workers of backend {wanted}, so that its arithmetic is one; this worker has {own}"));
        }
        _ => {}
    }
    worker.unable.get(&run.plan.run).map_or(Ok(()), |why| Err(why.clone()))
}
