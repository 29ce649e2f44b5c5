//! What lasts: the runs, each with its committed blocks.

use super::block::Block;
use bloctrain_memory as memory;
use bloctrain_shared::decide;
use bloctrain_shared::graph::Graph;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::plan::{ANY_BACKEND, Plan, Submission};
use bloctrain_shared::spec::Precision;
use bloctrain_shared::summary::{CacheSize, Summary};
use bloctrain_shared::task::{BlockProgress, FrozenBlock, ObjectRef, Task, TaskId, Work};
use bloctrain_shared::view::RunState;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that lasts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Durable {
    /// Runs by id. They are stored in rows of their own.
    #[serde(default, skip_serializing)]
    pub runs: BTreeMap<String, Run>,
    /// Which state this is; empty in stores of before there were identities.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// Runs that were deleted, whose models are garbage.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub deleted: BTreeSet<String>,
    /// Times that a coordinator began: the upper half of every lease epoch, so that leases of an earlier one are old.
    pub openings: u64,
}

/// Most notes of a run.
pub const MAX_NOTES: usize = 200;

/// A lease that was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The task.
    pub task: TaskId,
    /// Name of the worker.
    pub worker: String,
    /// What is known of the worker and how far it was.
    pub about: String,
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
    /// Leases that were lost with the workers that held them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost_on: Vec<Loss>,
    /// The backend that the first worker decided, where the submission leaves it open.
    #[serde(default)]
    pub backend: Option<String>,
    /// What the first worker computes convolutions in, where the submission leaves it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Times that each object was lost.
    pub losses: BTreeMap<String, u32>,
    /// What people should know.
    pub notes: Vec<String>,
    /// Whether the package of a run that has its figures is to be made again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub package_lost: bool,
    /// Seconds of work on committed tasks.
    pub seconds: f64,
    /// Whether the cached shards were let go of (see [`Durable::let_go`]).
    #[serde(skip)]
    pub shards_gone: bool,
    /// Bytes that a training step takes on a CPU; derived from the submission.
    #[serde(skip)]
    pub need_bytes: u64,
}

impl Run {
    /// A new run of a plan.
    pub fn new(submission: Submission, object: ObjectRef, plan: Plan, now: u64) -> Self {
        let first = Block::new(LabelMap::all(plan.classes), now);
        let mut run = Self {
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
            lost_on: Vec::new(),
            backend: None,
            precision: None,
            losses: BTreeMap::new(),
            notes: Vec::new(),
            package_lost: false,
            seconds: 0.0,
            shards_gone: false,
            need_bytes: 0,
        };
        run.fill();
        run
    }

    /// Derives what is not kept.
    pub(crate) fn fill(&mut self) {
        let Submission { spec, dataset, .. } = &self.submission;
        let graph = Graph::new(spec, dataset.shape).ok();
        let blocks = graph.map(|graph| memory::estimate(spec, &graph, dataset.classes.len(), 1));
        self.need_bytes = blocks.into_iter().flatten().map(|block| block.bytes).max().unwrap_or(0);
    }

    /// Whether block `index` (from 0) is the network's last: by plan, or because too few classes stayed hard.
    pub fn is_last(&self, index: usize) -> bool {
        let by_plan = index + 1 >= self.plan.blocks as usize;
        by_plan
            || self.blocks.get(index).and_then(|block| block.hard.as_ref()).is_some_and(|hard| !decide::goes_on(hard))
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
            Some(FrozenBlock {
                block: number,
                classes: block.classes.clone(),
                hard,
                weights: block.weights()?.clone(),
                detector,
            })
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

    /// Tells people. Of very many notes the first and the last are kept.
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
        if self.notes.len() > MAX_NOTES {
            self.notes.remove(MAX_NOTES / 2);
        }
    }

    /// Whether it may go on without being submitted again.
    pub(crate) fn is_live(&self) -> bool {
        self.state.is_live()
    }

    /// Whether everything of it is done.
    pub(super) fn is_completed(&self) -> bool {
        self.state == RunState::Completed
    }

    /// Whether hard inputs are selected in place of hard classes.
    pub(crate) fn selects(&self) -> bool {
        self.submission.spec.hard_inputs.is_on()
    }

    /// Whether blocks are trained by more than one replica.
    pub(super) fn is_replicated(&self) -> bool {
        self.submission.spec.train.replicas > 1
    }

    /// The backend that its workers must have; `None` until the first one decides.
    pub fn backend(&self) -> Option<&str> {
        match self.submission.backend.as_str() {
            ANY_BACKEND => self.backend.as_deref(),
            backend => Some(backend),
        }
    }

    /// What its workers must compute convolutions in; `None` until the first one decides. Processors have f32 only.
    pub fn precision(&self) -> Option<&str> {
        let is_f32 = self.submission.spec.train.precision == Precision::F32 || self.backend() == Some("cpu");
        if is_f32 { Some("f32") } else { self.precision.as_deref() }
    }

    /// Whether it is known how its workers compute.
    pub(crate) fn is_resolved(&self) -> bool {
        self.backend().is_some() && self.precision().is_some()
    }

    /// Whether a worker failed at a task.
    pub(crate) fn failed_at(&self, task: TaskId, worker: &str) -> bool {
        self.failed_on.iter().any(|(of, on)| *of == task && on == worker)
    }

    /// A task with what a worker needs.
    pub(super) fn task(&self, id: TaskId, work: Work) -> Task {
        Task { id, run: self.plan.run.clone(), submission: self.object.clone(), work }
    }
}

impl Durable {
    /// Lets go of the cached shards of runs that are completed, so that what is kept in memory does not grow with what
    /// was ever done. Nothing asks for them any more but garbage collection, which reads them where they are stored.
    pub fn let_go(&mut self) {
        for run in self.runs.values_mut().filter(|run| run.state == RunState::Completed && !run.shards_gone) {
            run.blocks.iter_mut().for_each(|block| block.exports = BTreeMap::new());
            run.shards_gone = true;
        }
    }
}
