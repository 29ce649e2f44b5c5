//! Chains: which runs would train the same blocks.
//!
//! A block's *chain* is everything that its training depends on: the fields of the spec that reach training
//! ([`Submission::chain`](bloctrain_shared::plan::Submission::chain)), the data set, the arithmetic, and the classes,
//! frozen weights and selected inputs of all blocks before it, and its epochs where it has others than the first block.
//! Runs of one chain and one backend would make the same weights. What is here is derived from what lasts.

use crate::run::block::Block;
use crate::run::durable::{Durable, Run};
use bloctrain_shared::{Digest, key};
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
    precision: Option<String>,
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

fn chains(run: &Run, base: Digest) -> Vec<Digest> {
    let mut before = Some(base);
    let train = &run.submission.spec.train;
    let later = Some(train.epochs_of(2)).filter(|later| *later != train.epochs);
    let chain = |block: &Block| {
        let classes = Digest::of_json(&block.classes);
        let chain = Digest::of_parts(&[before?.as_bytes(), classes.as_bytes()]);
        before = block.weights().map(|weights| Digest::of_parts(&[chain.as_bytes(), weights.digest.as_bytes()]));
        if let Some(later) = later {
            before = before.map(|before| Digest::of_parts(&[before.as_bytes(), &later.to_le_bytes()]));
        }
        if run.selects() {
            let selection = block.selection.as_ref().zip(before);
            before = selection
                .map(|(selection, before)| Digest::of_parts(&[before.as_bytes(), selection.digest.as_bytes()]));
        }
        Some(chain)
    };
    run.blocks.iter().map_while(chain).collect()
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
            precision: run.precision().map(str::to_owned),
            goes_on: run.is_live(),
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
    pub(super) fn note(&mut self, run: &Run) -> bool {
        let id = &run.plan.run;
        let base = *self.bases.entry(id.clone()).or_insert_with(|| run.submission.chain());
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

    /// Forgets a run that is no more.
    pub(super) fn forget(&mut self, run: &str) {
        self.bases.remove(run);
        if let Some(before) = self.own.remove(run) {
            leave(&mut self.runs, &before.chains, run);
            leave(&mut self.named, &before.foreign, run);
        }
    }

    /// Chains of a run's blocks, as far as they are known.
    pub(super) fn of(&self, run: &str) -> &[Digest] {
        self.own.get(run).map_or(&[], |own| &own.chains)
    }

    /// Runs of a chain.
    pub(super) fn runs(&self, chain: Digest) -> impl Iterator<Item = &String> {
        self.runs.get(&chain).into_iter().flatten()
    }

    /// Whether a run names this object of another one.
    pub(super) fn is_named(&self, key: &str) -> bool {
        self.named.contains_key(key)
    }
}

/// Runs that train a chain for all others, as far as they were asked for.
pub(super) type Leaders = BTreeMap<Digest, Option<String>>;
