//! The epochs of a run, as `models/RUN/history.jsonl` has them; what is not there yet, from the committed rounds.

use crate::run::detail::RunDetail;
use bloctrain_shared::key;
use bloctrain_shared::stage::train::RoundMetrics;
use bloctrain_store::{Artefacts, ErrorKind, StoreError};
use serde::{Deserialize, Serialize};

/// File of a run's history among those of its package.
const FILE: &str = "history.jsonl";

/// One epoch of a block, or a part of one that was committed by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct HistoryLine {
    /// The block, from 1.
    pub(super) block: u32,
    /// What was done: `train`.
    pub(super) stage: String,
    /// Epochs of the block that are done with it.
    pub(super) epoch: u32,
    /// The round that it is of.
    pub(super) round: u32,
    /// Samples trained on.
    pub(super) samples: u64,
    /// Mean loss.
    pub(super) loss: f64,
    /// Training accuracy in [0, 1].
    pub(super) accuracy: f64,
    /// Validation accuracy in [0, 1], where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) validation_accuracy: Option<f64>,
    /// Firing rates in [0, 1]: of every spiking layer, or the mean alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) firing_rates: Option<Vec<f64>>,
    /// Learning rate at its end, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) learning_rate: Option<f64>,
    /// Samples a second.
    pub(super) images_per_second: f64,
    /// Seconds in training steps.
    pub(super) seconds: f64,
    /// Largest live tensor memory of a step in bytes, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) peak_bytes: Option<u64>,
}

impl HistoryLine {
    fn of_round(block: u32, index: usize, round: &RoundMetrics) -> Self {
        Self {
            block,
            stage: "train".into(),
            epoch: round.epochs,
            round: u32::try_from(index).unwrap_or(u32::MAX),
            samples: round.samples,
            loss: round.loss,
            accuracy: round.accuracy,
            validation_accuracy: round.validation_accuracy,
            firing_rates: Some(vec![round.firing_rate]),
            learning_rate: None,
            images_per_second: if round.seconds > 0.0 { round.samples as f64 / round.seconds } else { 0.0 },
            seconds: round.seconds,
            peak_bytes: Some(round.peak_memory_bytes),
        }
    }
}

/// Lines of a file; what is none is left out, as the last one may be while it is written.
fn parse(text: &[u8]) -> Vec<HistoryLine> {
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// The lines of the file of a run, and what its committed rounds add.
fn join(mut lines: Vec<HistoryLine>, detail: &RunDetail) -> Vec<HistoryLine> {
    let written = lines.len();
    for block in &detail.blocks {
        let last = lines[..written].iter().filter(|line| line.block == block.block).map(|line| line.epoch).max();
        let rounds = block.rounds.iter().enumerate().filter(|(_, round)| last.is_none_or(|last| round.epochs > last));
        let rounds: Vec<_> = rounds.map(|(index, round)| HistoryLine::of_round(block.block, index, round)).collect();
        lines.extend(rounds);
    }
    lines.sort_by_key(|line| (line.block, line.epoch, line.round));
    lines
}

/// The history of a run, by block and epoch.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn read(artefacts: &Artefacts, run: &str, detail: &RunDetail) -> Result<Vec<HistoryLine>, StoreError> {
    let text = match artefacts.get_unverified(&key::model(run, FILE)).await {
        Ok(text) => text.to_vec(),
        Err(error) if error.kind() == ErrorKind::InputLost => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(join(parse(&text), detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_counts_and_rounds_add_what_it_has_not_got() {
        let text = br#"{"block":1,"stage":"train","epoch":1,"round":0,"samples":9,"loss":1.5,"accuracy":0.25,"firing_rates":[0.1,0.2],"learning_rate":0.1,"images_per_second":9.0,"seconds":1.0}
{"block":1,"sta"#;
        let round = |epochs| RoundMetrics { epochs, loss: 7.0, samples: 8, seconds: 2.0, ..RoundMetrics::default() };
        let block = |block, epochs: &[u32]| crate::run::detail::BlockDetail {
            block,
            train_samples: None,
            class_accuracy: Vec::new(),
            confusion: Vec::new(),
            cached_bytes: 0,
            rounds: epochs.iter().map(|epochs| round(*epochs)).collect(),
        };
        let blocks = vec![block(1, &[1, 2]), block(2, &[1])];
        let lines = join(parse(text), &RunDetail { blocks, ..crate::run::detail::example() });
        let found: Vec<_> = lines.iter().map(|line| (line.block, line.epoch, line.round, line.loss)).collect();
        assert_eq!(found, [(1, 1, 0, 1.5), (1, 2, 1, 7.0), (2, 1, 0, 7.0)]);
        assert_eq!((lines[1].images_per_second, lines[0].firing_rates.as_deref()), (4.0, Some([0.1, 0.2].as_slice())));
    }
}
