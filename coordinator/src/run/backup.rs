//! Backup attempts: a second worker for a task that takes much longer than others of its stage usually take.
//!
//! Only a worker for which no task is open gets one, and never more than two attempts at a task live at once. What was
//! measured belongs to this coordinator alone: after a change of coordinators it is measured anew.

use super::lease::Attempt;
use super::worker::fits;
use super::{RunState, State};
use bloctrain_shared::task::{Stage, Task, TaskId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

/// Durations that are kept of a stage.
const KEPT: usize = 32;

/// Committed tasks of a stage from which on it is known how long one takes.
const ENOUGH: usize = 3;

/// Times the usual duration after which a task takes too long.
const FACTOR: u64 = 2;

/// How long committed tasks took, from lease to commit, by run, block and stage; milliseconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Paces {
    took: BTreeMap<String, BTreeMap<(u32, Stage), VecDeque<u64>>>,
}

impl Paces {
    pub(super) fn note(&mut self, run: &str, task: TaskId, took_ms: u64) {
        let took = self.took.entry(run.to_owned()).or_default().entry((task.block, task.stage)).or_default();
        took.push_back(took_ms);
        if took.len() > KEPT {
            took.pop_front();
        }
    }

    pub(super) fn forget(&mut self, run: &str) {
        self.took.remove(run);
    }

    /// The median of the stage's last tasks; `None` until there are enough.
    fn usual(&self, run: &str, task: TaskId) -> Option<u64> {
        let took = self.took.get(run)?.get(&(task.block, task.stage)).filter(|took| took.len() >= ENOUGH)?;
        let mut took: Vec<u64> = took.iter().copied().collect();
        took.sort_unstable();
        took.get(took.len() / 2).copied()
    }
}

impl State {
    /// Leases on tasks that take too long and have no other attempt: those of higher priority first, then the latest.
    pub(super) fn find_stragglers(&self, now: u64) -> Vec<u64> {
        let late = |attempt: &Attempt| {
            let run = self.durable.runs.get(&attempt.run).filter(|run| run.state == RunState::Running)?;
            let usual = self.paces.usual(&attempt.run, attempt.task)?.max(1);
            let took = now.saturating_sub(attempt.begun_ms);
            // Short tasks vary for many reasons, and doing one twice saves little.
            let is_late = took > FACTOR * usual && took > self.lease_ms / 2;
            let order = (Reverse(run.submission.spec.run.priority), Reverse(took / usual), attempt.lease_epoch);
            (is_late && self.attempts.of_task(&attempt.run, attempt.task).count() == 1).then_some(order)
        };
        let mut found: Vec<_> = self.attempts.iter().filter_map(late).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, _, lease_epoch)| lease_epoch).collect()
    }

    /// A task that another worker takes too long over, for a worker for which none is open.
    pub(super) fn straggling(&self, now: u64, worker: u64) -> Option<Task> {
        let known = self.workers.get(&worker)?;
        if now < self.settle_until || self.why_aside(worker).is_some() {
            return None;
        }
        let task = |lease_epoch: &u64| {
            let attempt = self.attempts.get(*lease_epoch)?;
            let run = self.durable.runs.get(&attempt.run).filter(|run| run.state == RunState::Running)?;
            let alone = self.attempts.of_task(&attempt.run, attempt.task).count() == 1;
            let may =
                alone && attempt.worker != worker && fits(known, run).is_ok() && !run.failed_at(attempt.task, &known.about.name);
            may.then(|| run.open_task(|task| task == attempt.task)).flatten()
        };
        self.stragglers.iter().find_map(task)
    }
}
