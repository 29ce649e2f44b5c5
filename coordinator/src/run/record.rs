//! What lasts: one record per accepted change, and the runs that follow from all of them.
//!
//! Records are the truth; replaying them gives the same [`Durable`]. Everything here is total: a record was checked
//! before it was written.

use super::block::{Block, Detected, Exported, Round};
use bloctrain_shared::plan::{Plan, Submission};
use bloctrain_shared::summary::{CacheSize, Summary};
use bloctrain_shared::task::{BlockProgress, Failure, FrozenBlock, ObjectRef, Output, Stage, TaskId};
use bloctrain_shared::view::RunState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Workers that failed at one task after which its run fails.
pub const MAX_FAILURES: usize = 3;

/// Failed attempts at one task after which its run fails, whoever made them: there may be only one worker.
pub const MAX_ATTEMPTS: usize = 6;

/// Times that one object may be lost before its run fails.
pub const MAX_LOSSES: u32 = 3;

/// One accepted change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// A coordinator began to work on this state.
    Opened,
    /// A run was submitted, or submitted again.
    Submitted {
        /// The run.
        run: String,
        /// What was asked.
        submission: Box<Submission>,
        /// Where it is stored.
        object: ObjectRef,
    },
    /// A task's output was accepted.
    Committed {
        /// The run.
        run: String,
        /// The task.
        task: TaskId,
        /// Seconds of work.
        seconds: f64,
        /// What was made.
        output: Box<Output>,
    },
    /// An attempt failed.
    Failed {
        /// The run.
        run: String,
        /// The task.
        task: TaskId,
        /// Name of the worker.
        worker: String,
        /// Why.
        failure: Failure,
    },
    /// A run was stopped.
    Cancelled {
        /// The run.
        run: String,
    },
    /// A run was paused.
    Paused {
        /// The run.
        run: String,
    },
    /// A paused run goes on.
    Resumed {
        /// The run.
        run: String,
    },
    /// The first worker decided a run's backend.
    Backend {
        /// The run.
        run: String,
        /// The backend.
        backend: String,
    },
    /// A run got a frozen block that another run trained from the same inputs.
    Shared {
        /// The run.
        run: String,
        /// The block, from 1.
        block: u32,
        /// The run that has it.
        from: String,
        /// Its rounds; only the frozen one is kept, under the keys that it has.
        rounds: Vec<Round>,
        /// Index of the round whose weights are final.
        frozen: usize,
    },
}

/// Everything that lasts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Durable {
    /// Runs by id. They are stored in rows of their own.
    #[serde(default, skip_serializing)]
    pub runs: BTreeMap<String, Run>,
    /// Times that a coordinator began: the upper half of every lease epoch, so that leases of an earlier one are old.
    pub openings: u64,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// What was asked.
    pub submission: Submission,
    /// Where it is stored.
    pub object: ObjectRef,
    /// What follows from it.
    pub plan: Plan,
    /// Where it stands.
    pub state: RunState,
    /// First submission, Unix milliseconds.
    pub created_ms: u64,
    /// Last change, Unix milliseconds.
    pub updated_ms: u64,
    /// Blocks that have begun, first to last.
    pub blocks: Vec<Block>,
    /// Records by part of the evaluate stage.
    pub evaluated: BTreeMap<u32, ObjectRef>,
    /// The figures, once finished.
    pub summary: Option<Summary>,
    /// Messages of failed attempts by task, as pairs because JSON keys are texts.
    pub failures: Vec<(TaskId, String)>,
    /// Workers that failed at a task.
    #[serde(default)]
    pub failed_on: Vec<(TaskId, String)>,
    /// The backend that the first worker decided, where the submission leaves it open.
    #[serde(default)]
    pub backend: Option<String>,
    /// Times that each object was lost.
    pub losses: BTreeMap<String, u32>,
    /// What people should know.
    pub notes: Vec<String>,
    /// Seconds of work on committed tasks.
    pub seconds: f64,
    /// Whether the cached shards were let go of (see [`Durable::let_go`]).
    #[serde(skip)]
    pub shards_gone: bool,
}

impl Run {
    /// A new run of a plan.
    pub fn new(submission: Submission, object: ObjectRef, plan: Plan, now: u64) -> Self {
        let first = Block::new(bloctrain_shared::label::LabelMap::all(plan.classes));
        Self {
            submission,
            object,
            plan,
            state: RunState::Running,
            created_ms: now,
            updated_ms: now,
            blocks: vec![first],
            evaluated: BTreeMap::new(),
            summary: None,
            failures: Vec::new(),
            failed_on: Vec::new(),
            backend: None,
            losses: BTreeMap::new(),
            notes: Vec::new(),
            seconds: 0.0,
            shards_gone: false,
        }
    }

    /// Whether block `index` (from 0) is the network's last: by plan, or because too few classes stayed hard.
    pub fn is_last(&self, index: usize) -> bool {
        let by_plan = index + 1 >= self.plan.blocks as usize;
        by_plan
            || self
                .blocks
                .get(index)
                .and_then(|block| block.hard.as_ref())
                .is_some_and(|hard| !bloctrain_shared::decide::goes_on(hard))
    }

