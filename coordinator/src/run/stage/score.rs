//! Scores: how sure a block that is not the last is of its training samples, by shard. They are kept until what follows
//! from them is selected.

use super::{Claim, Kind, Scope, is_own, take_lost};
use crate::run::durable::Run;
use crate::run::open::{Open, missing, task_id};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::stage::score;
use bloctrain_shared::task::{ObjectRef, Stage, TaskId, Work};

pub(super) struct Score;

impl Kind for Score {
    fn open(&self, run: &Run, scope: Scope, tasks: &mut Open<'_>) {
        let Some((index, block)) = scope.selecting(run).filter(|(_, block)| block.selection.is_none()) else { return };
        let Some(weights) = block.weights() else { return };
        for shard in missing(run.plan.train_shards, &block.scores) {
            if tasks.is_full() {
                return;
            }
            let id = task_id(index + 1, Stage::Score, shard);
            if let Some(source) = tasks.wants(id).then(|| run.uncached_source(index)).flatten() {
                let (classes, weights, among) = (block.classes.clone(), weights.clone(), run.among(index));
                tasks.push(run.task(id, Work::Score(score::Work { shard, classes, weights, among, source })));
            }
        }
    }

    fn is_committed(&self, run: &Run, task: TaskId) -> bool {
        let block = Scope::of(task).block(run);
        block.is_some_and(|(_, block)| block.selection.is_some() || block.scores.contains_key(&task.part))
    }

    fn names<'r>(&self, run: &'r Run, scope: Scope) -> Vec<&'r ObjectRef> {
        scope.block(run).into_iter().flat_map(|(_, block)| block.scores.values()).collect()
    }

    fn lose(&self, run: &mut Run, scope: Scope, key: &str) -> Option<String> {
        let block = scope.block_mut(run)?;
        take_lost(&mut block.scores, |scores| scores.key == key).then(|| "its samples are scored again".into())
    }

    fn reset(&self, run: &mut Run, index: usize) {
        if let Some(block) = run.blocks.get_mut(index) {
            block.scores.clear();
        }
    }

    fn done(&self, run: &Run, scope: Scope) -> Option<(usize, usize)> {
        let (_, block) = scope.selecting(run)?;
        let shards = run.plan.train_shards as usize;
        Some((if block.selection.is_some() { shards } else { block.scores.len() }, shards))
    }
}

impl Claim for score::Output {
    fn may_name(&self, run: &Run, task: TaskId, key: &str) -> bool {
        is_own(run, task, key)
    }

    /// Whoever reads the scores compares them with the data set.
    fn check(&self, _: &Run, _: TaskId) -> Result<(), String> {
        Ok(())
    }

    fn commit(&self, run: &mut Run, task: TaskId, _: Option<&LabelMap>) -> Vec<String> {
        if let Some(block) = Scope::of(task).block_mut(run) {
            block.scores.insert(task.part, self.scores.clone());
        }
        Vec::new()
    }
}
