//! Early exit: when an input leaves, what is answered, and what it cost.
//!
//! Block k runs; the input exits there when its detector says easy (`P(hard) < tau_k`) and its classifier is confident
//! (`>= gamma_k`), else it goes deeper. All rules of answering are in this folder: [`judge`] says P(hard) where no
//! detector does, [`combine`] makes one answer of what the blocks that ran said; [`evaluate`] sums it up over samples;
//! [`calibrate`](calibration::calibrate) finds tau, gamma and weights on validation data.

pub mod calibration;
mod combine;
mod stack;

pub use combine::combine;

use crate::compute::Operations;
use crate::label::LabelMap;
use crate::math;
use crate::metric::Confusion;
use crate::record::{BlockRecords, Records};
use crate::spec::{Combine, DetectorPolicy};
use serde::{Deserialize, Serialize};

/// The thresholds of one exit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Exit only when P(hard) is below this.
    pub tau: f32,
    /// Exit only when the classifier's largest probability is at least this.
    pub gamma: f32,
}

impl Gate {
    /// Whether an input with this P(hard) and confidence exits.
    pub fn opens(self, hard: f32, confidence: f32) -> bool {
        hard < self.tau && confidence >= self.gamma
    }
}

/// Everything that decides an answer apart from the network itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitRule {
    /// How answers combine.
    pub combine: Combine,
    /// One gate for every block but the last.
    pub gates: Vec<Gate>,
    /// Of `stack`: for every depth, the weights of the exits up to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<Vec<f32>>,
}

impl ExitRule {
    /// A rule without weights.
    pub fn new(combine: Combine, gates: Vec<Gate>) -> Self {
        Self { combine, gates, weights: Vec::new() }
    }

    /// The same without early exits: P(hard) is never below 0.
    #[must_use]
    pub fn without_exits(&self) -> Self {
        Self { gates: vec![Gate { tau: 0.0, gamma: 1.0 }; self.gates.len()], ..self.clone() }
    }
}

/// What is answered for one input.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Global label.
    pub class: u16,
    /// Its probability in [0, 1].
    pub probability: f32,
    /// The block at which the input left, from 0.
    pub exit: usize,
}

/// What a block said about one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Said<'a> {
    /// The block's classes.
    pub classes: &'a LabelMap,
    /// Its probabilities over them.
    pub probabilities: &'a [f32],
    /// Its P(hard).
    pub hard: f32,
}

impl Said<'_> {
    /// Its probabilities over all classes.
    fn spread(&self, classes: usize) -> Vec<f32> {
        self.classes.spread(self.probabilities, classes)
    }
}

/// P(hard) by a policy that learns nothing, from a block's probabilities over its classes; 0 where no class is hard, as
/// in the last block.
pub fn judge(policy: DetectorPolicy, classes: &LabelMap, hard: &LabelMap, probabilities: &[f32]) -> f32 {
    match policy {
        _ if hard.is_empty() => 0.0,
        DetectorPolicy::Top1 => {
            let answer = classes.global(usize::from(top(probabilities).0));
            f32::from(u8::from(answer.is_some_and(|class| hard.contains(class))))
        }
        DetectorPolicy::Mass => {
            let of =
                |(at, &p): (usize, &f32)| classes.global(at).filter(|&class| hard.contains(class)).map_or(0.0, |_| p);
            probabilities.iter().enumerate().map(of).sum()
        }
        DetectorPolicy::Confidence => 1.0 - top(probabilities).1,
        DetectorPolicy::Entropy | DetectorPolicy::Learned => {
            let entropy: f32 = probabilities.iter().filter(|&&p| p > 0.0).map(|&p| -p * math::ln(p)).sum();
            entropy / math::ln(classes.len() as f32).max(f32::MIN_POSITIVE)
        }
    }
}

/// Index and value of the largest probability; ties go to the smaller index.
pub fn top(probabilities: &[f32]) -> (u16, f32) {
    let best = probabilities
        .iter()
        .enumerate()
        .fold((0, f32::MIN), |best, (index, &p)| if p > best.1 { (index, p) } else { best });
    (u16::try_from(best.0).unwrap_or(u16::MAX), best.1)
}

/// The block at which a sample exits, from 0.
pub fn exit_of(records: &Records, sample: usize, gates: &[Gate]) -> usize {
    let last = records.blocks.len().saturating_sub(1);
    let opens = |index: &usize| {
        let block = &records.blocks[*index];
        gates.get(*index).is_some_and(|gate| gate.opens(block.hard[sample], block.confidence(sample)))
    };
    (0..last).find(opens).unwrap_or(last)
}