    /// The whole network, once every block is frozen, validated and, but for the last, has its detector.
    pub fn network(&self) -> Option<Vec<FrozenBlock>> {
        let last = self.blocks.len() - 1;
        if self.blocks[last].hard.is_none() || !self.is_last(last) {
            return None;
        }
        let frozen = |(index, block): (usize, &Block)| {
            let hard = block.hard.clone()?;
            let (hard, detector) =
                if index == last { (Default::default(), None) } else { (hard, block.detector.clone()?.object) };
            let number = u32::try_from(index + 1).ok()?;
            Some(FrozenBlock { block: number, classes: block.classes.clone(), hard, weights: block.weights()?.clone(), detector })
        };
        self.blocks.iter().enumerate().map(frozen).collect()
    }

    /// What training and validation found, for the summary.
    pub fn progress(&self) -> Option<Vec<BlockProgress>> {
        let progress = |block: &Block| {
            let rounds = block.rounds.iter().map(|round| round.metrics.clone()).collect();
            Some(BlockProgress { rounds, confusion: block.confusion.clone()? })
        };
        self.blocks.iter().map(progress).collect()
    }

    /// Size of the spike cache that the run uses.
    pub fn cache(&self) -> CacheSize {
        let exports = self.blocks.iter().flat_map(|block| block.exports.values());
        exports.fold(CacheSize::default(), |sum, exported| CacheSize {
            bytes: sum.bytes + exported.shard.object.bytes,
            uncompressed_bytes: sum.uncompressed_bytes + exported.uncompressed_bytes,
        })
    }

    /// Whether a task's output is already there.
    pub fn is_committed(&self, task: TaskId) -> bool {
        let block = (task.block as usize).checked_sub(1).and_then(|index| self.blocks.get(index));
        match task.stage {
            Stage::Train if task.replica > 0 => {
                block.is_some_and(|block| block.frozen.is_some() || task.part < block.links(task.replica))
            }
            Stage::Train | Stage::Merge => {
                block.is_some_and(|block| block.frozen.is_some() || (task.part as usize) < block.rounds.len())
            }
            Stage::Validate => block.is_some_and(|block| block.hard.is_some() || block.confusions.contains_key(&task.part)),
            Stage::Detect => block.is_some_and(|block| block.detector.is_some()),
            Stage::Export => block.is_some_and(|block| self.shards_gone || block.exports.contains_key(&task.part)),
            Stage::Evaluate => self.evaluated.contains_key(&task.part),
            Stage::Finish => self.summary.is_some(),
        }
    }
}

impl Durable {
    /// Applies a record. Returns keys of objects that nothing needs any more.
    pub fn replay(&mut self, record: Record, now: u64) -> Vec<String> {
        match record {
            Record::Opened => self.openings += 1,
            Record::Submitted { run, submission, object } => self.submitted(&run, *submission, object, now),
            Record::Committed { run, task, seconds, output } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.updated_ms = now;
                    return run.commit(task, seconds, *output);
                }
            }
            Record::Failed { run, task, worker, failure } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.updated_ms = now;
                    run.fail(task, &worker, failure);
                }
            }
            Record::Cancelled { run } => self.turn(&run, now, RunState::Cancelled),
            Record::Paused { run } => self.turn(&run, now, RunState::Paused),
            Record::Resumed { run } => self.turn(&run, now, RunState::Running),
            Record::Backend { run, backend } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.backend = Some(backend);
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

    /// Lets go of the cached shards of runs that are completed, so that what is kept in memory does not grow with what was
    /// ever done. Nothing asks for them any more but garbage collection, which reads them where they are stored.
    pub fn let_go(&mut self) {
        for run in self.runs.values_mut().filter(|run| run.state == RunState::Completed && !run.shards_gone) {
            run.blocks.iter_mut().for_each(|block| block.exports = BTreeMap::new());
            run.shards_gone = true;
        }
    }

    fn turn(&mut self, run: &str, now: u64, state: RunState) {
        if let Some(run) = self.runs.get_mut(run) {
            run.updated_ms = now;
            run.state = state;
        }
    }

    fn submitted(&mut self, id: &str, submission: Submission, object: ObjectRef, now: u64) {
        if let Some(run) = self.runs.get_mut(id) {
            // The same content at another place on disk; a stopped run goes on from where it was.
            run.submission = submission;
            run.object = object;
            run.updated_ms = now;
            if run.state != RunState::Completed {
                run.state = RunState::Running;
                run.failures.clear();
                run.failed_on.clear();
                run.losses.clear();
            }
            return;
        }
        if let Ok(plan) = Plan::new(&submission) {
            self.runs.insert(id.to_owned(), Run::new(submission, object, plan, now));
        }
    }
}

