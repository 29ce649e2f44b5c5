//! Merges of replicas: each ends a round. What one makes is a round, which `train` keeps.

use super::train::{incomplete, inherits, rounds_of, source};
use super::{Kind, Scope};
use crate::run::durable::Run;
use crate::run::open::{Open, task_id};
use bloctrain_shared::stage::merge;
use bloctrain_shared::task::{ObjectRef, Stage, TaskId, Trained, Work};

pub(super) struct Merge;

impl Kind for Merge {
    fn open(&self, run: &Run, scope: Scope, tasks: &mut Open<'_>) {
        let is_replicated = run.is_replicated();
        let Some((index, block)) = scope.block(run).filter(|(_, block)| is_replicated && block.weights().is_none())
        else {
            return;
        };
        let round = u32::try_from(block.rounds.len()).unwrap_or(u32::MAX);
        let id = task_id(index + 1, Stage::Merge, round);
        // As long as the input of the round is not there, its parts may have to be trained again.
        if !incomplete(run, index).is_empty() || !tasks.wants(id) || source(run, index).is_none() {
            return;
        }
        // A replica without a batch has nothing to say about the mean.
        let trained = block.parts.values().filter(|part| part.metrics.samples > 0);
        let replicas = trained
            .map(|part| Trained { weights: part.checkpoint.weights.clone(), metrics: part.metrics.clone() })
            .collect();
        let from = block.rounds.last().map(|round| round.checkpoint.clone());
        // It reads what it validates on.
        if let Some(source) = run.view_source(index, &[], run.plan.patience > 0) {
            let Some(inherits) = inherits(run, index, from.as_ref()) else { return };
            let classes = block.classes.clone();
            let work = merge::Work { round, classes, from, inherits, replicas, source };
            tasks.push(run.task(id, Work::Merge(work)));
        }
    }

    fn is_committed(&self, run: &Run, task: TaskId) -> bool {
        let block = Scope::of(task).block(run);
        block.is_some_and(|(_, block)| block.frozen.is_some() || (task.part as usize) < block.rounds.len())
    }

    /// Those of its rounds are named by `train`.
    fn names<'r>(&self, _: &'r Run, _: Scope) -> Vec<&'r ObjectRef> {
        Vec::new()
    }

    /// A round that is lost is trained again from its parts on.
    fn lose(&self, _: &mut Run, _: Scope, _: &str) -> Option<String> {
        None
    }

    fn reset(&self, _: &mut Run, _: usize) {}

    fn done(&self, run: &Run, scope: Scope) -> Option<(usize, usize)> {
        let (index, block) = scope.block(run).filter(|_| run.is_replicated())?;
        Some((block.rounds.len(), rounds_of(run, index)))
    }
}
