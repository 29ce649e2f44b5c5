//! The end of a run: its figures, and the model package, which no run owns.

use super::{Claim, Kind, Scope, evaluate, is_own};
use crate::run::claim::{MAX_NAME, MAX_PATH, fraction, is_name, measure};
use crate::run::durable::Run;
use crate::run::open::{Open, task_id};
use bloctrain_shared::key;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::stage::finish;
use bloctrain_shared::task::{ObjectRef, Split, Stage, TaskId, Work};
use bloctrain_shared::view::RunState;

/// Most notes on a run's figures: some, and one of every block.
const MAX_REMARKS: usize = 10_000;

pub(super) struct Finish;

impl Kind for Finish {
    fn open(&self, run: &Run, scope: Scope, tasks: &mut Open<'_>) {
        let id = task_id(0, Stage::Finish, 0);
        let is_evaluated = scope == Scope::Network && run.evaluated.len() == evaluate::count(run);
        if !is_evaluated || self.is_committed(run, id) || !tasks.wants(id) {
            return;
        }
        let (Some(blocks), Some(progress)) = (run.network(), run.progress()) else { return };
        let parts = run.plan.evaluate_parts();
        let of = |wanted: Split| -> Vec<ObjectRef> {
            let own = parts.iter().zip(run.evaluated.values()).filter(|((split, _), _)| *split == wanted);
            own.map(|(_, records)| records.clone()).collect()
        };
        let (validation, test) = (of(Split::Validation), of(Split::Test));
        // Of a package that is made again the figures stay as they were.
        let (cache, seconds) =
            run.summary.as_ref().map_or_else(|| (run.cache(), run.seconds), |done| (done.cache, done.wall_seconds));
        let work = finish::Work { blocks, validation, test, progress, cache, seconds };
        tasks.push(run.task(id, Work::Finish(work)));
    }

    fn is_committed(&self, run: &Run, _: TaskId) -> bool {
        run.summary.is_some() && !run.package_lost
    }

    /// Model packages are no candidates of garbage collection.
    fn names<'r>(&self, _: &'r Run, _: Scope) -> Vec<&'r ObjectRef> {
        Vec::new()
    }

    /// A package that is gone is made again, and so is what that takes.
    fn lose(&self, run: &mut Run, scope: Scope, key: &str) -> Option<String> {
        let is_own =
            scope == Scope::Network && key.starts_with(&key::model(&run.plan.run, "")) && run.summary.is_some();
        is_own.then(|| {
            (run.package_lost, run.state) = (true, RunState::Running);
            "the model package is made again".into()
        })
    }

    /// A run that has its figures has ended.
    fn reset(&self, _: &mut Run, _: usize) {}

    fn done(&self, run: &Run, scope: Scope) -> Option<(usize, usize)> {
        (scope == Scope::Network).then(|| (usize::from(run.summary.is_some() && !run.package_lost), 1))
    }
}

impl Claim for finish::Output {
    fn may_name(&self, run: &Run, task: TaskId, key: &str) -> bool {
        is_own(run, task, key)
    }

    fn check(&self, run: &Run, _: TaskId) -> Result<(), String> {
        let summary = &self.summary;
        if summary.run != run.plan.run || summary.blocks.len() > run.blocks.len() {
            return Err("its figures are those of another run".into());
        }
        if !is_name(&summary.dataset) || summary.model.len() > MAX_PATH || summary.report.len() > MAX_PATH {
            return Err(format!("it has a name above {MAX_NAME} bytes, or a path above {MAX_PATH}"));
        }
        if summary.notes.len() > MAX_REMARKS || summary.notes.iter().any(|note| note.len() > MAX_PATH) {
            return Err(format!("it has more than {MAX_REMARKS} notes, or one above {MAX_PATH} bytes"));
        }
        fraction("the test accuracy", summary.accuracy.test)?;
        fraction("the validation accuracy", summary.accuracy.validation)?;
        for (figures, block) in summary.blocks.iter().zip(&run.blocks) {
            let classes = block.classes.len();
            if figures.classes != classes
                || figures.class_accuracy.len() != classes
                || figures.hard_classes.len() > classes
            {
                return Err(format!("block {} has {classes} classes", figures.block));
            }
            fraction("a block's accuracy", figures.accuracy)?;
            figures
                .class_accuracy
                .iter()
                .flatten()
                .try_for_each(|accuracy| fraction("the accuracy of a class", *accuracy))?;
            fraction("the share of exits", figures.exit_fraction)?;
            fraction("the firing rate", figures.firing_rate)?;
        }
        measure("the time of work", summary.wall_seconds)
    }

    fn commit(&self, run: &mut Run, _: TaskId, _: Option<&LabelMap>) -> Vec<String> {
        run.summary = Some((*self.summary).clone());
        (run.package_lost, run.state) = (false, RunState::Completed);
        let own = key::model(&run.plan.run, "");
        run.losses.retain(|key, _| !key.starts_with(&own));
        Vec::new()
    }
}
