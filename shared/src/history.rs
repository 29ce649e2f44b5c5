//! The course of a run's training: one line for every epoch of every block.
//!
//! Lines are derived from the metrics of committed rounds and kept nowhere else, so a run that was killed and resumed
//! has each of them once. An epoch may have several rounds (`train.round_steps`, replicas, rounds that were handed
//! back): they become one line. A round that reaches into the next epoch counts for the one in which it ends. The last
//! line of a block may be about an epoch under way: it is partial, and its `samples` say how much of it is done.

use crate::rounds::{batch_count, samples_trained};
use crate::schedule::learning_rate;
use crate::spec::TrainSpec;
use crate::stage::Stage;
use crate::stage::train::RoundMetrics;
use serde::{Deserialize, Serialize};

/// One line of the history. Accuracies and rates are between 0 and 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// The block, from 1.
    pub block: u32,
    /// The stage; all lines are of training.
    pub stage: Stage,
    /// The epoch of the block, from 1.
    pub epoch: u32,
    /// Whether it is under way: the rounds that are committed are not all of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Its last committed round, counted from 1 through all epochs of the block.
    pub round: u32,
    /// Samples trained on in it, of all replicas.
    pub samples: u64,
    /// Mean training loss.
    pub loss: f64,
    /// Training accuracy.
    pub accuracy: f64,
    /// Validation accuracy after its last round, where `train.patience` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// Mean firing rate over the spiking layers.
    #[serde(default)]
    pub firing_rate: f64,
    /// Firing rate of every spiking layer, in their order; absent in rounds of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firing_rates: Option<Vec<f64>>,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Images per second of training, by one worker.
    pub images_per_second: f64,
    /// Seconds of training, of all replicas together.
    pub seconds: f64,
    /// Those of them in which training waited for its input.
    #[serde(default)]
    pub waiting_seconds: f64,
    /// Largest live tensor memory of a training step, in bytes, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
}

/// The lines of a run: the rounds of its blocks, first to last.
pub fn lines<'a, R>(train: &TrainSpec, blocks: impl IntoIterator<Item = R>) -> Vec<HistoryLine>
where
    R: IntoIterator<Item = &'a RoundMetrics>,
{
    (1..).zip(blocks).flat_map(|(number, rounds)| block(train, number, rounds)).collect()
}

/// The lines of one block, whose number counts from 1.
fn block<'a>(train: &TrainSpec, number: u32, rounds: impl IntoIterator<Item = &'a RoundMetrics>) -> Vec<HistoryLine> {
    let train = &train.of_block(number);
    let (mut lines, mut own, mut trained) = (Vec::new(), Epoch::default(), 0_u64);
    for (round, metrics) in (1_u32..).zip(rounds) {
        trained += metrics.samples;
        let done = u64::from(metrics.epochs) * samples_trained(metrics.epoch_samples, train) as u64;
        let epoch = if trained > done { metrics.epochs + 1 } else { metrics.epochs };
        if epoch != own.number && !own.rounds.is_empty() {
            lines.push(own.line(train, number));
            own = Epoch::default();
        }
        (own.number, own.last, own.trained) = (epoch, round, trained);
        own.rounds.push(metrics);
    }
    if !own.rounds.is_empty() {
        lines.push(own.line(train, number));
    }
    lines
}

/// The rounds of an epoch.
#[derive(Default)]
struct Epoch<'a> {
    number: u32,
    /// Number of its last round.
    last: u32,
    /// Samples that the block was trained on up to its end.
    trained: u64,
    rounds: Vec<&'a RoundMetrics>,
}

