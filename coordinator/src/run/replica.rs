//! What the replicas of a block have trained of the present round, and where each goes on.

use super::block::Block;
use super::round::{Part, Replica, Round};
use bloctrain_shared::stage::train::{Checkpoint, RoundMetrics};

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
    pub(super) fn next_of(&self, replica: u32) -> Option<Checkpoint> {
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
        let kept = |part: Part| {
            (Replica { optimizer: part.checkpoint.optimizer, links: part.links }, part.checkpoint.weights.key)
        };
        parts.map(kept).unzip()
    }
}
