//! Frozen blocks that runs share: what another run trained from the same inputs is not trained again.
//!
//! A block's *chain* is everything that its training depends on: the spec without the fields that come later, the data set, the
//! arithmetic, and the classes and frozen weights of all blocks before it. Runs of one chain and one backend would make the
//! same weights. So one of them trains, the others wait, and get the frozen block by a record that says all of it
//! ([`Record::Shared`]). What is here is derived from what lasts.

use super::block::{Block, Round};
use super::record::{Durable, Run};
use super::worker::{Worker, fits};
use super::{Effect, Entry, Record, State};
use bloctrain_shared::plan::Submission;
use bloctrain_shared::task::{Stage, TaskId};
use bloctrain_shared::view::RunState;
use bloctrain_shared::{Digest, key};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// What sharing has to know of one run.
#[derive(Debug, Clone, PartialEq, Default)]
struct Own {
    /// Chains of its blocks, as far as all blocks before are frozen.
    chains: Vec<Digest>,
    /// Weights of its frozen blocks.
    frozen: Vec<Option<String>>,
    /// Objects of other runs that it names.
    foreign: Vec<String>,
    backend: Option<String>,
    goes_on: bool,
}

/// The chains of all runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Chains {
    /// By run: what does not change as long as it lives.
    bases: BTreeMap<String, Digest>,
    own: BTreeMap<String, Own>,
    runs: BTreeMap<Digest, BTreeSet<String>>,
    /// Runs that name an object of another run.
    named: BTreeMap<String, BTreeSet<String>>,
}

/// What the training of every block depends on.
fn base(submission: &Submission) -> Digest {
    let mut identity = submission.clone();
    let spec = &mut identity.spec;
    (spec.hard_classes, spec.detector, spec.exit) = Default::default();
    (spec.run.name, spec.data.name, spec.data.dir) = Default::default();
    spec.run.priority = 1;
    identity.dataset.name.clear();
    // The one that a run came to have is compared.
    identity.backend.clear();
    Digest::of_json(&identity)
}

fn chains(run: &Run, base: Digest) -> Vec<Digest> {
    let mut before = Some(base);
    let chain = |block: &Block| {
        let classes = Digest::of_json(&block.classes);
        let chain = Digest::of_parts(&[before?.as_bytes(), classes.as_bytes()]);
        before = block.weights().map(|weights| Digest::of_parts(&[chain.as_bytes(), weights.digest.as_bytes()]));
        Some(chain)
    };
    run.blocks.iter().map_while(chain).collect()
}

fn is_training(stage: Stage) -> bool {
    matches!(stage, Stage::Train | Stage::Merge)
}

impl Own {
    fn new(run: &Run, base: Digest) -> Self {
        let prefix = format!("{}/", key::run(&run.plan.run));
        let resumable = run.blocks.iter().flat_map(Block::resumable).map(|object| &object.key);
        Self {
            chains: chains(run, base),
            frozen: run.blocks.iter().map(|block| block.weights().map(|weights| weights.key.clone())).collect(),
            foreign: resumable.filter(|key| !key.starts_with(&prefix)).cloned().collect(),
            backend: run.backend().map(str::to_owned),
            goes_on: matches!(run.state, RunState::Running | RunState::Paused),
        }
    }
}

/// Takes a run out of some places.
fn leave<K: Ord>(places: &mut BTreeMap<K, BTreeSet<String>>, left: &[K], run: &str) {
    for place in left {
        let is_empty = places.get_mut(place).is_some_and(|runs| {
            runs.remove(run);
            runs.is_empty()
        });
        if is_empty {
            places.remove(place);
        }
    }
}

impl Chains {
    /// Those of everything that lasts.
    pub(super) fn new(durable: &Durable) -> Self {
        let mut chains = Self::default();
        for run in durable.runs.values() {
            chains.note(run);
        }
        chains
    }

    /// Follows a run; whether anything here changed.
    fn note(&mut self, run: &Run) -> bool {
        let id = &run.plan.run;
        let base = *self.bases.entry(id.clone()).or_insert_with(|| base(&run.submission));
        let own = Own::new(run, base);
        if self.own.get(id) == Some(&own) {
            return false;
        }
        if let Some(before) = self.own.remove(id) {
            leave(&mut self.runs, &before.chains, id);
            leave(&mut self.named, &before.foreign, id);
        }
        for chain in &own.chains {
            self.runs.entry(*chain).or_default().insert(id.clone());
        }
        for key in &own.foreign {
            self.named.entry(key.clone()).or_default().insert(id.clone());
        }
        self.own.insert(id.clone(), own);
        true
    }

    fn of(&self, run: &str) -> &[Digest] {
        self.own.get(run).map_or(&[], |own| &own.chains)
    }

    fn runs(&self, chain: Digest) -> impl Iterator<Item = &String> {
        self.runs.get(&chain).into_iter().flatten()
    }

    /// Whether a run names this object of another one.
    pub(super) fn is_named(&self, key: &str) -> bool {
        self.named.contains_key(key)
    }
}

/// Runs that train a chain for all others, as far as they were asked for.
pub(super) type Leaders = BTreeMap<Digest, Option<String>>;

