//! Validation of a frozen block, sharded. When it is complete it decides the hard classes, once.

use super::{Claim, Kind, Scope, is_own};
use crate::run::block::Block;
use crate::run::durable::Run;
use crate::run::open::{Open, missing, task_id};
use bloctrain_shared::decide;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::metric::Confusion;
use bloctrain_shared::plan::{ExportPart, shard_samples};
use bloctrain_shared::stage::validate;
use bloctrain_shared::task::{ObjectRef, Split, Stage, TaskId, Work};
use bloctrain_shared::view::RunState;

pub(super) struct Validate;

impl Kind for Validate {
    fn open(&self, run: &Run, scope: Scope, tasks: &mut Open<'_>) {
        let Some((index, block)) = scope.block(run).filter(|(_, block)| block.hard.is_none()) else { return };
        let Some(weights) = block.weights() else { return };
        for shard in missing(run.plan.validation_shards, &block.confusions) {
            let id = task_id(index + 1, Stage::Validate, shard);
            let part = ExportPart { split: Split::Validation, view: 0, shard };
            if let Some(source) = tasks.wants(id).then(|| run.shard_source(index, part)).flatten() {
                let work = validate::Work { shard, classes: block.classes.clone(), weights: weights.clone(), source };
                tasks.push(run.task(id, Work::Validate(work)));
            }
        }
    }

    fn is_committed(&self, run: &Run, task: TaskId) -> bool {
        let block = Scope::of(task).block(run);
        block.is_some_and(|(_, block)| block.hard.is_some() || block.confusions.contains_key(&task.part))
    }

    /// Counts are kept in the state.
    fn names<'r>(&self, _: &'r Run, _: Scope) -> Vec<&'r ObjectRef> {
        Vec::new()
    }

    fn lose(&self, _: &mut Run, _: Scope, _: &str) -> Option<String> {
        None
    }

    /// The blocks that follow began with what was decided.
    fn reset(&self, run: &mut Run, index: usize) {
        run.blocks.truncate(index + 1);
        if let Some(block) = run.blocks.get_mut(index) {
            block.confusions.clear();
            block.confusion = None;
            block.hard = None;
        }
    }

    fn done(&self, run: &Run, scope: Scope) -> Option<(usize, usize)> {
        let (_, block) = scope.block(run)?;
        Some((block.confusions.len(), run.plan.validation_shards as usize))
    }
}

impl Claim for validate::Output {
    fn may_name(&self, run: &Run, task: TaskId, key: &str) -> bool {
        is_own(run, task, key)
    }

    /// Each sample of the shard whose class the block knows is answered once. The first block knows all classes, so its
    /// counts say how many of each there are (R-6: nothing is decided from other samples than those).
    fn check(&self, run: &Run, task: TaskId) -> Result<(), String> {
        let Some((_, block)) = Scope::of(task).block(run) else { return Err("there is no such block".into()) };
        let classes = block.classes.globals();
        let samples = self.confusion.samples().filter(|samples| samples.len() == classes.len());
        let samples = samples.ok_or_else(|| format!("its counts are no matrix over {} classes", classes.len()))?;
        let shard = shard_samples(run.submission.dataset.validation, task.part) as u64;
        let total: u64 = samples.iter().sum();
        if task.block == 1 {
            return if total == shard {
                Ok(())
            } else {
                Err(format!("it counts {total} samples, the shard has {shard}"))
            };
        }
        let first = run.blocks.first().and_then(|first| first.confusions.get(&task.part)).and_then(Confusion::samples);
        let Some(first) = first else { return Err("the first block did not answer to this shard".into()) };
        for (&class, counted) in classes.iter().zip(samples) {
            let there = first.get(usize::from(class)).copied().unwrap_or(0);
            if counted != there {
                return Err(format!("it counts {counted} samples of class {class}, the first block counted {there}"));
            }
        }
        Ok(())
    }

    fn decides(&self, run: &Run, task: TaskId) -> Option<LabelMap> {
        let (_, block) = Scope::of(task).block(run)?;
        let others = block.confusions.iter().filter(|(shard, _)| **shard != task.part).map(|(_, confusion)| confusion);
        let is_complete = others.clone().count() + 1 >= run.plan.validation_shards as usize && block.hard.is_none();
        let sum = is_complete.then(|| sum(block, others.chain([&self.confusion]))).flatten()?;
        Some(decide::classes_after(&run.submission.spec, &sum.by_class(&block.classes)))
    }

    fn commit(&self, run: &mut Run, task: TaskId, hard: Option<&LabelMap>) -> Vec<String> {
        let Scope::Block(index) = Scope::of(task) else { return Vec::new() };
        let shards = run.plan.validation_shards as usize;
        let Some(block) = run.blocks.get_mut(index) else { return Vec::new() };
        block.confusions.insert(task.part, self.confusion.clone());
        if block.confusions.len() >= shards && block.hard.is_none() {
            decided(run, index, hard);
        }
        Vec::new()
    }
}

/// The counts of all shards; `None` where they do not fit each other.
fn sum<'c>(block: &Block, mut confusions: impl Iterator<Item = &'c Confusion>) -> Option<Confusion> {
    let mut sum = Confusion::new(block.classes.len());
    confusions.all(|confusion| sum.merge(confusion)).then_some(sum)
}

/// decided once, from the complete validation. Where a record does not say how, it is from before records did.
fn decided(run: &mut Run, index: usize, hard: Option<&LabelMap>) {
    let Some(block) = run.blocks.get_mut(index) else { return };
    let Some(sum) = sum(block, block.confusions.values()) else {
        let message = format!("validation of block {} answered for another number of classes", index + 1);
        run.state = RunState::Failed { message };
        return;
    };
    let derived = || decide::classes_after(&run.submission.spec, &sum.by_class(&block.classes));
    let hard = hard.cloned().unwrap_or_else(derived);
    block.confusion = Some(sum);
    block.hard = Some(hard.clone());
    if index + 1 >= run.plan.blocks as usize {
        return;
    }
    if decide::goes_on(&hard) {
        run.blocks.truncate(index + 1);
        run.blocks.push(Block::new(hard, run.updated_ms));
    } else {
        run.note(format!("after block {} fewer than two classes are hard: the network is complete", index + 1));
    }
}
