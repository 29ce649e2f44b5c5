//! Which task a worker gets.

use super::chain::Leaders;
use super::state::State;
use super::worker::{CPU, Worker, fits};
use crate::run::durable::Run;
use bloctrain_shared::task::{Stage, Task, TaskId};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// What sets workers apart from others of their backend.
#[derive(Debug)]
pub struct Apart {
    /// Names of those that failed at a task of a running run.
    failed: BTreeSet<String>,
    /// Those that have a block in memory.
    trainers: BTreeSet<u64>,
    /// Bytes that the largest training step of a running run takes on a CPU.
    need_bytes: u64,
}

impl State {
    /// The best open task for a worker: runs by priority, then those with the fewest attempts, then by age; tasks by
    /// block and stage, and a training round for the worker that did the one before, as long as that worker is alive
    /// and idle.
    pub(super) fn choose(&self, now: u64, worker: u64) -> Option<Task> {
        let known = self.workers.get(&worker)?;
        if now < self.settle_until || self.why_aside(worker).is_some() {
            return None;
        }
        let mut runs: Vec<&Run> = self.running().filter(|run| fits(known, run).is_ok()).collect();
        runs.sort_by_cached_key(|run| {
            (Reverse(run.submission.spec.run.priority), self.attempts.running(&run.plan.run), run.created_ms)
        });
        let mut leaders = Leaders::new();
        let task = runs.iter().find_map(|run| {
            run.open_task(|task| {
                self.attempts.of_task(&run.plan.run, task).next().is_none()
                    && !self.is_doubted(&run.plan.run, task)
                    && !self.is_led(known, run, task, &mut leaders)
                    && !self.is_for_trainer(now, worker, run, task)
                    && !self.is_for_others(worker, run, task)
            })
        })?;
        Some(self.in_memory(worker, task))
    }

    /// What sets workers apart, for [`kind`](Self::kind).
    pub fn apart(&self) -> Apart {
        let running = self.running();
        let need_bytes = running.clone().map(|run| run.need_bytes).max().unwrap_or(0);
        let failed = running.flat_map(|run| &run.failed_on).map(|(_, name)| name.clone()).collect();
        Apart { failed, trainers: self.trainers.values().copied().collect(), need_bytes }
    }

    /// Idle workers of one kind are alike where tasks are chosen: where one gets nothing, so do all. `None` for a
    /// worker that something sets apart: a failure, a run that it cannot take part in, a block in its memory.
    pub fn kind(&self, apart: &Apart, worker: u64) -> Option<&str> {
        let known = self.workers.get(&worker)?;
        let is_idle = self.attempts.of_worker(worker).is_none();
        let is_plain = is_idle
            && known.failures == 0
            && known.unable.is_empty()
            && known.is_proven
            && known.about.only_run.is_empty();
        let is_small = known.about.backend == CPU && (1..apart.need_bytes).contains(&known.about.memory_bytes);
        let is_alike =
            is_plain && !is_small && !apart.trainers.contains(&worker) && !apart.failed.contains(&known.about.name);
        // Those of GPUs may differ in more than that.
        let is_alike = is_alike && (known.about.precision.is_empty() || known.about.backend == CPU);
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

    /// Notes who has a block, or a replica of it, in memory: a worker keeps one.
    pub(super) fn trained(&mut self, run: &str, task: TaskId, worker: u64, committed: bool) {
        let place = (run.to_owned(), task.block, task.replica);
        if committed {
            self.trainers.retain(|_, trainer| *trainer != worker);
            self.trainers.insert(place, worker);
        } else {
            // Nobody waits for a worker that failed.
            self.trainers.remove(&place);
        }
    }

    /// The part of the replica that a worker has in memory, in place of another replica's part of the same round.
    pub(super) fn in_memory(&self, worker: u64, task: Task) -> Task {
        let is_own = |other: TaskId| {
            let place = (task.run.clone(), other.block, other.replica);
            other.stage == task.id.stage && other.block == task.id.block && self.trainers.get(&place) == Some(&worker)
        };
        let is_free = |run: &Run, other: TaskId| {
            let is_held = self.attempts.of_task(&task.run, other).next().is_some() || self.is_doubted(&task.run, other);
            !is_held && !self.is_for_others(worker, run, other)
        };
        let run = self.durable.runs.get(&task.run).filter(|_| task.id.replica > 0);
        run.and_then(|run| run.open_task(|other| is_own(other) && is_free(run, other))).unwrap_or(task)
    }
}
