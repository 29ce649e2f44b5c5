//! Leases: who works on what, until when, and what ends a lease.
//!
//! A worker has one attempt; a task has one, and a second one while its first takes too long (`backup`). Whoever
//! commits first wins: that ends the other lease, and its holder drops the work at its next heartbeat or report
//!

use bloctrain_shared::Digest;
use bloctrain_shared::task::{Progress, TaskId};
use std::collections::BTreeMap;

/// Leases that are remembered after they ended by silence.
const SILENT: usize = 20_000;

/// One worker's work on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The run.
    pub run: String,
    /// The task.
    pub task: TaskId,
    /// What is worked from: [`Work::identity`](bloctrain_shared::task::Work::identity).
    pub work: Digest,
    /// Who works.
    pub worker: u64,
    /// Epoch of the lease: no other attempt has it.
    pub lease_epoch: u64,
    /// When it began, milliseconds.
    pub begun_ms: u64,
    /// When the lease ends unless the worker is heard of, milliseconds.
    pub expires_ms: u64,
    /// Whether it began while another attempt at the same task took too long.
    pub backup: bool,
    /// How far it is.
    pub progress: Progress,
    /// When it got on for the last time, milliseconds.
    pub moved_ms: u64,
}

/// The attempts that live.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Leases {
    live: BTreeMap<u64, Attempt>,
    /// Epoch by worker.
    by_worker: BTreeMap<u64, u64>,
    /// Leases that ended by silence, with who held them.
    silent: BTreeMap<u64, (u64, String, TaskId)>,
    /// Epochs by run and task.
    by_task: BTreeMap<String, BTreeMap<TaskId, Vec<u64>>>,
}

impl Leases {
    /// Every attempt, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Attempt> {
        self.live.values()
    }

    /// The attempt of a lease.
    pub fn get(&self, lease_epoch: u64) -> Option<&Attempt> {
        self.live.get(&lease_epoch)
    }

    /// The attempt of a worker.
    pub fn of_worker(&self, worker: u64) -> Option<&Attempt> {
        self.by_worker.get(&worker).and_then(|lease_epoch| self.live.get(lease_epoch))
    }

    /// Attempts at a task, oldest first.
    pub fn of_task(&self, run: &str, task: TaskId) -> impl Iterator<Item = &Attempt> {
        let epochs = self.by_task.get(run).and_then(|tasks| tasks.get(&task));
        epochs.into_iter().flatten().filter_map(|lease_epoch| self.live.get(lease_epoch))
    }

    /// Attempts at tasks of a run, by task.
    pub fn of_run(&self, run: &str) -> impl Iterator<Item = &Attempt> {
        let epochs = self.by_task.get(run).into_iter().flat_map(BTreeMap::values).flatten();
        epochs.filter_map(|lease_epoch| self.live.get(lease_epoch))
    }

    /// How many attempts at tasks of a run live.
    pub fn running(&self, run: &str) -> usize {
        self.by_task.get(run).map_or(0, |tasks| tasks.values().map(Vec::len).sum())
    }

    /// The attempt that a worker speaks of, if it is still its own.
    pub(super) fn held(&mut self, worker: u64, run: &str, task: TaskId, lease_epoch: u64) -> Option<&mut Attempt> {
        let own = |attempt: &&mut Attempt| attempt.worker == worker && attempt.run == run && attempt.task == task;
        self.live.get_mut(&lease_epoch).filter(own)
    }

    /// Gives all attempts more time.
    pub(super) fn extend(&mut self, by_ms: u64) {
        for attempt in self.live.values_mut() {
            attempt.expires_ms += by_ms;
            attempt.moved_ms += by_ms;
        }
    }

    /// Remembers a lease that ended because nothing was heard of its holder: it may still be at work.
    pub(super) fn fell_silent(&mut self, attempt: &Attempt) {
        self.silent.insert(attempt.lease_epoch, (attempt.worker, attempt.run.clone(), attempt.task));
        while self.silent.len() > SILENT {
            self.silent.pop_first();
        }
    }

    /// Whether a worker speaks of a lease of its own that ended by silence.
    pub(super) fn is_silent(&self, worker: u64, run: &str, task: TaskId, lease_epoch: u64) -> bool {
        let own = |(by, of, at): &(u64, String, TaskId)| *by == worker && of == run && *at == task;
        self.silent.get(&lease_epoch).is_some_and(own)
    }

    /// Whether a lease is a worker's own.
    pub(super) fn holds(&self, worker: u64, run: &str, task: TaskId, lease_epoch: u64) -> bool {
        let own = |attempt: &Attempt| attempt.worker == worker && attempt.run == run && attempt.task == task;
        self.get(lease_epoch).is_some_and(own)
    }

    pub(super) fn grant(&mut self, attempt: Attempt) {
        self.by_worker.insert(attempt.worker, attempt.lease_epoch);
        self.by_task.entry(attempt.run.clone()).or_default().entry(attempt.task).or_default().push(attempt.lease_epoch);
        self.live.insert(attempt.lease_epoch, attempt);
    }

    /// Ends a lease.
    pub(super) fn end(&mut self, lease_epoch: u64) -> Option<Attempt> {
        let attempt = self.live.remove(&lease_epoch)?;
        if self.by_worker.get(&attempt.worker) == Some(&lease_epoch) {
            self.by_worker.remove(&attempt.worker);
        }
        if let Some(tasks) = self.by_task.get_mut(&attempt.run) {
            if let Some(epochs) = tasks.get_mut(&attempt.task) {
                epochs.retain(|epoch| *epoch != lease_epoch);
                if epochs.is_empty() {
                    tasks.remove(&attempt.task);
                }
            }
            if tasks.is_empty() {
                self.by_task.remove(&attempt.run);
            }
        }
        Some(attempt)
    }

    fn end_each(&mut self, epochs: Vec<u64>) -> Vec<Attempt> {
        epochs.into_iter().filter_map(|lease_epoch| self.end(lease_epoch)).collect()
    }

    /// Ends some leases.
    pub(super) fn end_where(&mut self, ends: impl Fn(&Attempt) -> bool) -> Vec<Attempt> {
        let epochs = self.iter().filter(|attempt| ends(attempt)).map(|attempt| attempt.lease_epoch).collect();
        self.end_each(epochs)
    }

    /// Ends every lease on a run.
    pub(super) fn end_run(&mut self, run: &str) -> Vec<Attempt> {
        let epochs = self.of_run(run).map(|attempt| attempt.lease_epoch).collect();
        self.end_each(epochs)
    }

    /// Ends every lease on a task.
    pub(super) fn end_task(&mut self, run: &str, task: TaskId) -> Vec<Attempt> {
        let epochs = self.of_task(run, task).map(|attempt| attempt.lease_epoch).collect();
        self.end_each(epochs)
    }
}
