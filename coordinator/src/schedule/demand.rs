//! How a fleet stands and how much work there is, for whoever starts and stops workers.

use super::chain::Leaders;
use super::state::State;
use super::worker::{Newcomer, Worker, fits};
use crate::run::durable::Run;
use bloctrain_shared::task::TaskId;
use bloctrain_shared::view::RunState;
use std::collections::{BTreeMap, BTreeSet};

/// How a fleet stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overview {
    /// What the running runs could use.
    pub demand: Vec<Demand>,
    /// Runs by state.
    pub runs: BTreeMap<&'static str, usize>,
    /// Workers by backend.
    pub workers: BTreeMap<String, usize>,
}

/// The tasks of a run that workers could do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The run.
    pub run: String,
    /// The backend that it takes workers of; `None` while the first worker is still to decide.
    pub backend: Option<String>,
    /// Tasks that nobody works on.
    pub waiting: usize,
    /// Tasks that somebody works on.
    pub running: usize,
    /// Why no worker of this fleet may take any of them.
    pub missing: Option<String>,
}

impl State {
    /// How the fleet stands. Where several runs would train the same block, only one of them counts it.
    pub fn overview(&self) -> Overview {
        let mut overview = Overview::default();
        for run in self.durable.runs.values() {
            *overview.runs.entry(run.state.name()).or_default() += 1;
            if run.state == RunState::Running {
                overview.demand.push(self.demand(run));
            }
        }
        for worker in self.workers.values() {
            *overview.workers.entry(worker.about.backend.clone()).or_default() += 1;
        }
        overview
    }

    fn demand(&self, run: &Run) -> Demand {
        let id = &run.plan.run;
        let backend = run.backend();
        // A worker that could be started: with nothing against it.
        let about = Newcomer {
            backend: backend.unwrap_or_default().to_owned(),
            arithmetic: run.submission.arithmetic,
            precision: run.precision().unwrap_or_default().to_owned(),
            ..Newcomer::default()
        };
        let (fresh, mut leaders) = (Worker::new(about, 0), Leaders::new());
        let running: BTreeSet<TaskId> = self.attempts.of_run(id).map(|attempt| attempt.task).collect();
        // Only those that wait are made: a task may copy thousands of inputs.
        let waits = |task: TaskId| !running.contains(&task) && !self.is_led(&fresh, run, task, &mut leaders);
        let waiting = run.wanted_tasks(waits).len();
        let missing = if waiting > 0 { self.missing(run) } else { None };
        Demand { run: id.clone(), backend: backend.map(str::to_owned), waiting, running: running.len(), missing }
    }

    /// Why nobody of this fleet may work on a run, if that is so.
    pub(super) fn missing(&self, run: &Run) -> Option<String> {
        if self.workers.values().any(|worker| fits(worker, run).is_ok()) {
            return None;
        }
        let backend = run.backend();
        let of_backend = |worker: &&Worker| backend.is_none_or(|backend| worker.about.backend == backend);
        let wanted = backend.map(|backend| format!(" of backend {backend}")).unwrap_or_default();
        let device = match backend {
            Some("cuda") => " --device cuda:0".to_owned(),
            Some(backend) => format!(" --device {backend}"),
            None => String::new(),
        };
        Some(match self.workers.values().filter(of_backend).count() {
            0 => format!("no worker{wanted} has joined this fleet; start one with `bloctrain worker{device}`"),
            count => format!("none of the workers{wanted} can take part in it; there are {count}"),
        })
    }
}
