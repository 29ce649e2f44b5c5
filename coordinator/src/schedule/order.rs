//! What people ask for: runs begin, pause, go on, and end.

use super::admission;
use super::event::{Effect, Entry, Rejected};
use super::state::State;
use crate::run::record::Record;
use bloctrain_shared::plan::Submission;
use bloctrain_shared::task::{Failure, ObjectRef, Stage, TaskId};
use bloctrain_shared::view::RunState;

/// Most runs that go on at once.
pub const MAX_RUNS: usize = 10_000;

/// Most runs that one store may have, those that have ended among them.
pub const MAX_KEPT: usize = 50_000;

impl State {
    pub(super) fn submitted(
        &mut self,
        now: u64,
        submission: Box<Submission>,
        object: ObjectRef,
    ) -> Result<Vec<Effect>, Rejected> {
        let plan = admission::plan(&submission)?;
        if !self.live.contains(&plan.run) && self.live.len() >= MAX_RUNS {
            return Err(Rejected::Full("as many unfinished runs as it works on at once"));
        }
        if !self.durable.runs.contains_key(&plan.run) && self.durable.runs.len() >= MAX_KEPT {
            return Err(Rejected::Full("as many runs as it keeps (`bloctrain delete` removes those that have ended)"));
        }
        let (run, plan) = (plan.run.clone(), Some(Box::new(plan)));
        let record = Record::Submitted { run: run.clone(), submission, object, plan };
        let mut effects = self.record(now, &run, record);
        effects.push(Effect::Log(Entry { run, text: "submitted".into(), ..Entry::default() }));
        Ok(effects)
    }

    /// The state of a run, for an order about it.
    fn order(&self, run: &str) -> Result<&RunState, Rejected> {
        self.durable.runs.get(run).map(|run| &run.state).ok_or_else(|| Rejected::UnknownRun(run.to_owned()))
    }

    fn ordered(&mut self, now: u64, run: String, record: Record, text: &str) -> Vec<Effect> {
        let mut effects = self.record(now, &run, record);
        effects.push(Effect::Log(Entry { run, text: text.to_owned(), ..Entry::default() }));
        effects
    }

    pub(super) fn cancelled(&mut self, now: u64, run: String) -> Result<Vec<Effect>, Rejected> {
        if !self.order(&run)?.is_live() {
            return Ok(Vec::new());
        }
        self.attempts.end_run(&run);
        self.paces.forget(&run);
        Ok(self.ordered(now, run.clone(), Record::Cancelled { run }, "cancelled"))
    }

    /// Opens the last task of a completed run again, whose package is lost.
    pub(super) fn package_lost(
        &mut self,
        now: u64,
        run: String,
        key: String,
        problem: String,
    ) -> Result<Vec<Effect>, Rejected> {
        if *self.order(&run)? != RunState::Completed {
            return Ok(Vec::new());
        }
        let task = TaskId { block: 0, stage: Stage::Finish, part: 0, replica: 0 };
        let worker = "coordinator".to_owned();
        let text = format!("{problem}: the package is made again");
        let failure = Failure::InputLost { key, problem, content: false };
        Ok(self.ordered(now, run.clone(), Record::Failed { run, task, worker, failure }, &text))
    }

    pub(super) fn deleted(&mut self, now: u64, run: String) -> Result<Vec<Effect>, Rejected> {
        if self.order(&run)?.is_live() {
            return Err(Rejected::GoesOn(run));
        }
        self.paces.forget(&run);
        let effects = self.ordered(now, run.clone(), Record::Deleted { run: run.clone() }, "deleted");
        self.chains.forget(&run);
        Ok(effects)
    }

    pub(super) fn paused(&mut self, now: u64, run: String) -> Result<Vec<Effect>, Rejected> {
        match self.order(&run)? {
            RunState::Running => Ok(self.ordered(now, run.clone(), Record::Paused { run }, "paused")),
            RunState::Paused => Ok(Vec::new()),
            _ => Err(Rejected::Ended(run)),
        }
    }

    pub(super) fn resumed(&mut self, now: u64, run: String) -> Result<Vec<Effect>, Rejected> {
        match self.order(&run)? {
            RunState::Paused => Ok(self.ordered(now, run.clone(), Record::Resumed { run }, "resumed")),
            RunState::Running => Ok(Vec::new()),
            _ => Err(Rejected::Ended(run)),
        }
    }
}