impl State {
    /// Whether another run trains this block already, or will first, and a worker may take part in that.
    pub(super) fn is_led(&self, worker: &Worker, run: &Run, task: TaskId, leaders: &mut Leaders) -> bool {
        let index = (task.block as usize).wrapping_sub(1);
        let Some(&chain) = self.chains.of(&run.plan.run).get(index).filter(|_| is_training(task.stage)) else { return false };
        let leader = leaders.entry(chain).or_insert_with(|| self.leader(worker, chain, index));
        leader.as_ref().is_some_and(|leader| *leader != run.plan.run)
    }

    /// The run that trains a chain: by priority, rounds that are done, age.
    fn leader(&self, worker: &Worker, chain: Digest, index: usize) -> Option<String> {
        let runs = self.chains.runs(chain).filter_map(|run| self.durable.runs.get(run));
        let order = |run: &Run| {
            let block = run.blocks.get(index).filter(|block| block.frozen.is_none())?;
            let may = run.state == RunState::Running && fits(worker, run).is_ok();
            let order = (Reverse(run.submission.spec.run.priority), Reverse(block.rounds.len()), run.created_ms);
            may.then(|| (order, run.plan.run.clone()))
        };
        runs.filter_map(order).min().map(|(_, run)| run)
    }

    /// Gives frozen blocks to the runs that can use them, after a run changed.
    pub(super) fn share(&mut self, now: u64, run: &str) -> Vec<Effect> {
        let Some(known) = self.durable.runs.get(run) else { return Vec::new() };
        if !self.chains.note(known) {
            return Vec::new();
        }
        let of_chain = |(index, &chain): (usize, &Digest)| {
            let runs = || self.chains.runs(chain).filter_map(|run| self.durable.runs.get(run));
            let made: Vec<&Run> =
                runs().filter(|run| run.blocks.get(index).is_some_and(|block| block.frozen.is_some())).collect();
            let wanting = runs().filter(|_| !made.is_empty());
            wanting.filter_map(|run| shared(run, index, &made)).collect::<Vec<Record>>()
        };
        let records: Vec<Record> = self.chains.of(run).iter().enumerate().flat_map(of_chain).collect();
        records.into_iter().flat_map(|record| self.take_over(now, record)).collect()
    }

    fn take_over(&mut self, now: u64, record: Record) -> Vec<Effect> {
        let Record::Shared { run, block, from, .. } = &record else { return Vec::new() };
        let (run, block, text) = (run.clone(), *block, format!("block {block} is taken over from run {from}"));
        // Whoever trains it for this run may stop.
        let ended = self
            .attempts
            .end_where(|attempt| attempt.run == run && attempt.task.block == block && is_training(attempt.task.stage));
        let mut effects = self.persist(now, record);
        if let Some(known) = self.durable.runs.get(&run) {
            self.chains.note(known);
        }
        effects.extend(ended.iter().map(|attempt| Effect::Log(self.line(attempt, "dropped: another run made the block"))));
        effects.extend([Effect::Log(Entry { run: run.clone(), text, ..Entry::default() }), Effect::Changed { run }]);
        effects
    }
}

/// The frozen block of a chain, for a run that is still to train it; not one that this run found lost.
fn shared(run: &Run, index: usize, made: &[&Run]) -> Option<Record> {
    let wants = matches!(run.state, RunState::Running | RunState::Paused) && run.backend().is_some();
    run.blocks.get(index).filter(|block| wants && block.frozen.is_none())?;
    let usable = |owner: &&&Run| {
        let weights = owner.blocks[index].weights();
        owner.backend() == run.backend() && weights.is_some_and(|weights| !run.losses.contains_key(&weights.key))
    };
    let owner = made.iter().find(usable)?;
    let (block, frozen) = (&owner.blocks[index], owner.blocks[index].frozen?);
    let round = |(number, round): (usize, &Round)| Round { kept: number == frozen, replicas: Vec::new(), ..round.clone() };
    Some(Record::Shared {
        run: run.plan.run.clone(),
        block: u32::try_from(index + 1).ok()?,
        from: owner.plan.run.clone(),
        rounds: block.rounds.iter().enumerate().map(round).collect(),
        frozen,
    })
}

impl Run {
    /// Makes another run's frozen block its own. Returns keys of objects that nothing needs any more.
    pub(super) fn take_over(&mut self, block: u32, from: &str, rounds: Vec<Round>, frozen: usize) -> Vec<String> {
        let index = (block as usize).saturating_sub(1);
        let Some(own) = self.blocks.get_mut(index).filter(|own| own.frozen.is_none() && frozen < rounds.len()) else {
            return Vec::new();
        };
        let before: Vec<String> = own.resumable().map(|object| object.key.clone()).collect();
        own.parts.clear();
        (own.rounds, own.frozen) = (rounds, Some(frozen));
        let unneeded = own.unnamed(before);
        let is_other = |task: &TaskId| task.block != block || !is_training(task.stage);
        self.failures.retain(|(failed, _)| is_other(failed));
        self.failed_on.retain(|(failed, _)| is_other(failed));
        self.notes.push(format!("block {block} was trained by run {from}, which would train it the same way"));
        self.froze(index);
        unneeded
    }
}
