//! The detector of a block that is not the last.

use super::{Claim, Kind, Scope, is_own};
use crate::run::block::Detected;
use crate::run::durable::Run;
use crate::run::open::{Open, task_id};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::spec::DetectorPolicy;
use bloctrain_shared::stage::detect;
use bloctrain_shared::task::{ObjectRef, Stage, TaskId, Work};

pub(super) struct Detect;

impl Kind for Detect {
    fn open(&self, run: &Run, scope: Scope, tasks: &mut Open<'_>) {
        let Some((index, block)) = scope.block(run).filter(|(index, _)| !run.is_last(*index)) else { return };
        let (Some(weights), Some(hard)) = (block.weights(), &block.hard) else { return };
        let id = task_id(index + 1, Stage::Detect, 0);
        let is_known = !run.selects() || block.selection.is_some();
        let wanted = block.detector.is_none() && is_known && tasks.wants(id);
        let unseen = run.submission.spec.judges_unseen();
        let source = || if unseen { run.uncached_source(index) } else { run.view_source(index, &[0], false) };
        if let Some(source) = wanted.then(source).flatten() {
            let (classes, hard, weights) = (block.classes.clone(), hard.clone(), weights.clone());
            let (among, selection) = (run.among(index), block.selection.clone());
            let work = detect::Work { classes, hard, weights, among, selection, source };
            tasks.push(run.task(id, Work::Detect(work)));
        }
    }

    fn is_committed(&self, run: &Run, task: TaskId) -> bool {
        Scope::of(task).block(run).is_some_and(|(_, block)| block.detector.is_some())
    }

    fn names<'r>(&self, run: &'r Run, scope: Scope) -> Vec<&'r ObjectRef> {
        let detected = scope.block(run).and_then(|(_, block)| block.detector.as_ref());
        detected.and_then(|detected| detected.object.as_ref()).into_iter().collect()
    }

    fn lose(&self, run: &mut Run, scope: Scope, key: &str) -> Option<String> {
        let block = scope.block_mut(run)?;
        let detector = block.detector.as_ref().and_then(|detected| detected.object.as_ref());
        detector.filter(|detector| detector.key == key)?;
        block.detector = None;
        Some("its detector is trained again".into())
    }

    fn reset(&self, run: &mut Run, index: usize) {
        if let Some(block) = run.blocks.get_mut(index) {
            block.detector = None;
        }
    }

    fn done(&self, run: &Run, scope: Scope) -> Option<(usize, usize)> {
        let (_, block) = scope.block(run).filter(|(index, block)| block.hard.is_some() && !run.is_last(*index))?;
        Some((usize::from(block.detector.is_some()), 1))
    }
}

impl Claim for detect::Output {
    fn may_name(&self, run: &Run, task: TaskId, key: &str) -> bool {
        is_own(run, task, key)
    }

    fn check(&self, run: &Run, _: TaskId) -> Result<(), String> {
        let asked = run.submission.spec.detector.policy == DetectorPolicy::Learned;
        let fits = asked == self.detector.is_some();
        fits.then_some(()).ok_or_else(|| "it has a detector where none is learned, or none where one is".into())
    }

    fn commit(&self, run: &mut Run, task: TaskId, _: Option<&LabelMap>) -> Vec<String> {
        if let Some(block) = Scope::of(task).block_mut(run) {
            block.detector = Some(Detected { object: self.detector.clone() });
        }
        Vec::new()
    }
}
