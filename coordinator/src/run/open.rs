//! Which tasks of a run can be worked on now. Derived from the state every time, so nothing can be forgotten or left over.

use super::block::Block;
use super::record::Run;
use bloctrain_shared::plan::ExportPart;
use bloctrain_shared::task::{CachedShard, ObjectRef, Source, Split, Stage, Task, TaskId, Work};
use bloctrain_shared::view::RunState;

impl Run {
    /// Every task of a run that has not ended whose inputs are committed and whose output is not, in order of preference.
    pub fn open_tasks(&self) -> Vec<Task> {
        if !matches!(self.state, RunState::Running | RunState::Paused) {
            return Vec::new();
        }
        let mut tasks = Vec::new();
        for index in 0..self.blocks.len() {
            self.open_in_block(index, &mut tasks);
        }
        self.open_in_network(&mut tasks);
        tasks
    }

    pub(super) fn task(&self, block: usize, stage: Stage, part: u32, work: Work) -> Task {
        let id = TaskId { block: u32::try_from(block).unwrap_or(u32::MAX), stage, part, replica: 0 };
        Task { id, run: self.plan.run.clone(), submission: self.object.clone(), work }
    }

    fn open_in_block(&self, index: usize, tasks: &mut Vec<Task>) {
        let (block, number) = (&self.blocks[index], index + 1);
        let classes = || block.classes.clone();
        let Some(weights) = block.weights() else {
            if let Some(source) = self.train_source(index) {
                if self.is_replicated() {
                    return self.open_round(index, &source, tasks);
                }
                let round = u32::try_from(block.rounds.len()).unwrap_or(u32::MAX);
                let from = block.rounds.last().map(|round| round.checkpoint.clone());
                tasks.push(self.task(
                    number,
                    Stage::Train,
                    round,
                    Work::Train { round, replica: 0, classes: classes(), from, source },
                ));
            }
            return;
        };
        let Some(hard) = &block.hard else {
            for shard in (0..self.plan.validation_shards).filter(|shard| !block.confusions.contains_key(shard)) {
                if let Some(source) = self.shard_source(index, Split::Validation, 0, shard) {
                    let work = Work::Validate { shard, classes: classes(), weights: weights.clone(), source };
                    tasks.push(self.task(number, Stage::Validate, shard, work));
                }
            }
            return;
        };
        if self.is_last(index) {
            return;
        }
        for (part, ExportPart { split, view, shard }) in self.plan.export_parts().into_iter().enumerate() {
            let part = u32::try_from(part).unwrap_or(u32::MAX);
            if block.exports.contains_key(&part) {
                continue;
            }
            if let Some(source) = self.shard_source(index, split, view, shard) {
                let work =
                    Work::Export { split, view, shard, classes: classes(), hard: hard.clone(), weights: weights.clone(), source };
                tasks.push(self.task(number, Stage::Export, part, work));
            }
        }
        if let (None, Some(source)) = (&block.detector, self.view_source(index, &[0], false)) {
            let work = Work::Detect { classes: classes(), hard: hard.clone(), weights: weights.clone(), source };
            tasks.push(self.task(number, Stage::Detect, 0, work));
        }
    }

    fn open_in_network(&self, tasks: &mut Vec<Task>) {
        let Some(blocks) = self.network() else { return };
        let parts = self.plan.evaluate_parts();
        for (part, &(split, shard)) in parts.iter().enumerate() {
            let part = u32::try_from(part).unwrap_or(u32::MAX);
            if !self.evaluated.contains_key(&part) {
                tasks.push(self.task(0, Stage::Evaluate, part, Work::Evaluate { split, shard, blocks: blocks.clone() }));
            }
        }
        if self.evaluated.len() == parts.len() && self.summary.is_none() {
            let of = |wanted: Split| -> Vec<ObjectRef> {
                let own = parts.iter().zip(self.evaluated.values()).filter(|((split, _), _)| *split == wanted);
                own.map(|(_, records)| records.clone()).collect()
            };
            let (validation, test) = (of(Split::Validation), of(Split::Test));
            let Some(progress) = self.progress() else { return };
            let work = Work::Finish { blocks, validation, test, progress, cache: self.cache(), seconds: self.seconds };
            tasks.push(self.task(0, Stage::Finish, 0, work));
        }
    }

    fn before(&self, index: usize) -> Option<&Block> {
        index.checked_sub(1).and_then(|before| self.blocks.get(before))
    }

    /// Input of the next training round, when it is all there.
    fn train_source(&self, index: usize) -> Option<Source> {
        let epoch = self.blocks[index].epochs();
        if self.is_replicated() {
            // No round of replicas reaches into the next epoch, and the merge validates.
            return self.view_source(index, &[self.plan.view(epoch)], false);
        }
        let views: Vec<u32> =
            if self.submission.spec.train.round_steps > 0 { (0..self.plan.views).collect() } else { vec![self.plan.view(epoch)] };
        self.view_source(index, &views, self.plan.patience > 0)
    }

    /// Input of a merge: what it validates on.
    pub(super) fn merge_source(&self, index: usize) -> Option<Source> {
        self.view_source(index, &[], self.plan.patience > 0)
    }

    /// Training shards of some views, with the validation shards where asked for.
    fn view_source(&self, index: usize, views: &[u32], validation: bool) -> Option<Source> {
        if index == 0 {
            return Some(Source::Images);
        }
        let wanted = |part: &ExportPart| match part.split {
            Split::Train => views.contains(&part.view),
            _ => validation,
        };
        self.cached(index, wanted)
    }

    fn shard_source(&self, index: usize, split: Split, view: u32, shard: u32) -> Option<Source> {
        if index == 0 {
            return Some(Source::Images);
        }
        self.cached(index, |part| *part == ExportPart { split, view, shard })
    }

    fn cached(&self, index: usize, wanted: impl Fn(&ExportPart) -> bool) -> Option<Source> {
        let before = self.before(index)?;
        let parts = self.plan.export_parts();
        let chosen = parts.iter().enumerate().filter(|(_, part)| wanted(part));
        let shards = chosen.map(|(part, _)| {
            let part = u32::try_from(part).ok()?;
            before.exports.get(&part).map(|exported| exported.shard.clone())
        });
        shards.collect::<Option<Vec<CachedShard>>>().map(Source::Cache)
    }
}
