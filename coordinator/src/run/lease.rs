//! Leases: who works on what, until when, and what ends a lease.
//!
//! A worker has one attempt; a task has one, and a second one while its first takes too long (`backup`). Whoever
//! commits first wins: that ends the other lease, and its holder drops the work at its next heartbeat or report.

use super::worker::{Holding, Worker};
use super::{Effect, Entry, Event, Record, Rejected, RunState, State};
use bloctrain_shared::Digest;
use bloctrain_shared::task::{Progress, TaskId};
use std::collections::BTreeMap;

/// One worker's work on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The run.
    pub run: String,
    /// The task.
    pub task: TaskId,
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
}

/// The attempts that live.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Leases {
    live: BTreeMap<u64, Attempt>,
    /// Epoch by worker.
    by_worker: BTreeMap<u64, u64>,
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
    fn held(&mut self, worker: u64, run: &str, task: TaskId, lease_epoch: u64) -> Option<&mut Attempt> {
        let own = |attempt: &&mut Attempt| attempt.worker == worker && attempt.run == run && attempt.task == task;
        self.live.get_mut(&lease_epoch).filter(own)
    }

    /// Whether a lease is a worker's own.
    pub(super) fn holds(&self, worker: u64, run: &str, task: TaskId, lease_epoch: u64) -> bool {
        let own = |attempt: &Attempt| attempt.worker == worker && attempt.run == run && attempt.task == task;
        self.get(lease_epoch).is_some_and(own)
    }

    fn grant(&mut self, attempt: Attempt) {
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

impl State {
    pub(super) fn lease(&mut self, now: u64, run: &str, task: TaskId, worker: u64) -> u64 {
        self.last_lease += 1;
        let lease_epoch = self.last_lease;
        let backup = self.attempts.of_task(run, task).next().is_some();
        self.attempts.grant(Attempt {
            run: run.to_owned(),
            task,
            worker,
            lease_epoch,
            begun_ms: now,
            expires_ms: now + self.lease_ms,
            backup,
            progress: Progress::default(),
        });
        lease_epoch
    }

    /// Gives a worker of an earlier coordinator a lease on what it holds, when that is open, free and still the same work.
    pub(super) fn adopt(&mut self, now: u64, id: u64, worker: &Worker, holding: &Holding) -> Option<Entry> {
        let run = self.durable.runs.get(&holding.run).filter(|run| run.backend() == Some(worker.about.backend.as_str()))?;
        let task = run.open_task(|task| task == holding.task)?;
        let is_held = self.attempts.of_task(&holding.run, holding.task).next().is_some();
        if is_held || Digest::of_json(&task.work) != holding.work {
            return None;
        }
        let lease_epoch = self.lease(now, &holding.run, holding.task, id);
        let (run, name) = (holding.run.clone(), worker.about.name.clone());
        let text = "goes on after the coordinator changed".into();
        Some(Entry { run, task: Some(holding.task), worker: Some(name), attempt: Some(lease_epoch), text })
    }

    pub(super) fn heartbeat(&mut self, now: u64, event: Event) -> Result<Vec<Effect>, Rejected> {
        let Event::Heartbeat { worker, run, task, lease_epoch, progress } = event else { return Ok(Vec::new()) };
        let lease_ms = self.lease_ms;
        let known = self.workers.get_mut(&worker).ok_or(Rejected::UnknownWorker(worker))?;
        let state = self.durable.runs.get(&run).map(|run| &run.state);
        let (goes_on, paused) = (matches!(state, Some(RunState::Running | RunState::Paused)), state == Some(&RunState::Paused));
        let attempt = self.attempts.held(worker, &run, task, lease_epoch).filter(|_| goes_on).ok_or(Rejected::Stale(task))?;
        known.seen_ms = now;
        attempt.expires_ms = now + lease_ms;
        attempt.progress = progress;
        let hand_back = paused.then_some(Effect::HandBack { worker });
        Ok([Effect::Progressed { run }].into_iter().chain(hand_back).collect())
    }

    pub(super) fn left(&mut self, worker: u64) -> Result<Vec<Effect>, Rejected> {
        if !self.workers.contains_key(&worker) {
            return Err(Rejected::UnknownWorker(worker));
        }
        let effects = self.release(worker, "handed back");
        self.workers.remove(&worker);
        Ok(effects)
    }

    pub(super) fn tick(&mut self, now: u64) -> Vec<Effect> {
        let late = self.attempts.end_where(|attempt| attempt.expires_ms <= now);
        self.lost += late.len() as u64;
        // Nobody waits for a worker that lost its lease.
        self.trainers.retain(|_, trainer| !late.iter().any(|attempt| attempt.worker == *trainer));
        let effects = late.iter().flat_map(|attempt| self.ended_early(attempt, "lost: the worker fell silent")).collect();
        let silent = 3 * self.lease_ms;
        self.workers.retain(|_, worker| worker.seen_ms + silent > now);
        self.stragglers = self.find_stragglers(now);
        effects
    }

    /// Ends the lease of a worker; its task is open again unless another attempt at it lives.
    pub(super) fn release(&mut self, worker: u64, why: &str) -> Vec<Effect> {
        let lease_epoch = self.attempts.of_worker(worker).map(|attempt| attempt.lease_epoch);
        let ended = lease_epoch.and_then(|lease_epoch| self.attempts.end(lease_epoch));
        ended.map(|attempt| self.ended_early(&attempt, why)).unwrap_or_default()
    }

    fn ended_early(&self, attempt: &Attempt, why: &str) -> Vec<Effect> {
        vec![Effect::Log(self.line(attempt, why)), Effect::Changed { run: attempt.run.clone() }]
    }

    /// A line of the log about an attempt.
    pub(super) fn line(&self, attempt: &Attempt, text: &str) -> Entry {
        Entry {
            run: attempt.run.clone(),
            task: Some(attempt.task),
            worker: self.name(attempt.worker),
            attempt: Some(attempt.lease_epoch),
            text: text.to_owned(),
        }
    }

    /// Ends what else was attempted at a task that is committed now: whoever reports later is too late.
    pub(super) fn end_others(&mut self, record: &Record) -> Vec<Effect> {
        let Record::Committed { run, task, .. } = record else { return Vec::new() };
        let others = self.attempts.end_task(run, *task);
        others.iter().map(|attempt| Effect::Log(self.line(attempt, "dropped: another attempt was first"))).collect()
    }
}
