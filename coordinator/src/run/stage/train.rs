//! Rounds of training: a chain of them, or with replicas a chain of each replica up to the next merge.

use super::{Claim, Kind, Scope, is_own};
use crate::run::block::Block;
use crate::run::claim::{count, fraction, measure};
use crate::run::durable::Run;
use crate::run::open::{Open, task_id};
use crate::run::round::{Part, Round};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::rounds::{Rounds, batch_count};
use bloctrain_shared::spec::network::AuxiliaryKind;
use bloctrain_shared::stage::train;
use bloctrain_shared::task::{ObjectRef, RoundMetrics, Source, Stage, TaskId, Work};

/// Most layers whose firing rates a report may name.
const MAX_LAYERS: usize = 10_000;

pub(super) struct Train;

impl Kind for Train {
    fn open(&self, run: &Run, scope: Scope, tasks: &mut Open<'_>) {
        let Some((index, block)) = scope.block(run).filter(|(_, block)| block.weights().is_none()) else { return };
        if run.is_replicated() {
            return open_parts(run, index, tasks);
        }
        let round = u32::try_from(block.rounds.len()).unwrap_or(u32::MAX);
        let id = task_id(index + 1, Stage::Train, round);
        if let Some(source) = tasks.wants(id).then(|| source(run, index)).flatten() {
            let from = block.rounds.last().map(|round| round.checkpoint.clone());
            let Some(inherits) = inherits(run, index, from.as_ref()) else { return };
            let (classes, among) = (block.classes.clone(), run.among(index));
            let work = train::Work { round, replica: 0, classes, from, inherits, among, source };
            tasks.push(run.task(id, Work::Train(work)));
        }
    }

    fn is_committed(&self, run: &Run, task: TaskId) -> bool {
        let links = |block: &Block| match task.replica {
            0 => block.rounds.len(),
            replica => block.links(replica) as usize,
        };
        let block = Scope::of(task).block(run);
        block.is_some_and(|(_, block)| block.frozen.is_some() || (task.part as usize) < links(block))
    }

    /// The final weights; until the run is completed also what training may go on from.
    fn names<'r>(&self, run: &'r Run, scope: Scope) -> Vec<&'r ObjectRef> {
        let Some((_, block)) = scope.block(run) else { return Vec::new() };
        let resumable = (!run.is_completed()).then(|| block.resumable());
        block.weights().into_iter().chain(resumable.into_iter().flatten()).collect()
    }

    fn lose(&self, run: &mut Run, scope: Scope, key: &str) -> Option<String> {
        let block = scope.block_mut(run)?;
        let names = |round: &Round| round.kept && round.objects().any(|object| object.key == key);
        if let Some(index) = block.rounds.iter().position(names) {
            return Some(block.lose_round(index));
        }
        let of = |part: &Part| part.checkpoint.weights.key == key || part.checkpoint.optimizer.key == key;
        let replica = block.parts.iter().find(|(_, part)| of(part)).map(|(&replica, _)| replica)?;
        block.parts.retain(|_, part| !of(part));
        Some(format!("replica {replica} trains its part of the round again"))
    }

    /// The rounds are what came out differently.
    fn reset(&self, _: &mut Run, _: usize) {}

    fn done(&self, run: &Run, scope: Scope) -> Option<(usize, usize)> {
        let (index, block) = scope.block(run)?;
        let (done, rounds) = (block.rounds.len(), rounds_of(run, index));
        if !run.is_replicated() {
            return Some((done, rounds));
        }
        let replicas = run.submission.spec.train.replicas as usize;
        let parts = block.parts.values().filter(|part| part.complete).count();
        Some((done * replicas + parts, rounds * replicas))
    }
}

/// Replicas, from 1, that have not made all steps of the present round of a block.
pub(super) fn incomplete(run: &Run, index: usize) -> Vec<u32> {
    let parts = &run.blocks[index].parts;
    let is_open = |replica: &u32| !parts.get(replica).is_some_and(|part| part.complete);
    (1..=run.submission.spec.train.replicas).filter(is_open).collect()
}

fn open_parts(run: &Run, index: usize, tasks: &mut Open<'_>) {
    let block = &run.blocks[index];
    let round = u32::try_from(block.rounds.len()).unwrap_or(u32::MAX);
    let id = |replica: u32| TaskId { replica, ..task_id(index + 1, Stage::Train, block.links(replica)) };
    let wanted: Vec<u32> = incomplete(run, index).into_iter().filter(|replica| tasks.wants(id(*replica))).collect();
    if wanted.is_empty() {
        return;
    }
    let Some(source) = source(run, index) else { return };
    for replica in wanted {
        let (classes, from, among) = (block.classes.clone(), block.next_of(replica), run.among(index));
        let Some(inherits) = inherits(run, index, from.as_ref()) else { return };
        let work = train::Work { round, replica, classes, from, inherits, among, source: source.clone() };
        tasks.push(run.task(id(replica), Work::Train(work)));
    }
}

