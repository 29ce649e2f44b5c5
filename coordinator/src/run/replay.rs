//! What a record changes. Everything here is total: a record was checked before it was written.

use super::durable::{Durable, Loss, Run};
use super::record::Record;
use super::round::Round;
use super::stage::{self, Scope};
use bloctrain_memory as memory;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::plan::{Plan, Submission};
use bloctrain_shared::task::{Failure, ObjectRef, Output, Stage, TaskId};
use bloctrain_shared::view::RunState;
use std::collections::BTreeSet;

/// Workers that failed at one task after which its run fails.
pub const MAX_FAILURES: usize = 3;

/// Failed attempts at one task after which its run fails, whoever made them: there may be only one worker.
pub const MAX_ATTEMPTS: usize = 6;

/// Workers with which one task may be lost before its run fails: more than a fleet of spot machines loses in a row.
pub const MAX_LOST_WORKERS: usize = 5;

/// Times that one task may be lost, whoever held it: there may be only one worker, which is started again each time.
pub const MAX_LOST_LEASES: usize = 10;

/// Times that one object may be lost before its run fails.
pub const MAX_LOSSES: u32 = 3;

impl Durable {
    /// Applies a record. Returns keys of objects that nothing needs any more.
    pub fn replay(&mut self, record: Record, now: u64) -> Vec<String> {
        match record {
            Record::Opened => self.openings += 1,
            Record::Founded { state, openings } => {
                (self.identity, self.openings) = (state, openings.max(self.openings))
            }
            Record::Submitted { run, submission, object, plan } => {
                self.submitted(&run, *submission, object, plan.map(|plan| *plan), now);
            }
            Record::Committed { run, task, seconds, output, hard } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.updated_ms = now;
                    return run.commit(task, seconds, &output, hard.as_ref());
                }
            }
            Record::Failed { run, task, worker, failure } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.updated_ms = now;
                    run.fail(task, &worker, failure);
                }
            }
            Record::Lost { run, task, worker, about } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.updated_ms = now;
                    run.lose_lease(Loss { task, worker, about });
                }
            }
            Record::Cancelled { run } => self.turn(&run, now, RunState::Cancelled),
            Record::Paused { run } => self.turn(&run, now, RunState::Paused),
            Record::Resumed { run } => self.turn(&run, now, RunState::Running),
            Record::Deleted { run } => {
                self.runs.remove(&run);
                self.deleted.insert(run);
            }
            Record::Backend { run, backend, precision } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.backend = Some(backend);
                    run.precision = precision.or(run.precision.take());
                }
            }
            Record::Shared { run, block, from, rounds, frozen } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.updated_ms = now;
                    return run.take_over(block, &from, rounds, frozen);
                }
            }
        }
        Vec::new()
    }

    fn turn(&mut self, run: &str, now: u64, state: RunState) {
        if let Some(run) = self.runs.get_mut(run) {
            run.updated_ms = now;
            run.state = state;
        }
    }

    fn submitted(&mut self, id: &str, submission: Submission, object: ObjectRef, plan: Option<Plan>, now: u64) {
        self.deleted.remove(id);
        if let Some(run) = self.runs.get_mut(id) {
            // The same content at another place on disk; a stopped run goes on from where it was.
            run.submission = submission;
            run.object = object;
            run.updated_ms = now;
            if run.state != RunState::Completed {
                run.state = RunState::Running;
                run.failures.clear();
                run.failed_on.clear();
                run.lost_on.clear();
                run.losses.clear();
            }
            return;
        }
        let derived = plan.map_or_else(|| Plan::new(&submission), Ok);
        let failed = derived.as_ref().err().map(|error| {
            format!(
                "this bloctrain cannot plan it any more ({error}); finish it with the one that began it, or \
            submit it anew"
            )
        });
        // The id that it was given: a later rule would make another one of the same submission.
        let plan = Plan { run: id.to_owned(), ..derived.unwrap_or_else(|_| Plan::none(&submission)) };
        let mut run = Run::new(submission, object, plan, now);
        if let Some(message) = failed {
            run.state = RunState::Failed { message };
        }
        self.runs.insert(id.to_owned(), run);
    }
}

impl Run {
    fn commit(&mut self, task: TaskId, seconds: f64, output: &Output, hard: Option<&LabelMap>) -> Vec<String> {
        self.seconds += seconds;
        self.failures.retain(|(failed, _)| *failed != task);
        self.failed_on.retain(|(failed, _)| *failed != task);
        self.lost_on.retain(|lost| lost.task != task);
        stage::claim(output).commit(self, task, hard)
    }

