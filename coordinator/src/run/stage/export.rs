//! Cached shards: the spikes of a block that is not the last, on its hard samples. Training shards wait until hard
//! inputs are selected, where they are; validation shards have all samples then.

use super::{Claim, Kind, Scope, take_lost};
use crate::run::claim::count;
use crate::run::durable::Run;
use crate::run::open::{Open, missing, task_id};
use bloctrain_shared::key;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::plan::ExportPart;
use bloctrain_shared::stage::export;
use bloctrain_shared::task::{ObjectRef, Split, Stage, TaskId, Work};

pub(super) struct Export;

impl Kind for Export {
    fn open(&self, run: &Run, scope: Scope, tasks: &mut Open<'_>) {
        let Some((index, block)) = scope.block(run).filter(|(index, _)| !run.is_last(*index)) else { return };
        let (Some(weights), Some(hard)) = (block.weights(), &block.hard) else { return };
        if run.shards_gone {
            return;
        }
        for number in missing(run.plan.export_count(), &block.exports) {
            if tasks.is_full() {
                return;
            }
            let (id, part) = (task_id(index + 1, Stage::Export, number), run.plan.export_part(number));
            let trains = part.split == Split::Train;
            if trains && run.selects() && block.selection.is_none() {
                continue;
            }
            if let Some(source) = tasks.wants(id).then(|| run.shard_source(index, part)).flatten() {
                let ExportPart { split, view, shard } = part;
                let (classes, hard, weights) = (block.classes.clone(), hard.clone(), weights.clone());
                let (among, selection) =
                    if trains { (run.among(index), block.selection.clone()) } else { Default::default() };
                let work = export::Work { split, view, shard, classes, hard, weights, among, selection, source };
                tasks.push(run.task(id, Work::Export(work)));
            }
        }
    }

    fn is_committed(&self, run: &Run, task: TaskId) -> bool {
        let block = Scope::of(task).block(run);
        block.is_some_and(|(_, block)| run.shards_gone || block.exports.contains_key(&task.part))
    }

    /// Other runs may share them, so they outlast the run.
    fn names<'r>(&self, run: &'r Run, scope: Scope) -> Vec<&'r ObjectRef> {
        let exports = scope.block(run).into_iter().flat_map(|(_, block)| block.exports.values());
        exports.map(|exported| &exported.shard.object).collect()
    }

    fn lose(&self, run: &mut Run, scope: Scope, key: &str) -> Option<String> {
        let block = scope.block_mut(run)?;
        take_lost(&mut block.exports, |exported| exported.shard.object.key == key)
            .then(|| "the cached shard is computed again".into())
    }

    fn reset(&self, run: &mut Run, index: usize) {
        if let Some(block) = run.blocks.get_mut(index) {
            block.exports.clear();
        }
    }

    fn done(&self, run: &Run, scope: Scope) -> Option<(usize, usize)> {
        let (_, block) = scope.block(run).filter(|(index, block)| block.hard.is_some() && !run.is_last(*index))?;
        let shards = run.plan.export_count() as usize;
        Some((if run.shards_gone { shards } else { block.exports.len() }, shards))
    }
}

impl Claim for export::Output {
    fn may_name(&self, _: &Run, _: TaskId, key: &str) -> bool {
        key::is_cached(key)
    }

    fn check(&self, run: &Run, task: TaskId) -> Result<(), String> {
        let shard = &self.shard;
        let part = ExportPart { split: shard.split, view: shard.view, shard: shard.shard };
        if task.part >= run.plan.export_count() || run.plan.export_part(task.part) != part {
            return Err(format!(
                "it made shard {} of view {} of the {} split",
                shard.shard,
                shard.view,
                shard.split.name()
            ));
        }
        count("the size of the spikes", self.uncompressed_bytes)
    }

    fn commit(&self, run: &mut Run, task: TaskId, _: Option<&LabelMap>) -> Vec<String> {
        if let Some(block) = Scope::of(task).block_mut(run) {
            block.exports.insert(task.part, self.clone());
        }
        note_reuse(run, task);
        Vec::new()
    }
}

fn note_reuse(run: &mut Run, task: TaskId) {
    let parts = run.plan.export_count() as usize;
    let complete = Scope::of(task).block(run).filter(|(_, block)| block.exports.len() == parts);
    let Some((index, block)) = complete else { return };
    let reused = block.exports.values().filter(|exported| exported.reused).count();
    let note = format!("block {}: {reused} of {parts} cached shards were there already and are used again", index + 1);
    if reused > 0 && !run.notes.contains(&note) {
        run.note(note);
    }
}
