//! Data-parallel rounds: parts that replicas train beside each other, the merge of all of them, and who has what in memory.

use super::State;
use super::block::{Block, Round};
use super::open::{Open, task_id};
use super::record::Run;
use bloctrain_shared::rounds::{Rounds, batch_count};
use bloctrain_shared::task::{Checkpoint, ObjectRef, RoundMetrics, Stage, Task, TaskId, Trained, Work};
use serde::{Deserialize, Serialize};

/// What a replica has trained since the last merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its state.
    pub checkpoint: Checkpoint,
    /// Whether it made all steps of the round; not when it was handed back.
    pub complete: bool,
    /// Metrics of the steps that it made.
    pub metrics: RoundMetrics,
    /// Links of its chain that are committed.
    pub links: u32,
}

/// What a replica keeps from one round to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    /// Its optimiser state.
    pub optimizer: ObjectRef,
    /// Links of its chain that are committed.
    pub links: u32,
}

/// Place of a replica in a round's list.
fn place(replica: u32) -> usize {
    (replica as usize).saturating_sub(1)
}

impl Block {
    fn kept(&self, replica: u32) -> Option<(&Round, &Replica)> {
        let round = self.rounds.last()?;
        Some((round, round.replicas.get(place(replica))?))
    }

    /// Links of a replica's chain that are committed.
    pub(super) fn links(&self, replica: u32) -> u32 {
        let part = self.parts.get(&replica).map(|part| part.links);
        part.or_else(|| self.kept(replica).map(|(_, kept)| kept.links)).unwrap_or(0)
    }

    /// Where a replica goes on: where it was handed back, or from the merged parameters with its own optimiser state.
    fn next_of(&self, replica: u32) -> Option<Checkpoint> {
        let merged = |(round, kept): (&Round, &Replica)| Checkpoint {
            weights: round.checkpoint.weights.clone(),
            optimizer: kept.optimizer.clone(),
        };
        self.parts.get(&replica).map(|part| part.checkpoint.clone()).or_else(|| self.kept(replica).map(merged))
    }

    /// Adds what a replica trained. Returns keys of objects that nothing needs any more.
    pub(super) fn add_part(
        &mut self,
        replica: u32,
        checkpoint: Checkpoint,
        complete: bool,
        metrics: RoundMetrics,
    ) -> Vec<String> {
        let links = self.links(replica) + 1;
        let before = self.parts.remove(&replica);
        let metrics = before
            .as_ref()
            .map_or_else(|| metrics.clone(), |before| RoundMetrics::joined([&before.metrics, &metrics].into_iter()));
        self.parts.insert(replica, Part { checkpoint, complete, metrics, links });
        let old = before.map(|part| [part.checkpoint.weights.key, part.checkpoint.optimizer.key]);
        self.unnamed(old.into_iter().flatten().collect())
    }

    /// Ends the round of the replicas: what they keep, and keys of parameters that the merge has used up.
    pub(super) fn take_parts(&mut self) -> (Vec<Replica>, Vec<String>) {
        let parts = std::mem::take(&mut self.parts).into_values();
        let kept =
            |part: Part| (Replica { optimizer: part.checkpoint.optimizer, links: part.links }, part.checkpoint.weights.key);
        parts.map(kept).unzip()
    }

    /// Stored objects of rounds and parts that training may still go on from.
    pub fn resumable(&self) -> impl Iterator<Item = &ObjectRef> {
        let kept = self.rounds.iter().filter(|round| round.kept).flat_map(Round::objects);
        kept.chain(self.parts.values().flat_map(|part| [&part.checkpoint.weights, &part.checkpoint.optimizer]))
    }

    /// Those of some keys that no round and no part names: objects are named by their content, so two may share one.
    pub(super) fn unnamed(&self, mut keys: Vec<String>) -> Vec<String> {
        keys.retain(|key| self.resumable().all(|object| object.key != *key));
        keys
    }
}