    fn fail(&mut self, task: TaskId, worker: &str, failure: Failure) {
        match failure {
            Failure::Fatal { message } => self.state = RunState::Failed { message: format!("{task}: {message}") },
            Failure::Transient { message } => {
                self.failures.push((task, format!("{worker}: {message}")));
                let on = (task, worker.to_owned());
                if !self.failed_on.contains(&on) {
                    self.failed_on.push(on);
                }
                let workers = self.failed_on.iter().filter(|(failed, _)| *failed == task).count();
                let own: Vec<&str> = self
                    .failures
                    .iter()
                    .filter(|(failed, _)| *failed == task)
                    .map(|(_, message)| message.as_str())
                    .collect();
                if workers >= MAX_FAILURES || own.len() >= MAX_ATTEMPTS {
                    let message =
                        format!("{task} failed {} times, on {workers} workers: {}", own.len(), own.join("; "));
                    self.state = RunState::Failed { message };
                }
            }
            Failure::InputLost { key, problem, .. } => self.lost(&key, &problem),
            // Not the task's fault: another worker takes it.
            Failure::Unable { .. } => {}
        }
    }

    /// A task went down with its worker, or was held without getting on. Where that happens again and again it is the
    /// task.
    fn lose_lease(&mut self, loss: Loss) {
        let task = loss.task;
        self.lost_on.push(loss);
        let own: Vec<&Loss> = self.lost_on.iter().filter(|lost| lost.task == task).collect();
        let workers: BTreeSet<&str> = own.iter().map(|lost| lost.worker.as_str()).collect();
        if workers.len() < MAX_LOST_WORKERS && own.len() < MAX_LOST_LEASES {
            return;
        }
        let abouts: Vec<&str> = own.iter().map(|lost| lost.about.as_str()).collect();
        let (times, workers, need) = (own.len(), workers.len(), memory::mebibytes(self.need_bytes));
        let message = format!(
            "{task} was lost {times} times with {workers} workers that held it: {}; a training step takes about \
            {need}; see what ended the workers, then submit the run again",
            abouts.join("; ")
        );
        self.state = RunState::Failed { message };
    }

    /// A stored object is gone: opens the task that made it again, or goes back to an earlier checkpoint.
    fn lost(&mut self, key: &str, problem: &str) {
        let times = self.losses.entry(key.to_owned()).or_default();
        *times += 1;
        if *times > MAX_LOSSES {
            let advice = if key == self.object.key {
                "run the same `train` or `submit` command again to write it anew"
            } else {
                "check the store"
            };
            self.state = RunState::Failed { message: format!("{key} was lost {times} times ({problem}); {advice}") };
            return;
        }
        if key == self.object.key {
            // Nothing makes it again; but what one worker reads is not what is stored.
            self.note(format!("{problem}; it is read again"));
            return;
        }
        for scope in Scope::all(self) {
            let lose = |stage: &Stage| stage::of(*stage).lose(self, scope, key).map(|note| (*stage, note));
            if let Some((stage, note)) = Stage::ALL.iter().find_map(lose) {
                // A package is made of what a completed run still has; everything else may take its shards.
                self.shards_gone &= stage == Stage::Finish;
                self.note(match scope {
                    Scope::Block(index) => format!("{problem}; block {}: {note}", index + 1),
                    Scope::Network => format!("{problem}; {note}"),
                });
                return;
            }
        }
    }

    /// Makes another run's frozen block its own. Returns keys of objects that nothing needs any more.
    fn take_over(&mut self, block: u32, from: &str, rounds: Vec<Round>, frozen: usize) -> Vec<String> {
        let index = (block as usize).saturating_sub(1);
        let Some(own) = self.blocks.get_mut(index).filter(|own| own.frozen.is_none() && frozen < rounds.len()) else {
            return Vec::new();
        };
        let before: Vec<String> = own.resumable().map(|object| object.key.clone()).collect();
        own.parts.clear();
        (own.rounds, own.frozen) = (rounds, Some(frozen));
        let unneeded = own.unnamed(before);
        let is_other = |task: &TaskId| task.block != block || !task.stage.is_training();
        self.failures.retain(|(failed, _)| is_other(failed));
        self.failed_on.retain(|(failed, _)| is_other(failed));
        self.lost_on.retain(|lost| is_other(&lost.task));
        self.note(format!("block {block} was trained by run {from}, which would train it the same way"));
        stage::froze(self, index);
        unneeded
    }
}
