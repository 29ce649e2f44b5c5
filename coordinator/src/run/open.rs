//! Which tasks of a run can be worked on now. Derived from the state every time, so nothing can be forgotten or left over.

use super::block::{Block, Exported};
use super::record::Run;
use bloctrain_shared::plan::ExportPart;
use bloctrain_shared::task::{ObjectRef, Source, Split, Stage, Task, TaskId, Work};
use bloctrain_shared::view::RunState;
use std::collections::BTreeMap;

/// Open tasks that are wanted, up to some number. Asked before a task is made, which may copy thousands of inputs.
pub(super) struct Open<'a> {
    tasks: Vec<Task>,
    wanted: &'a mut dyn FnMut(TaskId) -> bool,
    most: usize,
}

impl Open<'_> {
    fn is_full(&self) -> bool {
        self.tasks.len() >= self.most
    }

    pub(super) fn wants(&mut self, id: TaskId) -> bool {
        !self.is_full() && (self.wanted)(id)
    }

    pub(super) fn push(&mut self, task: Task) {
        if !self.is_full() {
            self.tasks.push(task);
        }
    }
}

/// A place in the plan of a run that is not replicated.
pub(super) fn task_id(block: usize, stage: Stage, part: u32) -> TaskId {
    TaskId { block: u32::try_from(block).unwrap_or(u32::MAX), stage, part, replica: 0 }
}

/// Parts of a stage, from 0, that are not there yet.
fn missing<T>(parts: u32, there: &BTreeMap<u32, T>) -> impl Iterator<Item = u32> {
    let mut there = there.keys().copied().peekable();
    (0..parts).filter(move |part| there.next_if_eq(part).is_none())
}

impl Run {
    /// Every task of a run that has not ended whose inputs are committed and whose output is not, in order of preference.
    pub fn open_tasks(&self) -> Vec<Task> {
        self.open(&mut |_| true, usize::MAX)
    }

    /// The first open task that is wanted. Makes no other one, and looks no further.
    pub fn open_task(&self, mut wanted: impl FnMut(TaskId) -> bool) -> Option<Task> {
        self.open(&mut wanted, 1).pop()
    }

    fn open(&self, wanted: &mut dyn FnMut(TaskId) -> bool, most: usize) -> Vec<Task> {
        if !matches!(self.state, RunState::Running | RunState::Paused) {
            return Vec::new();
        }
        let mut open = Open { tasks: Vec::new(), wanted, most };
        for index in 0..self.blocks.len() {
            self.open_in_block(index, &mut open);
        }
        self.open_in_network(&mut open);
        open.tasks
    }

    pub(super) fn task(&self, id: TaskId, work: Work) -> Task {
        Task { id, run: self.plan.run.clone(), submission: self.object.clone(), work }
    }

    fn open_in_block(&self, index: usize, tasks: &mut Open<'_>) {
        let (block, number) = (&self.blocks[index], index + 1);
        let classes = || block.classes.clone();
        let Some(weights) = block.weights() else {
            if self.is_replicated() {
                return self.open_round(index, tasks);
            }
            let round = u32::try_from(block.rounds.len()).unwrap_or(u32::MAX);
            let id = task_id(number, Stage::Train, round);
            if let Some(source) = tasks.wants(id).then(|| self.train_source(index)).flatten() {
                let from = block.rounds.last().map(|round| round.checkpoint.clone());
                tasks.push(self.task(id, Work::Train { round, replica: 0, classes: classes(), from, source }));
            }
            return;
        };
        let Some(hard) = &block.hard else {
            for shard in missing(self.plan.validation_shards, &block.confusions) {
                let id = task_id(number, Stage::Validate, shard);
                let part = ExportPart { split: Split::Validation, view: 0, shard };
                if let Some(source) = tasks.wants(id).then(|| self.shard_source(index, part)).flatten() {
                    let work = Work::Validate { shard, classes: classes(), weights: weights.clone(), source };
                    tasks.push(self.task(id, work));
                }
            }
            return;
        };
        if self.is_last(index) {
            return;
        }
        for number_of_part in missing(self.plan.export_count(), &block.exports) {
            if tasks.is_full() {
                return;
            }
            let id = task_id(number, Stage::Export, number_of_part);
            let part = self.plan.export_part(number_of_part);
            if let Some(source) = tasks.wants(id).then(|| self.shard_source(index, part)).flatten() {
                let (ExportPart { split, view, shard }, weights) = (part, weights.clone());
                let work = Work::Export { split, view, shard, classes: classes(), hard: hard.clone(), weights, source };
                tasks.push(self.task(id, work));
            }
        }
        let id = task_id(number, Stage::Detect, 0);
        let wanted = block.detector.is_none() && tasks.wants(id);
        if let Some(source) = wanted.then(|| self.view_source(index, &[0], false)).flatten() {
            let work = Work::Detect { classes: classes(), hard: hard.clone(), weights: weights.clone(), source };
            tasks.push(self.task(id, work));
        }
    }

    fn open_in_network(&self, tasks: &mut Open<'_>) {
        let Some(blocks) = self.network().filter(|_| !tasks.is_full()) else { return };
        let parts = self.plan.evaluate_parts();
        for part in missing(u32::try_from(parts.len()).unwrap_or(u32::MAX), &self.evaluated) {
            let id = task_id(0, Stage::Evaluate, part);
            if tasks.wants(id) {
                let (split, shard) = parts[part as usize];
                tasks.push(self.task(id, Work::Evaluate { split, shard, blocks: blocks.clone() }));
            }
        }
        let id = task_id(0, Stage::Finish, 0);
        if self.evaluated.len() == parts.len() && self.summary.is_none() && tasks.wants(id) {
            let of = |wanted: Split| -> Vec<ObjectRef> {
                let own = parts.iter().zip(self.evaluated.values()).filter(|((split, _), _)| *split == wanted);
                own.map(|(_, records)| records.clone()).collect()
            };
            let (validation, test) = (of(Split::Validation), of(Split::Test));
            let Some(progress) = self.progress() else { return };
            let work = Work::Finish { blocks, validation, test, progress, cache: self.cache(), seconds: self.seconds };
            tasks.push(self.task(id, work));
        }
    }

    fn before(&self, index: usize) -> Option<&Block> {
        index.checked_sub(1).and_then(|before| self.blocks.get(before))
    }

    /// Input of the next training round, when it is all there.
    pub(super) fn train_source(&self, index: usize) -> Option<Source> {
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

    fn shard_source(&self, index: usize, part: ExportPart) -> Option<Source> {
        if index == 0 {
            return Some(Source::Images);
        }
        let exported = self.before(index)?.exports.get(&self.plan.export_index(part))?;
        Some(Source::Cache(vec![exported.shard.clone()]))
    }

    fn cached(&self, index: usize, wanted: impl Fn(&ExportPart) -> bool) -> Option<Source> {
        let exports = &self.before(index)?.exports;
        let parts = (0..self.plan.export_count()).filter(|part| wanted(&self.plan.export_part(*part)));
        // Whether all of them are there is known before any is copied.
        let exported: Vec<&Exported> = parts.map(|part| exports.get(&part)).collect::<Option<_>>()?;
        Some(Source::Cache(exported.into_iter().map(|exported| exported.shard.clone()).collect()))
    }
}