/// The weights that a block takes its first values from, where it does and `from` says that it is not trained yet;
/// `None` as long as they are not there.
pub(super) fn inherits(run: &Run, index: usize, from: Option<&train::Checkpoint>) -> Option<Option<ObjectRef>> {
    let is_first = from.is_none() && run.submission.spec.network.auxiliary.kind == AuxiliaryKind::Next;
    match index.checked_sub(1).filter(|_| is_first) {
        Some(before) => run.blocks[before].weights().cloned().map(Some),
        None => Some(None),
    }
}

/// Input of the next round, when it is all there.
pub(super) fn source(run: &Run, index: usize) -> Option<Source> {
    let (plan, epoch) = (&run.plan, run.blocks[index].epochs());
    if run.is_replicated() {
        // No round of replicas reaches into the next epoch, and the merge validates.
        return run.view_source(index, &[plan.view(epoch)], false);
    }
    let reaches_on = run.submission.spec.train.round_steps > 0;
    let views: Vec<u32> = if reaches_on { (0..plan.views).collect() } else { vec![plan.view(epoch)] };
    run.view_source(index, &views, plan.patience > 0)
}

/// Rounds of training of a block in all, as far as they are known.
pub(super) fn rounds_of(run: &Run, index: usize) -> usize {
    let (block, train) = (&run.blocks[index], &run.submission.spec.train);
    let metrics = block
        .rounds
        .last()
        .map(|round| &round.metrics)
        .or_else(|| block.parts.values().next().map(|part| &part.metrics));
    let per_epoch = match metrics.map(|metrics| metrics.epoch_samples) {
        Some(samples) if run.is_replicated() => Rounds::of(train, batch_count(samples, train)).per_epoch(),
        _ => 1,
    };
    if block.frozen.is_some() {
        return block.rounds.len();
    }
    block.rounds.len().max(train.epochs_of(u32::try_from(index + 1).unwrap_or(u32::MAX)) as usize * per_epoch as usize)
}

impl Claim for train::Output {
    fn may_name(&self, run: &Run, task: TaskId, key: &str) -> bool {
        is_own(run, task, key)
    }

    fn check(&self, run: &Run, task: TaskId) -> Result<(), String> {
        let (last, epochs) = (run.submission.spec.train.epochs_of(task.block), self.metrics.epochs);
        let before = Scope::of(task).block(run).map_or(0, |(_, block)| block.epochs());
        if !(before..=last).contains(&epochs) {
            return Err(format!("{epochs} epochs are done after {before} of {last}"));
        }
        if self.finished != (epochs == last) {
            return Err(format!("training has ended with {epochs} of {last} epochs, or goes on after all of them"));
        }
        figures(run, &self.metrics)
    }

    fn commit(&self, run: &mut Run, task: TaskId, _: Option<&LabelMap>) -> Vec<String> {
        let (Self { checkpoint, finished, metrics }, patience) = (self.clone(), run.plan.patience);
        let Scope::Block(index) = Scope::of(task) else { return Vec::new() };
        let Some(block) = run.blocks.get_mut(index) else { return Vec::new() };
        let (replicas, merged) = block.take_parts();
        let mut unneeded = block.add_round(Round { checkpoint, metrics, kept: true, replicas }, finished, patience);
        unneeded.extend(block.unnamed(merged));
        super::froze(run, index);
        unneeded
    }
}

impl Claim for train::Part {
    fn may_name(&self, run: &Run, task: TaskId, key: &str) -> bool {
        is_own(run, task, key)
    }

    fn check(&self, run: &Run, _: TaskId) -> Result<(), String> {
        figures(run, &self.metrics)
    }

    fn commit(&self, run: &mut Run, task: TaskId, _: Option<&LabelMap>) -> Vec<String> {
        let Self { checkpoint, complete, metrics } = self.clone();
        let Some(block) = Scope::of(task).block_mut(run) else { return Vec::new() };
        block.add_part(task.replica, checkpoint, complete, metrics)
    }
}

fn figures(run: &Run, metrics: &RoundMetrics) -> Result<(), String> {
    let train = run.submission.dataset.train;
    if metrics.epoch_samples > train {
        return Err(format!("an epoch has {} samples, the data set {train}", metrics.epoch_samples));
    }
    fraction("the training accuracy", metrics.accuracy)?;
    fraction("the validation accuracy", metrics.validation_accuracy.unwrap_or(0.0))?;
    fraction("the firing rate", metrics.firing_rate)?;
    if metrics.firing_rates.len() > MAX_LAYERS {
        return Err(format!("it has the firing rates of more than {MAX_LAYERS} layers"));
    }
    metrics.firing_rates.iter().try_for_each(|rate| fraction("the firing rate of a layer", *rate))?;
    measure("the loss", metrics.loss.abs())?;
    measure("the time of training", metrics.seconds)?;
    measure("the time of waiting", metrics.waiting_seconds)?;
    count("the number of samples", metrics.samples)?;
    count("the memory", metrics.peak_memory_bytes)?;
    count("the number of parameters", metrics.parameters as u64)
}