impl Run {
    fn replicas(&self) -> u32 {
        self.submission.spec.train.replicas
    }

    /// Whether blocks are trained by more than one replica.
    pub(super) fn is_replicated(&self) -> bool {
        self.replicas() > 1
    }

    /// Parts of the present round of a block that are not complete, or their merge.
    pub(super) fn open_round(&self, index: usize, tasks: &mut Open<'_>) {
        let (block, number) = (&self.blocks[index], index + 1);
        let round = u32::try_from(block.rounds.len()).unwrap_or(u32::MAX);
        let is_open = |replica: &u32| !block.parts.get(replica).is_some_and(|part| part.complete);
        let open: Vec<u32> = (1..=self.replicas()).filter(is_open).collect();
        let id = |replica: u32| TaskId { replica, ..task_id(number, Stage::Train, block.links(replica)) };
        let wanted: Vec<u32> = open.iter().copied().filter(|replica| tasks.wants(id(*replica))).collect();
        let merge = task_id(number, Stage::Merge, round);
        if wanted.is_empty() && !(open.is_empty() && tasks.wants(merge)) {
            return;
        }
        let Some(source) = self.train_source(index) else { return };
        for replica in wanted {
            let (classes, from) = (block.classes.clone(), block.next_of(replica));
            let work = Work::Train { round, replica, classes, from, source: source.clone() };
            tasks.push(self.task(id(replica), work));
        }
        if !open.is_empty() {
            return;
        }
        // A replica without a batch has nothing to say about the mean.
        let trained = block.parts.values().filter(|part| part.metrics.samples > 0);
        let replicas =
            trained.map(|part| Trained { weights: part.checkpoint.weights.clone(), metrics: part.metrics.clone() }).collect();
        let from = block.rounds.last().map(|round| round.checkpoint.clone());
        if let Some(source) = self.merge_source(index) {
            let work = Work::Merge { round, classes: block.classes.clone(), from, replicas, source };
            tasks.push(self.task(merge, work));
        }
    }

    /// Rounds of training of a block in all, as far as they are known.
    pub(super) fn rounds_of(&self, index: usize) -> usize {
        let (block, train) = (&self.blocks[index], &self.submission.spec.train);
        let metrics =
            block.rounds.last().map(|round| &round.metrics).or_else(|| block.parts.values().next().map(|part| &part.metrics));
        let per_epoch = match metrics.map(|metrics| metrics.epoch_samples) {
            Some(samples) if self.is_replicated() => Rounds::of(train, batch_count(samples, train.batch)).per_epoch(),
            _ => 1,
        };
        if block.frozen.is_some() {
            return block.rounds.len();
        }
        block.rounds.len().max(train.epochs as usize * per_epoch as usize)
    }
}

impl State {
    /// Notes who has a block, or a replica of it, in memory: a worker keeps one.
    pub(super) fn trained(&mut self, run: &str, task: TaskId, worker: u64, committed: bool) {
        let place = (run.to_owned(), task.block, task.replica);
        if committed {
            self.trainers.retain(|_, trainer| *trainer != worker);
            self.trainers.insert(place, worker);
        } else {
            // Nobody waits for a worker that failed.
            self.trainers.remove(&place);
        }
    }

    /// The part of the replica that a worker has in memory, in place of another replica's part of the same round.
    pub(super) fn in_memory(&self, worker: u64, task: Task) -> Task {
        let is_own = |other: TaskId| {
            let place = (task.run.clone(), other.block, other.replica);
            other.stage == task.id.stage && other.block == task.id.block && self.trainers.get(&place) == Some(&worker)
        };
        let is_free = |run: &Run, other: TaskId| {
            self.attempts.of_task(&task.run, other).next().is_none() && !self.is_for_others(worker, run, other)
        };
        let run = self.durable.runs.get(&task.run).filter(|_| task.id.replica > 0);
        run.and_then(|run| run.open_task(|other| is_own(other) && is_free(run, other))).unwrap_or(task)
    }
}
