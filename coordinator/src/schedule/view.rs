//! Runs with their attempts, and workers, as people see them.

use super::state::State;
use super::worker::{Likeness, Worker};
use bloctrain_shared::view::{AttemptView, RunState, RunView, WorkerView};
use std::collections::BTreeMap;

impl State {
    /// One run with its attempts.
    pub fn view(&self, run: &str) -> Option<RunView> {
        let mut view = self.brief(run)?;
        let known = self.durable.runs.get(run)?;
        if known.state == RunState::Running {
            view.refused = self.refused(known);
        }
        Some(view)
    }

    /// The same without the workers that get no tasks of it, for which every worker is asked.
    pub fn brief(&self, run: &str) -> Option<RunView> {
        let known = self.durable.runs.get(run)?;
        let mut view = known.view();
        if known.state == RunState::Running {
            view.missing = self.missing(known);
        }
        let own = self.attempts.of_run(run);
        view.attempts = own
            .map(|attempt| AttemptView {
                task: attempt.task,
                worker: self.name(attempt.worker).unwrap_or_default(),
                backup: attempt.backup,
                progress: attempt.progress.clone(),
            })
            .collect();
        Some(view)
    }

    /// The workers of the fleet.
    pub fn worker_views(&self, now: u64) -> Vec<WorkerView> {
        // Of a thousand workers nearly all are alike: each kind is held against the runs once.
        let mut alike: BTreeMap<Likeness<'_>, Vec<String>> = BTreeMap::new();
        self.workers.iter().map(|(id, known)| self.worker_view(now, *id, known, &mut alike)).collect()
    }

    fn worker_view<'a>(
        &self,
        now: u64,
        id: u64,
        known: &'a Worker,
        alike: &mut BTreeMap<Likeness<'a>, Vec<String>>,
    ) -> WorkerView {
        let refused = match known.likeness() {
            Some(likeness) => alike.entry(likeness).or_insert_with(|| self.refusals(id)).clone(),
            None => self.refusals(id),
        };
        WorkerView {
            name: known.about.name.clone(),
            backend: known.about.backend.clone(),
            device: known.about.device.clone(),
            version: known.about.version.clone(),
            memory_bytes: known.about.memory_bytes,
            silent_ms: now.saturating_sub(known.seen_ms),
            task: self.attempts.of_worker(id).map(|attempt| (attempt.run.clone(), attempt.task)),
            completed: known.completed,
            refused,
        }
    }
}