/// The answer of the blocks that ran, first to last, over `classes` classes.
pub fn conclude(rule: &ExitRule, said: &[Said<'_>], classes: usize) -> Answer {
    let (class, probability) = top(&combine(rule.combine, &rule.weights, said, classes));
    Answer { class, probability, exit: said.len().saturating_sub(1) }
}

/// What blocks 0..=`exit` said about a sample.
fn said_at(records: &Records, sample: usize, exit: usize) -> Vec<Said<'_>> {
    fn said(block: &BlockRecords, sample: usize) -> Said<'_> {
        Said { classes: &block.classes, probabilities: block.probabilities_of(sample), hard: block.hard[sample] }
    }
    records.blocks[..=exit].iter().map(|block| said(block, sample)).collect()
}

/// The answer for a sample that ran blocks 0..=`exit`, over `classes` classes.
pub fn answer_at(records: &Records, sample: usize, exit: usize, rule: &ExitRule, classes: usize) -> Answer {
    conclude(rule, &said_at(records, sample, exit), classes)
}

/// The answer for a sample under a rule.
pub fn answer(records: &Records, sample: usize, rule: &ExitRule, classes: usize) -> Answer {
    let exit = exit_of(records, sample, &rule.gates);
    answer_at(records, sample, exit, rule, classes)
}

/// Computation for a sample that exits at block `exit`: every block that ran with its classifier and detector.
pub fn cost_at(records: &Records, sample: usize, exit: usize) -> Operations {
    records.blocks[..=exit]
        .iter()
        .fold(Operations::default(), |sum, block| sum + block.body(sample) + block.exit(sample))
}

/// Computation of the full network without early exits: every block's own layers and the last classifier.
pub fn full_cost(records: &Records, sample: usize) -> Operations {
    let bodies = records.blocks.iter().fold(Operations::default(), |sum, block| sum + block.body(sample));
    records.blocks.last().map_or(bodies, |last| bodies + last.exit(sample))
}

/// Figures over a set of samples.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Fraction of right answers in [0, 1].
    pub accuracy: f64,
    /// Fraction of the samples that exit at each block.
    pub exit_fraction: Vec<f64>,
    /// Mean computation per sample with early exits.
    pub compute: Operations,
    /// Mean computation per sample of the full network.
    pub full_compute: Operations,
    /// Expected calibration error of the answers' probabilities, over [`BINS`] bins of equal width (Guo et al. 2017).
    pub calibration_error: f64,
}

/// Bins of the expected calibration error.
pub const BINS: usize = 15;

/// Samples of one range of probabilities: how many, their right answers, and the sum of their probabilities.
#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    samples: u64,
    right: u64,
    probability: f64,
}

impl Bin {
    fn index(probability: f32) -> usize {
        ((probability.clamp(0.0, 1.0) * BINS as f32) as usize).min(BINS - 1)
    }
}

impl Outcome {
    /// Compute of the full network over the mean compute with early exits.
    pub fn compute_efficiency(&self) -> f64 {
        if self.compute.total() > 0.0 { self.full_compute.total() / self.compute.total() } else { 1.0 }
    }
}

/// Applies a rule to every sample.
pub fn evaluate(records: &Records, rule: &ExitRule, classes: usize) -> Outcome {
    let samples = records.len();
    let mut exits = vec![0_u64; records.blocks.len()];
    let (mut right, mut compute, mut full) = (0_u64, Operations::default(), Operations::default());
    let mut bins = [Bin::default(); BINS];
    for sample in 0..samples {
        let answer = answer(records, sample, rule, classes);
        exits[answer.exit] += 1;
        let is_right = u64::from(answer.class == records.labels[sample]);
        right += is_right;
        let bin = &mut bins[Bin::index(answer.probability)];
        (bin.samples, bin.right) = (bin.samples + 1, bin.right + is_right);
        bin.probability += f64::from(answer.probability);
        compute += cost_at(records, sample, answer.exit);
        full += full_cost(records, sample);
    }
    let mean = |sum: f64| sum / samples.max(1) as f64;
    Outcome {
        accuracy: mean(right as f64),
        exit_fraction: exits.into_iter().map(|count| mean(count as f64)).collect(),
        compute: Operations { macs: mean(compute.macs), synops: mean(compute.synops) },
        full_compute: Operations { macs: mean(full.macs), synops: mean(full.synops) },
        calibration_error: mean(bins.iter().map(|bin| (bin.probability - bin.right as f64).abs()).sum()),
    }
}