impl Run {
    fn commit(&mut self, task: TaskId, seconds: f64, output: Output) -> Vec<String> {
        self.seconds += seconds;
        self.failures.retain(|(failed, _)| *failed != task);
        self.failed_on.retain(|(failed, _)| *failed != task);
        let index = (task.block as usize).saturating_sub(1);
        match output {
            Output::Train { checkpoint, finished, metrics } => {
                let patience = self.plan.patience;
                let Some(block) = self.blocks.get_mut(index) else { return Vec::new() };
                let (replicas, merged) = block.take_parts();
                let mut unneeded = block.add_round(Round { checkpoint, metrics, kept: true, replicas }, finished, patience);
                unneeded.extend(block.unnamed(merged));
                self.froze(index);
                return unneeded;
            }
            Output::Replica { checkpoint, complete, metrics } => {
                let Some(block) = self.blocks.get_mut(index) else { return Vec::new() };
                return block.add_part(task.replica, checkpoint, complete, metrics);
            }
            Output::Validate { confusion } => self.validated(index, task.part, confusion),
            Output::Detect { detector } => {
                if let Some(block) = self.blocks.get_mut(index) {
                    block.detector = Some(Detected { object: detector });
                }
            }
            Output::Export { shard, uncompressed_bytes, reused } => {
                if let Some(block) = self.blocks.get_mut(index) {
                    block.exports.insert(task.part, Exported { shard, uncompressed_bytes, reused });
                }
                self.note_reuse(index);
            }
            Output::Evaluate { records } => {
                self.evaluated.insert(task.part, records);
            }
            Output::Finish { summary } => {
                self.summary = Some(*summary);
                self.state = RunState::Completed;
            }
        }
        Vec::new()
    }

    /// What was made of weights that were lost holds for those that are there now, unless they differ.
    pub(super) fn froze(&mut self, index: usize) {
        let frozen = self.blocks.get_mut(index).filter(|block| block.frozen.is_some());
        if frozen.is_some_and(Block::froze_differently) {
            self.notes.push(format!("block {} came out differently than before; what follows it is done again", index + 1));
            self.reset_after(index);
        }
    }

    /// decides once, from the complete validation.
    fn validated(&mut self, index: usize, part: u32, confusion: bloctrain_shared::metric::Confusion) {
        let shards = self.plan.validation_shards as usize;
        let Some(block) = self.blocks.get_mut(index) else { return };
        block.confusions.insert(part, confusion);
        if block.confusions.len() < shards || block.hard.is_some() {
            return;
        }
        let mut sum = bloctrain_shared::metric::Confusion::new(block.classes.len());
        let fits = block.confusions.values().all(|confusion| sum.merge(confusion));
        if !fits {
            self.state =
                RunState::Failed { message: format!("validation of block {} answered for another number of classes", index + 1) };
            return;
        }
        let hard = bloctrain_shared::decide::hard_classes(&self.submission.spec.hard_classes, &sum.by_class(&block.classes));
        block.confusion = Some(sum);
        block.hard = Some(hard.clone());
        let by_plan_last = index + 1 >= self.plan.blocks as usize;
        if by_plan_last {
            return;
        }
        if bloctrain_shared::decide::goes_on(&hard) {
            self.blocks.truncate(index + 1);
            self.blocks.push(Block::new(hard));
        } else {
            self.notes.push(format!("after block {} fewer than two classes are hard: the network is complete", index + 1));
        }
    }

    fn note_reuse(&mut self, index: usize) {
        let parts = self.plan.export_count() as usize;
        let Some(block) = self.blocks.get(index).filter(|block| block.exports.len() == parts) else { return };
        let reused = block.exports.values().filter(|exported| exported.reused).count();
        if reused > 0 {
            let note = format!("block {}: {reused} of {parts} cached shards were there already and are used again", index + 1);
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    /// Forgets everything that depends on the weights of block `index`.
    fn reset_after(&mut self, index: usize) {
        self.blocks.truncate(index + 1);
        if let Some(block) = self.blocks.get_mut(index) {
            block.forget_results();
        }
        self.evaluated.clear();
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
                let own: Vec<&str> =
                    self.failures.iter().filter(|(failed, _)| *failed == task).map(|(_, message)| message.as_str()).collect();
                if workers >= MAX_FAILURES || own.len() >= MAX_ATTEMPTS {
                    let message = format!("{task} failed {} times, on {workers} workers: {}", own.len(), own.join("; "));
                    self.state = RunState::Failed { message };
                }
            }
            Failure::InputLost { key, problem } => self.lost(&key, &problem),
            // Not the task's fault: another worker takes it.
            Failure::Unable { .. } => {}
        }
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
            self.notes.push(format!("{problem}; it is read again"));
            return;
        }
        for (index, block) in self.blocks.iter_mut().enumerate() {
            if let Some(note) = block.lose(key) {
                self.notes.push(format!("{problem}; block {}: {note}", index + 1));
                return;
            }
        }
        let before = self.evaluated.len();
        self.evaluated.retain(|_, records| records.key != key);
        if self.evaluated.len() < before {
            self.notes.push(format!("{problem}; it is evaluated again"));
        }
    }
}
