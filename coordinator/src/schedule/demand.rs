//! How a fleet stands and how much work there is, for whoever starts and stops workers.

use super::chain::Leaders;
use super::state::State;
use super::worker::{Newcomer, Worker, fits};
use crate::run::durable::Run;
use bloctrain_shared::task::TaskId;
use bloctrain_shared::view::RunState;
use std::collections::BTreeMap;

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

/// Name of a run's state.
const fn state_name(state: &RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Paused => "paused",
        RunState::Completed => "completed",
        RunState::Failed { .. } => "failed",
        RunState::Cancelled => "cancelled",
    }
}

impl State {
    /// How the fleet stands. Where several runs would train the same block, only one of them counts it.
    pub fn overview(&self) -> Overview {
        let (mut overview, mut leaders) = (Overview::default(), Leaders::new());
        for run in self.durable.runs.values() {
            *overview.runs.entry(state_name(&run.state)).or_default() += 1;
            if run.state == RunState::Running {
                overview.demand.push(self.demand(run, &mut leaders));
            }
        }
        for worker in self.workers.values() {
            *overview.workers.entry(worker.about.backend.clone()).or_default() += 1;
        }
        overview
    }

    fn demand(&self, run: &Run, leaders: &mut Leaders) -> Demand {
        let id = &run.plan.run;
        // A worker of the right backend with nothing against it, who could be started.
        let backend = run.backend().unwrap_or_default().to_owned();
        let fresh = Worker::new(Newcomer { backend, ..Newcomer::default() }, 0);
        let (mut waiting, mut running) = (0, 0);
        // Nothing is wanted, so that no task is made, which may copy thousands of inputs: they are only counted.
        run.open_task(|task: TaskId| {
            if self.attempts.of_task(id, task).next().is_some() {
                running += 1;
            } else if !self.is_led(&fresh, run, task, leaders) {
                waiting += 1;
            }
            false
        });
        let missing = if waiting > 0 { self.missing(run) } else { None };
        Demand { run: id.clone(), backend: run.backend().map(str::to_owned), waiting, running, missing }
    }

    /// Why nobody of this fleet may work on a run, if that is so.
    pub(super) fn missing(&self, run: &Run) -> Option<String> {
        if self.workers.values().any(|worker| fits(worker, run).is_ok()) {
            return None;
        }
        let Some(backend) = run.backend() else { return Some("no worker has joined this fleet".into()) };
        let of_backend = self.workers.values().filter(|worker| worker.about.backend == backend).count();
        let device = if backend == "cuda" { "cuda:0" } else { backend };
        Some(match of_backend {
            0 => format!(
                "no worker of backend {backend} has joined this fleet, and the run takes no others; start one with \
                 `bloctrain worker --device {device}`"
            ),
            count => format!("none of the {count} workers of backend {backend} can take part in this run"),
        })
    }
}
