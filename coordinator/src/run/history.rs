//! The course of a run's training, from its committed rounds.

use super::block::Block;
use super::durable::Run;
use super::round::Round;
use bloctrain_shared::history::{self, HistoryLine};
use bloctrain_shared::stage::train::RoundMetrics;

fn metrics(round: &Round) -> &RoundMetrics {
    &round.metrics
}

fn rounds(block: &Block) -> impl Iterator<Item = &RoundMetrics> {
    block.rounds.iter().map(metrics)
}

impl Run {
    /// A line for every epoch of every block.
    pub fn history(&self) -> Vec<HistoryLine> {
        history::lines(&self.submission.spec.train, self.blocks.iter().map(rounds))
    }
}
