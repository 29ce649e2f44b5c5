//! Records: answers of the whole network to validation and test shards.

use super::{Claim, Kind, Scope, is_own, take_lost};
use crate::run::durable::Run;
use crate::run::open::{Open, missing, task_id};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::stage::evaluate;
use bloctrain_shared::task::{ObjectRef, Stage, TaskId, Work};

pub(super) struct Evaluate;

impl Kind for Evaluate {
    fn open(&self, run: &Run, scope: Scope, tasks: &mut Open<'_>) {
        if scope != Scope::Network || tasks.is_full() || run.evaluated.len() == count(run) {
            return;
        }
        let Some(blocks) = run.network() else { return };
        let parts = run.plan.evaluate_parts();
        for part in missing(u32::try_from(parts.len()).unwrap_or(u32::MAX), &run.evaluated) {
            let id = task_id(0, Stage::Evaluate, part);
            if tasks.wants(id) {
                let (split, shard) = parts[part as usize];
                let work = evaluate::Work { split, shard, blocks: blocks.clone() };
                tasks.push(run.task(id, Work::Evaluate(work)));
            }
        }
    }

    fn is_committed(&self, run: &Run, task: TaskId) -> bool {
        run.evaluated.contains_key(&task.part)
    }

    /// Once the run is completed, its figures are made.
    fn names<'r>(&self, run: &'r Run, scope: Scope) -> Vec<&'r ObjectRef> {
        let is_needed = scope == Scope::Network && !run.is_completed();
        run.evaluated.values().filter(|_| is_needed).collect()
    }

    fn lose(&self, run: &mut Run, scope: Scope, key: &str) -> Option<String> {
        if scope != Scope::Network {
            return None;
        }
        take_lost(&mut run.evaluated, |records| records.key == key).then(|| "it is evaluated again".into())
    }

    fn reset(&self, run: &mut Run, _: usize) {
        run.evaluated.clear();
    }

    fn done(&self, run: &Run, scope: Scope) -> Option<(usize, usize)> {
        (scope == Scope::Network).then(|| (run.evaluated.len(), count(run)))
    }
}

/// Tasks of the stage.
pub(super) fn count(run: &Run) -> usize {
    run.plan.validation_shards as usize + run.plan.test_shards as usize
}

impl Claim for evaluate::Output {
    fn may_name(&self, run: &Run, task: TaskId, key: &str) -> bool {
        is_own(run, task, key)
    }

    /// Whoever reads the records compares them with the data set.
    fn check(&self, _: &Run, _: TaskId) -> Result<(), String> {
        Ok(())
    }

    fn commit(&self, run: &mut Run, task: TaskId, _: Option<&LabelMap>) -> Vec<String> {
        run.evaluated.insert(task.part, self.records.clone());
        Vec::new()
    }
}
