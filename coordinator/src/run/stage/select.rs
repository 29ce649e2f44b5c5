//! The selection of hard inputs: once per block, from the scores of all its training samples.
//!
//! The rule is a task, because the coordinator reads no objects; which selection counts is decided here, by its commit.
//! All that trains on the selected samples names it.

use super::{Claim, Kind, Scope, is_own};
use crate::run::block::Block;
use crate::run::durable::Run;
use crate::run::open::{Open, task_id};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::spec::{EncodingKind, RunSpec};
use bloctrain_shared::stage::select;
use bloctrain_shared::task::{ObjectRef, Split, Stage, TaskId, Work};

pub(super) struct Select;

impl Kind for Select {
    fn open(&self, run: &Run, scope: Scope, tasks: &mut Open<'_>) {
        let Some((index, block)) = scope.selecting(run) else { return };
        let id = task_id(index + 1, Stage::Select, 0);
        let is_scored = block.scores.len() >= run.plan.train_shards as usize;
        // As long as the samples of the block are not known, nobody can tell whether the scores are of all of them.
        if block.selection.is_some() || !is_scored || run.uncached_source(index).is_none() || !tasks.wants(id) {
            return;
        }
        let (classes, among) = (block.classes.clone(), run.among(index));
        let scores = block.scores.values().cloned().collect();
        tasks.push(run.task(id, Work::Select(select::Work { classes, among, scores })));
    }

    fn is_committed(&self, run: &Run, task: TaskId) -> bool {
        Scope::of(task).block(run).is_some_and(|(_, block)| block.selection.is_some())
    }

    fn names<'r>(&self, run: &'r Run, scope: Scope) -> Vec<&'r ObjectRef> {
        scope.block(run).and_then(|(_, block)| block.selection.as_ref()).into_iter().collect()
    }

    fn lose(&self, run: &mut Run, scope: Scope, key: &str) -> Option<String> {
        let block = scope.block_mut(run)?;
        let lost = block.selection.take_if(|selection| selection.key == key)?;
        block.lost_selection = Some(lost.digest);
        Some("its hard inputs are selected again".into())
    }

    fn reset(&self, run: &mut Run, index: usize) {
        if let Some(block) = run.blocks.get_mut(index) {
            (block.selection, block.lost_selection) = (None, None);
        }
    }

    fn done(&self, run: &Run, scope: Scope) -> Option<(usize, usize)> {
        let (_, block) = scope.selecting(run)?;
        Some((usize::from(block.selection.is_some()), 1))
    }
}

impl Claim for select::Output {
    fn may_name(&self, run: &Run, task: TaskId, key: &str) -> bool {
        is_own(run, task, key)
    }

    fn check(&self, run: &Run, _: TaskId) -> Result<(), String> {
        let Self { samples, selected, .. } = *self;
        let (train, wrong) = (run.submission.dataset.train as u64, self.wrong.unwrap_or(0));
        if samples > train || selected > samples || wrong > selected {
            return Err(format!(
                "of {train} samples {samples} are the block's, {selected} selected, and {wrong} of those wrong"
            ));
        }
        Ok(())
    }

    fn commit(&self, run: &mut Run, task: TaskId, _: Option<&LabelMap>) -> Vec<String> {
        let Scope::Block(index) = Scope::of(task) else { return Vec::new() };
        let Some(block) = run.blocks.get_mut(index) else { return Vec::new() };
        let unneeded = std::mem::take(&mut block.scores).into_values().map(|scores| scores.key).collect();
        let lost = block.lost_selection.take();
        block.selection = Some(self.selection.clone());
        match lost {
            Some(lost) if lost != self.selection.digest => {
                run.note(format!(
                    "the hard inputs of block {} came out differently; what follows is done again",
                    index + 1
                ));
                begin_anew(run, index);
            }
            Some(_) => {}
            None => run.note(format!("after block {}: {}", index + 1, told(self, &run.submission.spec))),
        }
        unneeded
    }
}

/// Wrong answers among those selected, as a share below which a block has fitted what it was asked about.
const FITTED: f64 = 0.05;

/// What people read about a selection.
fn told(found: &select::Output, spec: &RunSpec) -> String {
    let select::Output { samples, selected, wrong, .. } = *found;
    let hard = format!("{selected} of {samples} training samples are hard");
    let Some(wrong) = wrong else { return hard };
    let is_same = spec.data.augment.is_empty() && spec.encoding.kind != EncodingKind::Poisson;
    let told = format!("{hard}, {wrong} of them answered wrongly");
    if !is_same || wrong as f64 >= FITTED * selected as f64 {
        return told;
    }
    let fitted =
        "it has fitted them, so its confidence tells little: data.augment would give views that it has not seen";
    format!("{told}; {fitted}")
}

/// Forgets what was made of another selection of a block's samples.
fn begin_anew(run: &mut Run, index: usize) {
    let plan = run.plan.clone();
    run.blocks.truncate(index + 1);
    run.evaluated.clear();
    let Some(block) = run.blocks.get_mut(index) else { return };
    block.detector = None;
    block.exports.retain(|part, _| plan.export_part(*part).split != Split::Train);
    let next = block.hard.clone().map(|hard| Block::new(hard, run.updated_ms));
    run.blocks.extend(next);
}
