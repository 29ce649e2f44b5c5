//! Losses that workers report. A worker may see another store than the coordinator, so nothing is reset before the
//! coordinator itself has looked: it looks for all inputs of the task at once, because where one is lost others may be.

use super::event::{Doubt, Effect, Entry, Lost};
use super::state::State;
use super::worker::ASIDE_AFTER;
use crate::run::durable::Run;
use crate::run::record::Record;
use bloctrain_shared::task::{Failure, TaskId};
use std::collections::BTreeSet;

/// Leases for which a worker gets nothing whose reports of losses are untrue.
const DOUBTED_LEASES: u64 = 10;

impl State {
    /// Whether the inputs of a task are being looked for.
    pub(super) fn is_doubted(&self, run: &str, task: TaskId) -> bool {
        self.doubts.get(run).is_some_and(|tasks| tasks.contains(&task))
    }

    /// Ends the attempt of a worker that says that an input is lost, and has the inputs looked for.
    pub(super) fn doubt(&mut self, doubt: Doubt) -> Vec<Effect> {
        self.attempts.end(doubt.lease_epoch);
        if doubt.task.stage.is_training() {
            self.trained(&doubt.run, doubt.task, doubt.worker, false);
        }
        self.doubts.entry(doubt.run.clone()).or_default().insert(doubt.task);
        let text = format!("says that {} is lost ({}): its inputs are looked for", doubt.key, doubt.problem);
        vec![Effect::Log(entry(&doubt, text)), Effect::Verify(Box::new(doubt))]
    }

    /// What was lost indeed is made again; what was not counts against the worker.
    pub(super) fn verified(&mut self, now: u64, doubt: Doubt, found: Result<Vec<Lost>, String>) -> Vec<Effect> {
        if let Some(tasks) = self.doubts.get_mut(&doubt.run) {
            tasks.remove(&doubt.task);
            self.doubts.retain(|_, tasks| !tasks.is_empty());
        }
        let mut effects = match found {
            Ok(lost) if lost.is_empty() => self.untrue(now, &doubt),
            Ok(lost) => self.lost_indeed(now, &doubt, lost),
            Err(problem) => vec![Effect::Log(entry(&doubt, format!("its inputs cannot be looked for: {problem}")))],
        };
        // The task may be handed out again.
        effects.push(Effect::Changed { run: doubt.run });
        effects
    }

    fn lost_indeed(&mut self, now: u64, doubt: &Doubt, lost: Vec<Lost>) -> Vec<Effect> {
        let named: BTreeSet<String> = self.durable.runs.get(&doubt.run).map_or_else(BTreeSet::new, |run| {
            let data = format!("data/{}/", run.submission.dataset.digest);
            let still = run.names().filter(|object| doubt.inputs.contains(object));
            let data = lost.iter().filter(|lost| lost.key.starts_with(&data)).map(|lost| lost.key.clone());
            still.map(|object| object.key.clone()).chain(data).collect()
        });
        let mut effects = Vec::new();
        for Lost { key, problem } in lost.into_iter().filter(|lost| named.contains(&lost.key)) {
            if !self.durable.runs.get(&doubt.run).is_some_and(Run::is_live) {
                break;
            }
            // Attempts that work on what may now be done again are of no use.
            self.attempts.end_run(&doubt.run);
            let failure = Failure::InputLost { key, problem, content: false };
            effects.push(Effect::Log(entry(doubt, format!("failed: {failure}"))));
            let record =
                Record::Failed { run: doubt.run.clone(), task: doubt.task, worker: doubt.name.clone(), failure };
            effects.extend(self.record(now, &doubt.run, record));
        }
        effects.extend(self.ended(&doubt.run).map(Effect::Log));
        effects
    }

    fn untrue(&mut self, now: u64, doubt: &Doubt) -> Vec<Effect> {
        let text = format!("{} is there: the report was untrue; does this worker see another store?", doubt.key);
        let doubted_until = now + DOUBTED_LEASES * self.lease_ms;
        if let Some(known) = self.workers.get_mut(&doubt.worker) {
            known.failures += 1;
            known.untrue += 1;
            known.last_failure = format!("{}: {text}", doubt.task);
            if known.untrue >= ASIDE_AFTER {
                known.doubted_until = doubted_until;
            }
        }
        vec![Effect::Log(entry(doubt, text))]
    }
}

fn entry(doubt: &Doubt, text: String) -> Entry {
    let (worker, attempt) = (Some(doubt.name.clone()), Some(doubt.lease_epoch));
    Entry { run: doubt.run.clone(), task: Some(doubt.task), worker, attempt, text }
}