impl Epoch<'_> {
    fn line(&self, train: &TrainSpec, block: u32) -> HistoryLine {
        let joined = RoundMetrics::joined(self.rounds.iter().copied());
        HistoryLine {
            block,
            stage: Stage::Train,
            epoch: self.number,
            partial: self.rounds.last().is_some_and(|round| round.epochs < self.number),
            round: self.last,
            samples: joined.samples,
            loss: joined.loss,
            accuracy: joined.accuracy,
            validation_accuracy: self.rounds.iter().rev().find_map(|round| round.validation_accuracy),
            firing_rate: joined.firing_rate,
            learning_rate: self.learning_rate(train, joined.epoch_samples),
            images_per_second: if joined.seconds > 0.0 { joined.samples as f64 / joined.seconds } else { 0.0 },
            seconds: joined.seconds,
            waiting_seconds: joined.waiting_seconds,
            peak_bytes: Some(joined.peak_memory_bytes).filter(|bytes| *bytes > 0),
            firing_rates: Some(joined.firing_rates).filter(|rates| !rates.is_empty()),
        }
    }

    /// That of the last step: how many steps there were follows from the samples.
    fn learning_rate(&self, train: &TrainSpec, epoch_samples: usize) -> f64 {
        let (per_epoch, samples) =
            (batch_count(epoch_samples, train) as u64, samples_trained(epoch_samples, train) as u64);
        let before = u64::from(self.number.saturating_sub(1));
        let own = self.trained.saturating_sub(before * samples);
        let steps = own.div_ceil(train.batch.max(1) as u64).min(per_epoch);
        learning_rate(train, (before * per_epoch + steps).saturating_sub(1), per_epoch)
    }
}

/// The lines as a file: one JSON object a line.
pub fn to_jsonl(lines: &[HistoryLine]) -> String {
    // Numbers only, and finite ones: they were checked when they were reported.
    let text = |line: &HistoryLine| serde_json::to_string(line).map(|text| text + "\n").unwrap_or_default();
    lines.iter().map(text).collect()
}

/// Reads what [`to_jsonl`] writes.
///
/// # Errors
/// Says which line makes no sense.
pub fn from_jsonl(text: &str) -> Result<Vec<HistoryLine>, String> {
    let read = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| format!("line {number} of the history makes no sense: {error}"))
    };
    (1..).zip(text.lines()).map(read).collect()
}

/// Columns of the table.
const COLUMNS: [&str; 16] = [
    "block",
    "stage",
    "epoch",
    "partial",
    "round",
    "samples",
    "loss",
    "accuracy",
    "validation_accuracy",
    "firing_rate",
    "firing_rates",
    "learning_rate",
    "images_per_second",
    "seconds",
    "waiting_seconds",
    "peak_bytes",
];

