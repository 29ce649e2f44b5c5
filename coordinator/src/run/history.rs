//! The course of a run's training, from its committed rounds.

use super::durable::Run;
use bloctrain_shared::history::{self, HistoryLine};

impl Run {
    /// A line for every epoch of every block.
    pub fn history(&self) -> Vec<HistoryLine> {
        let blocks = self.blocks.iter().map(|block| block.rounds.iter().map(|round| &round.metrics));
        history::lines(&self.submission.spec.train, blocks)
    }
}
