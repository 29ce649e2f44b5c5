//! Workers as the scheduler knows them.

use crate::run::durable::Run;
use bloctrain_memory as memory;
use bloctrain_shared::Digest;
use bloctrain_shared::task::TaskId;
use std::collections::BTreeMap;

/// Failures one after another that set a worker aside.
pub const ASIDE_AFTER: u32 = 3;

/// The backend for which it is known how much memory a training step takes.
pub(super) const CPU: &str = "cpu";

/// A worker that makes itself known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Newcomer {
    /// Name for people.
    pub name: String,
    /// Its backend.
    pub backend: String,
    /// Its arithmetic version.
    pub arithmetic: u32,
    /// What it computes convolutions in where a specification leaves it open; empty when it did not say.
    pub precision: String,
    /// Version of its code.
    pub version: String,
    /// Its device.
    pub device: String,
    /// Memory that it may take, of its machine or its container; 0 when it is not known.
    pub memory_bytes: u64,
    /// Its process.
    pub instance: String,
    /// Identity of the store that it sees; empty when it did not say.
    pub store: String,
    /// The one run that it was started for; empty for a worker of any.
    pub only_run: String,
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
    /// Whether it has shown that it sees the coordinator's store.
    pub is_proven: bool,
    /// Reports of losses that the coordinator found untrue, since its last completed task.
    pub untrue: u32,
    /// Until when it gets nothing because of them, milliseconds.
    pub doubted_until: u64,
}

impl Worker {
    /// A worker that was just heard of.
    pub fn new(about: Newcomer, now: u64) -> Self {
        Self {
            about,
            seen_ms: now,
            completed: 0,
            failures: 0,
            last_failure: String::new(),
            unable: BTreeMap::new(),
            is_proven: true,
            untrue: 0,
            doubted_until: 0,
        }
    }

    /// Whether it was started for this run, or for any.
    pub(super) fn is_for(&self, run: &Run) -> bool {
        self.about.only_run.is_empty() || self.about.only_run == run.plan.run
    }

    pub(super) fn is_aside(&self) -> bool {
        self.failures >= ASIDE_AFTER
    }
}

/// What [`fits`] reads of a worker that nothing has happened to.
pub(super) type Likeness<'a> = (&'a str, &'a str, &'a str, u32, u64, bool);

impl Worker {
    /// Workers of the same likeness fit the same runs and for the same reasons not the others; `None` for a worker that
    /// has reasons of its own.
    pub(super) fn likeness(&self) -> Option<Likeness<'_>> {
        let Newcomer { backend, precision, only_run, arithmetic, memory_bytes, .. } = &self.about;
        let is_plain = self.unable.is_empty() && !self.is_aside();
        is_plain.then_some((backend, precision, only_run, *arithmetic, *memory_bytes, self.is_proven))
    }
}

/// Whether a worker may take part in a run, or why not.
pub(super) fn fits(worker: &Worker, run: &Run) -> Result<(), String> {
    if !worker.is_proven {
        return Err("it has not shown that it sees the fleet's store; run the same bloctrain everywhere".into());
    }
    if !worker.is_for(run) {
        return Err(format!("this worker was started for run {} only", worker.about.only_run));
    }
    let own = &worker.about.backend;
    let memory = worker.about.memory_bytes;
    if own == CPU && memory > 0 && run.need_bytes > memory {
        let (need, memory) = (memory::mebibytes(run.need_bytes), memory::mebibytes(memory));
        return Err(format!("a training step takes about {need}, and this worker has {memory} of memory"));
    }
    let (worker_version, version) = (worker.about.arithmetic, run.submission.arithmetic);
    if worker_version != version {
        return Err(format!(
            "it was begun by a bloctrain that computes by version {version}, this worker by {worker_version}: finish \
            it with that one, or cancel it and submit it anew"
        ));
    }
    match run.backend() {
        Some(wanted) if wanted != own => {
            return Err(format!(
                "it takes workers of backend {wanted}, so that its arithmetic is one; this worker has {own}"
            ));
        }
        _ => {}
    }
    let own = &worker.about.precision;
    match run.precision() {
        Some(wanted) if worker.about.backend != CPU && run.precision.is_some() && wanted != own => {
            let own = if own.is_empty() { "an older bloctrain, which does not say" } else { own };
            return Err(format!(
                "its convolutions are computed in {wanted}, so that its arithmetic is one; this worker has {own}"
            ));
        }
        _ => {}
    }
    worker.unable.get(&run.plan.run).map_or(Ok(()), |why| Err(why.clone()))
}
