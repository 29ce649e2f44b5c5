//! Backup attempts: a second worker for a task that takes much longer than others of its stage usually take.
//!
//! Only a worker for which no task is open gets one, and never more than two attempts at a task live at once. What was
//! measured belongs to this coordinator alone: after a change of coordinators it is measured anew.

use super::lease::Attempt;
use super::state::State;
use super::worker::fits;
use bloctrain_shared::task::Task;
use bloctrain_shared::view::RunState;
use std::cmp::Reverse;

/// Times the usual duration after which a task takes too long.
const FACTOR: u64 = 2;

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
            let may = alone
                && attempt.worker != worker
                && !self.is_doubted(&attempt.run, attempt.task)
                && fits(known, run).is_ok()
                && !run.failed_at(attempt.task, &known.about.name);
            may.then(|| run.open_task(|task| task == attempt.task)).flatten()
        };
        self.stragglers.iter().find_map(task)
    }
}