/// The lines as comma-separated values under a row of names; firing rates of layers are separated by semicolons.
pub fn to_csv(lines: &[HistoryLine]) -> String {
    let mut table = COLUMNS.join(",") + "\n";
    let optional = |value: Option<String>| value.unwrap_or_default();
    for line in lines {
        let rates = |rates: &Vec<f64>| rates.iter().map(f64::to_string).collect::<Vec<_>>().join(";");
        let row = [
            line.block.to_string(),
            line.stage.name().to_owned(),
            line.epoch.to_string(),
            line.partial.to_string(),
            line.round.to_string(),
            line.samples.to_string(),
            line.loss.to_string(),
            line.accuracy.to_string(),
            optional(line.validation_accuracy.map(|accuracy| accuracy.to_string())),
            line.firing_rate.to_string(),
            optional(line.firing_rates.as_ref().map(rates)),
            line.learning_rate.to_string(),
            line.images_per_second.to_string(),
            line.seconds.to_string(),
            line.waiting_seconds.to_string(),
            optional(line.peak_bytes.map(|bytes| bytes.to_string())),
        ];
        table.push_str(&row.join(","));
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Schedule;

    fn round(epochs: u32, samples: u64, loss: f64) -> RoundMetrics {
        RoundMetrics {
            epochs,
            epoch_samples: 10,
            samples,
            loss,
            seconds: 2.0,
            firing_rates: vec![loss, 0.5],
            ..Default::default()
        }
    }

    fn spec() -> TrainSpec {
        TrainSpec {
            epochs: 2,
            batch: 4,
            learning_rate: 1.0,
            schedule: Schedule::Step,
            warmup_epochs: 1,
            ..TrainSpec::default()
        }
    }

    #[test]
    fn an_epoch_has_one_line_however_it_was_cut() {
        // Whole; in two rounds, as when one was handed back; the next block under way.
        let first =
            [round(1, 10, 1.0), round(1, 4, 0.5), RoundMetrics { validation_accuracy: Some(0.7), ..round(2, 6, 1.0) }];
        let second = [round(0, 4, 2.0)];
        let lines = lines(&spec(), [first.iter(), second.iter()]);
        let places: Vec<_> = lines.iter().map(|line| (line.block, line.epoch, line.round, line.samples)).collect();
        assert_eq!(places, [(1, 1, 1, 10), (1, 2, 3, 10), (2, 1, 1, 4)]);
        assert_eq!(lines.iter().map(|line| line.partial).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!((lines[1].loss, lines[1].validation_accuracy, lines[1].seconds), (0.8, Some(0.7), 4.0));
        assert_eq!(lines[1].firing_rates.as_deref(), Some([0.8, 0.5].as_slice()));
        assert_eq!(lines[1].images_per_second, 2.5);
        // Three steps an epoch: warm-up ends with the third, the rate falls to a tenth after half of the rest.
        assert_eq!((lines[0].learning_rate, lines[1].learning_rate), (1.0, 0.1));
        assert_eq!(lines[2].learning_rate, 1.0 / 3.0, "the first of three steps of warm-up");
    }

    #[test]
    fn samples_that_are_left_out_count_for_no_epoch() {
        // Two steps of four samples of ten: 24 after the third epoch, and the fourth is under way.
        let rounds = [round(1, 8, 1.0), round(2, 8, 1.0), round(3, 8, 1.0), round(3, 4, 1.0)];
        let spec = TrainSpec { epochs: 4, drop_last: true, warmup_epochs: 4, ..spec() };
        let lines = lines(&spec, [rounds.iter()]);
        let places: Vec<_> = lines.iter().map(|line| (line.epoch, line.samples, line.partial)).collect();
        assert_eq!(places, [(1, 8, false), (2, 8, false), (3, 8, false), (4, 4, true)]);
        // Eight steps of warm-up.
        let rates: Vec<f64> = lines.iter().map(|line| 8.0 * line.learning_rate).collect();
        assert_eq!(rates, [2.0, 4.0, 6.0, 7.0]);
    }

    #[test]
    fn rounds_longer_than_an_epoch_count_where_they_end() {
        let rounds = [round(1, 16, 1.0), round(3, 14, 1.0)];
        let spec = TrainSpec { epochs: 3, ..spec() };
        let places: Vec<_> =
            lines(&spec, [rounds.iter()]).iter().map(|line| (line.epoch, line.round, line.samples)).collect();
        assert_eq!(places, [(2, 1, 16), (3, 2, 14)]);
    }

    #[test]
    fn files_hold_what_they_were_given() {
        let older = RoundMetrics { firing_rates: Vec::new(), peak_memory_bytes: 7, ..round(1, 10, 1.5) };
        let lines = lines(&spec(), [[older, round(2, 10, 1.0)].iter()]);
        let text = to_jsonl(&lines);
        assert!(!text.lines().next().expect("a line").contains("firing_rates") && text.ends_with("}\n"), "{text}");
        assert_eq!(from_jsonl(&text).as_deref(), Ok(lines.as_slice()));
        assert!(from_jsonl("{}\n").expect_err("no line").contains("line 1"));
        let table = to_csv(&lines);
        assert!(table.lines().all(|row| row.split(',').count() == COLUMNS.len()), "{table}");
        assert!(table.contains("1,train,1,false,1,10,1.5,0,,0,,1,5,2,0,7\n"), "{table}");
        assert!(table.contains(",1;0.5,"), "{table}");
    }
}
