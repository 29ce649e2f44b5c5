//! The course of a run's training, from its committed rounds.

use super::block::Block;
use super::durable::Run;
use bloctrain_shared::history::{self, HistoryLine};

impl Run {
    /// A line for every epoch of every block.
    pub fn history(&self) -> Vec<HistoryLine> {
        let rounds = |block: &'_ Block| block.rounds.iter().map(|round| &round.metrics).collect::<Vec<_>>();
        history::lines(&self.submission.spec.train, self.blocks.iter().map(rounds))
    }
}
