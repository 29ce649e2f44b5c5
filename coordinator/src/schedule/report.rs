//! Reports: commits, and failures that another attempt may mend.

use super::admission;
use super::event::{Doubt, Effect, Entry, Rejected};
use super::state::State;
use crate::run::record::Record;
use crate::run::stage;
use bloctrain_shared::task::{Failure, Report, Stage, TaskId};
use bloctrain_shared::view::RunState;

/// Longest text of a failure, in characters.
const MAX_MESSAGE: usize = 2_000;

impl State {
    pub(super) fn reported(
        &mut self,
        now: u64,
        worker: u64,
        run: String,
        report: Report,
    ) -> Result<Vec<Effect>, Rejected> {
        let name = self.accept(worker, &run, &report)?;
        let Report { task, lease_epoch, seconds, inputs: _, result } = report;
        let entry = |text: String| {
            let (run, worker) = (run.clone(), Some(name.clone()));
            Effect::Log(Entry { run, task: Some(task), worker, attempt: Some(lease_epoch), text })
        };
        let (record, text) = match result {
            Ok(output) => {
                let output = Box::new(output);
                let text = format!("committed after {seconds:.1} s of work");
                let hard = self.durable.runs.get(&run).and_then(|run| stage::claim(&output).decides(run, task));
                (Record::Committed { run: run.clone(), task, seconds, output, hard }, text)
            }
            Err(failure @ Failure::Unable { .. }) => {
                let why = failure.shortened(MAX_MESSAGE).to_string();
                let said = entry(format!("cannot be done there: {why}"));
                self.attempts.end(lease_epoch);
                if let Some(known) = self.workers.get_mut(&worker) {
                    known.unable.insert(run.clone(), why);
                }
                return Ok(vec![said, Effect::Changed { run }]);
            }
            Err(failure) => {
                let failure = self.weigh(worker, &run, task, failure);
                // What only a worker can see is believed; what the coordinator can see, it looks for itself.
                if let Failure::InputLost { key, problem, content: false } = failure {
                    let inputs = self.durable.runs.get(&run).map_or_else(Vec::new, |run| admission::inputs(run, task));
                    return Ok(self.doubt(Doubt { run, task, worker, name, lease_epoch, key, problem, inputs }));
                }
                let text = format!("failed: {failure}");
                (Record::Failed { run: run.clone(), task, worker: name.clone(), failure }, text)
            }
        };
        let others = self.end_attempt(now, worker, lease_epoch, &record);
        let mut effects = self.record(now, &run, record);
        effects.push(entry(text));
        effects.extend(others);
        if let Some(ended) = self.ended(&run) {
            self.paces.forget(&run);
            effects.push(Effect::Log(ended));
        }
        Ok(effects)
    }

    /// Refuses a report that comes too late, or cannot be true; gives the name of the worker.
    fn accept(&self, worker: u64, run: &str, report: &Report) -> Result<String, Rejected> {
        let known = self.workers.get(&worker).ok_or(Rejected::UnknownWorker(worker))?;
        let state = self.durable.runs.get(run).ok_or_else(|| Rejected::UnknownRun(run.to_owned()))?;
        if state.is_committed(report.task) {
            return Err(Rejected::Committed(report.task));
        }
        if !state.is_live() || !self.attempts.holds(worker, run, report.task, report.lease_epoch) {
            return Err(self.over(worker, run, report.task, report.lease_epoch));
        }
        let granted = self.attempts.get(report.lease_epoch).map(|attempt| attempt.work);
        let open = state.open_task(|open| open == report.task).map(|open| open.work.identity());
        if open != granted || report.inputs.is_some_and(|inputs| Some(inputs) != granted) {
            return Err(Rejected::Outdated(report.task));
        }
        admission::report(state, report)?;
        Ok(known.about.name.clone())
    }

    /// A failure as it counts.
    fn weigh(&self, worker: u64, run: &str, task: TaskId, failure: Failure) -> Failure {
        let Some(state) = self.durable.runs.get(run) else { return failure };
        match admission::failure(state, task, failure).shortened(MAX_MESSAGE) {
            // What no attempt there can mend may be the worker's own trouble, such as a store that it cannot write.
            Failure::Fatal { message } if self.others_may_try(worker, state, task) => Failure::Transient { message },
            failure => failure,
        }
    }

    /// Ends the attempt that was reported, and what its record makes useless.
    fn end_attempt(&mut self, now: u64, worker: u64, lease_epoch: u64, record: &Record) -> Vec<Effect> {
        let (Record::Committed { run, task, .. } | Record::Failed { run, task, .. }) = record else {
            return Vec::new();
        };
        let attempt = self.attempts.end(lease_epoch);
        if task.stage == Stage::Train {
            self.trained(run, *task, worker, matches!(record, Record::Committed { .. }));
        }
        if matches!(record, Record::Failed { failure: Failure::InputLost { .. }, .. }) {
            // Attempts that work on what may now be done again are of no use.
            self.attempts.end_run(run);
        }
        self.remember(worker, record);
        if let (Record::Committed { .. }, Some(attempt)) = (record, attempt) {
            self.paces.note(run, *task, now.saturating_sub(attempt.begun_ms));
        }
        self.end_others(record)
    }

    /// Counts what a worker does well and what it does not.
    fn remember(&mut self, worker: u64, record: &Record) {
        let Some(known) = self.workers.get_mut(&worker) else { return };
        match record {
            Record::Committed { .. } => {
                known.completed += 1;
                (known.failures, known.untrue) = (0, 0);
            }
            Record::Failed { failure: Failure::Transient { message }, task, .. } => {
                known.failures += 1;
                known.last_failure = format!("{task}: {message}");
            }
            _ => {}
        }
    }

    pub(super) fn ended(&self, run: &str) -> Option<Entry> {
        let text = match &self.durable.runs.get(run)?.state {
            RunState::Completed => "the run is completed".into(),
            RunState::Failed { message } => format!("the run failed: {message}"),
            _ => return None,
        };
        Some(Entry { run: run.to_owned(), text, ..Entry::default() })
    }
}
