//! Which weights the spikes that each block was trained on came from.

use bloctrain_coordinator::run::durable::Run;
use bloctrain_shared::Digest;
use std::collections::{BTreeMap, BTreeSet};

/// What was made of what.
#[derive(Default)]
pub(crate) struct Lineage {
    /// Spikes that a round was trained on, by the weights that it made.
    spikes: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Weights by the spikes that were made with them.
    weights: BTreeMap<Digest, Digest>,
}

impl Lineage {
    pub(crate) fn trained(&mut self, weights: Digest, spikes: BTreeSet<Digest>) {
        self.spikes.insert(weights, spikes);
    }

    pub(crate) fn merged(&mut self, weights: Digest, replicas: &[Digest]) {
        let spikes = replicas.iter().filter_map(|replica| self.spikes.get(replica)).flatten().copied().collect();
        self.spikes.insert(weights, spikes);
    }

    pub(crate) fn exported(&mut self, spikes: Digest, weights: Digest) {
        self.weights.insert(spikes, weights);
    }

    /// Whether these spikes were made with these weights.
    pub(crate) fn is_of(&self, spikes: Digest, weights: Digest) -> bool {
        self.weights.get(&spikes) == Some(&weights)
    }

    /// Every round of every block was trained on spikes of the weights that the block before has now.
    pub(crate) fn check(&self, run: &Run) -> Result<(), String> {
        for (index, pair) in run.blocks.windows(2).enumerate() {
            // While they are made again there is nothing to compare with.
            let Some(before) = pair[0].weights() else { continue };
            let rounds = pair[1].rounds.iter().map(|round| round.checkpoint.weights.digest);
            let read = rounds.filter_map(|weights| self.spikes.get(&weights)).flatten();
            if read.filter_map(|spikes| self.weights.get(spikes)).any(|weights| *weights != before.digest) {
                let number = index + 2;
                return Err(format!(
                    "block {number} was trained on spikes of weights that the block before does not have"
                ));
            }
        }
        Ok(())
    }
}