/// Answers under a rule, by true class.
pub fn confusion(records: &Records, rule: &ExitRule, classes: usize) -> Confusion {
    let mut confusion = Confusion::new(classes);
    for (sample, &label) in records.labels.iter().enumerate() {
        confusion.add(usize::from(label), usize::from(answer(records, sample, rule, classes).class));
    }
    confusion
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::BlockRecords;

    /// Two blocks, three classes, the second block knows classes 1 and 2.
    pub(crate) fn two_blocks() -> Records {
        let block = |classes: Vec<u16>, probabilities: Vec<f32>, hard: Vec<f32>, synops: f64| BlockRecords {
            classes: LabelMap::new(classes),
            probabilities,
            body_synops: vec![synops; hard.len()],
            exit_synops: vec![1.0; hard.len()],
            hard,
            body_macs: 10.0,
            exit_macs: 2.0,
        };
        Records {
            ids: vec![0, 1, 2],
            labels: vec![0, 1, 2],
            blocks: vec![
                block(vec![0, 1, 2], vec![0.9, 0.05, 0.05, 0.5, 0.3, 0.2, 0.2, 0.5, 0.3], vec![0.1, 0.8, 0.5], 100.0),
                block(vec![1, 2], vec![0.6, 0.4, 0.9, 0.1, 0.2, 0.8], vec![0.0; 3], 300.0),
            ],
        }
    }

    /// A label, and what two blocks that know both of two classes say.
    type Row = (u16, [f32; 2], [f32; 2]);

    /// Records of some samples.
    pub(crate) fn answers(rows: &[Row]) -> Records {
        let zeros = || vec![0.0; rows.len()];
        let block = |of: fn(&Row) -> [f32; 2]| BlockRecords {
            classes: LabelMap::all(2),
            probabilities: rows.iter().flat_map(of).collect(),
            hard: vec![0.5; rows.len()],
            body_synops: zeros(),
            exit_synops: zeros(),
            body_macs: 1.0,
            exit_macs: 0.0,
        };
        Records {
            ids: (0..).take(rows.len()).collect(),
            labels: rows.iter().map(|row| row.0).collect(),
            blocks: vec![block(|row| row.1), block(|row| row.2)],
        }
    }

    fn plain(combine: Combine) -> ExitRule {
        ExitRule::new(combine, Vec::new())
    }

    #[test]
    fn policies_that_learn_nothing_by_hand() {
        let (classes, hard) = (LabelMap::new(vec![2, 5, 7, 9]), LabelMap::new(vec![5, 9]));
        let judged = |policy, probabilities: &[f32]| judge(policy, &classes, &hard, probabilities);
        assert_eq!(judged(DetectorPolicy::Top1, &[0.1, 0.6, 0.2, 0.1]), 1.0);
        assert_eq!(judged(DetectorPolicy::Top1, &[0.6, 0.2, 0.1, 0.1]), 0.0);
        assert!(
            (judged(DetectorPolicy::Mass, &[0.6, 0.2, 0.1, 0.1]) - 0.3).abs() < 1e-6,
            "0.2 of class 5, 0.1 of class 9"
        );
        assert!((judged(DetectorPolicy::Entropy, &[0.25; 4]) - 1.0).abs() < 1e-6);
        assert!((judged(DetectorPolicy::Entropy, &[0.5, 0.5, 0.0, 0.0]) - 0.5).abs() < 1e-6);
        assert_eq!(judged(DetectorPolicy::Confidence, &[0.125, 0.625, 0.25, 0.0]), 0.375);
        assert_eq!(judge(DetectorPolicy::Entropy, &classes, &LabelMap::default(), &[0.25; 4]), 0.0, "the last block");
    }

    #[test]
    fn an_easy_input_sent_deeper_by_mistake_is_still_answered() {
        let records = two_blocks();
        assert_eq!(answer_at(&records, 0, 1, &plain(Combine::Mixture), 3).class, 0);
        assert_eq!(
            answer_at(&records, 0, 1, &plain(Combine::Last), 3).class,
            1,
            "the last block does not know class 0"
        );
    }

    #[test]
    fn exits_costs_and_accuracy_by_hand() {
        let records = two_blocks();
        let rule = ExitRule::new(Combine::Mixture, vec![Gate { tau: 0.3, gamma: 0.8 }]);
        let outcome = evaluate(&records, &rule, 3);
        // Sample 0 exits at once. Sample 1: 0.2 * [.5 .3 .2] + 0.8 * [0 .9 .1] -> class 1. Sample 2: class 2 (0.55).
        assert_eq!(outcome.accuracy, 1.0);
        assert_eq!(outcome.exit_fraction, [1.0 / 3.0, 2.0 / 3.0]);
        // All are right: with 0.9, 0.2 * 0.3 + 0.8 * 0.9 = 0.78 and 0.5 * 0.3 + 0.5 * 0.8 = 0.55, each in a bin of its
        // own.
        assert!((outcome.calibration_error - (0.1 + 0.22 + 0.45) / 3.0).abs() < 1e-6, "{}", outcome.calibration_error);
        assert_eq!(
            outcome.compute,
            Operations { macs: (12.0 + 24.0 + 24.0) / 3.0, synops: (101.0 + 402.0 + 402.0) / 3.0 }
        );
        assert_eq!(outcome.full_compute, Operations { macs: 22.0, synops: 401.0 });
        assert!((outcome.compute_efficiency() - 423.0 / (20.0 + 905.0 / 3.0)).abs() < 1e-12);
    }
}
