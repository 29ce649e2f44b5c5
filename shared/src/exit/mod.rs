//! Early exit: when an input leaves, what is answered, and what it cost.
//!
//! Block k runs; the input exits there when its detector says easy (`P(hard) < tau_k`) and its classifier is confident
//! (`>= gamma_k`), else it goes deeper. All rules of answering are in this file: [`judge`] says P(hard) where no detector
//! does, [`answer`] combines what the blocks that ran said; [`evaluate`] sums it up over
//! samples; [`calibrate`](calibration::calibrate) finds tau and gamma on validation data.

pub mod calibration;

use crate::compute::Operations;
use crate::label::LabelMap;
use crate::record::Records;
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

/// Combines the answers of the blocks that ran into probabilities over all classes.
///
/// `spread[k]` are block k's probabilities over all classes, `hard[k]` its P(hard). `mixture` nests
/// `p = (1 - h_k) p_k + h_k p_(k+1)` from the deepest block upwards; `last` takes the deepest alone.
pub fn combine(rule: Combine, spread: &[Vec<f32>], hard: &[f32]) -> Vec<f32> {
    let Some((deepest, above)) = spread.split_last() else { return Vec::new() };
    if rule == Combine::Last {
        return deepest.clone();
    }
    above.iter().zip(hard).rev().fold(deepest.clone(), |deeper, (own, &h)| {
        own.iter().zip(&deeper).map(|(&own, &deeper)| (1.0 - h) * own + h * deeper).collect()
    })
}

/// P(hard) by a policy that learns nothing, from a block's probabilities over its classes; 0 where no class is hard, as in
/// the last block.
pub fn judge(policy: DetectorPolicy, classes: &LabelMap, hard: &LabelMap, probabilities: &[f32]) -> f32 {
    match policy {
        _ if hard.is_empty() => 0.0,
        DetectorPolicy::Top1 => {
            let answer = classes.global(usize::from(top(probabilities).0));
            f32::from(u8::from(answer.is_some_and(|class| hard.contains(class))))
        }
        DetectorPolicy::Entropy | DetectorPolicy::Learned => {
            let entropy: f32 = probabilities.iter().filter(|&&p| p > 0.0).map(|&p| -p * p.ln()).sum();
            entropy / (classes.len() as f32).ln().max(f32::MIN_POSITIVE)
        }
    }
}

/// Index and value of the largest probability; ties go to the smaller index.
pub fn top(probabilities: &[f32]) -> (u16, f32) {
    let best =
        probabilities.iter().enumerate().fold((0, f32::MIN), |best, (index, &p)| if p > best.1 { (index, p) } else { best });
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

/// The answer of the blocks that ran, first to last: `spread[k]` are block k's probabilities over all classes, `hard[k]`
/// its P(hard).
pub fn conclude(rule: Combine, spread: &[Vec<f32>], hard: &[f32]) -> Answer {
    let (class, probability) = top(&combine(rule, spread, hard));
    Answer { class, probability, exit: spread.len().saturating_sub(1) }
}

/// The answer for a sample that ran blocks 0..=`exit`, over `classes` classes.
pub fn answer_at(records: &Records, sample: usize, exit: usize, rule: Combine, classes: usize) -> Answer {
    let ran = &records.blocks[..=exit];
    let spread: Vec<Vec<f32>> = ran.iter().map(|block| block.classes.spread(block.probabilities_of(sample), classes)).collect();
    let hard: Vec<f32> = ran.iter().map(|block| block.hard[sample]).collect();
    conclude(rule, &spread, &hard)
}

/// The answer for a sample under a rule.
pub fn answer(records: &Records, sample: usize, rule: &ExitRule, classes: usize) -> Answer {
    let exit = exit_of(records, sample, &rule.gates);
    answer_at(records, sample, exit, rule.combine, classes)
}

/// Computation for a sample that exits at block `exit`: every block that ran with its classifier and detector.
pub fn cost_at(records: &Records, sample: usize, exit: usize) -> Operations {
    records.blocks[..=exit].iter().fold(Operations::default(), |sum, block| sum + block.body(sample) + block.exit(sample))
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
    for sample in 0..samples {
        let answer = answer(records, sample, rule, classes);
        exits[answer.exit] += 1;
        right += u64::from(answer.class == records.labels[sample]);
        compute += cost_at(records, sample, answer.exit);
        full += full_cost(records, sample);
    }
    let mean = |sum: f64| sum / samples.max(1) as f64;
    Outcome {
        accuracy: mean(right as f64),
        exit_fraction: exits.into_iter().map(|count| mean(count as f64)).collect(),
        compute: Operations { macs: mean(compute.macs), synops: mean(compute.synops) },
        full_compute: Operations { macs: mean(full.macs), synops: mean(full.synops) },
    }
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

    #[test]
    fn the_mixture_by_hand() {
        let mixed = combine(Combine::Mixture, &[vec![0.9, 0.1, 0.0], vec![0.0, 0.6, 0.4]], &[0.25, 0.0]);
        let expected = [0.675, 0.225, 0.1]; // 0.75 * own + 0.25 * deeper
        assert!(mixed.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{mixed:?}");
        let three = combine(Combine::Mixture, &[vec![1.0, 0.0], vec![0.0, 1.0], vec![1.0, 0.0]], &[0.5, 0.5, 0.0]);
        assert_eq!(three, [0.75, 0.25], "0.5 * 1 + 0.5 * (0.5 * 0 + 0.5 * 1)");
        assert_eq!(combine(Combine::Last, &[vec![1.0, 0.0], vec![0.0, 1.0]], &[0.5, 0.0]), [0.0, 1.0]);
    }

    #[test]
    fn policies_that_learn_nothing_by_hand() {
        let (classes, hard) = (LabelMap::new(vec![2, 5, 7, 9]), LabelMap::new(vec![5, 9]));
        let judged = |policy, probabilities: &[f32]| judge(policy, &classes, &hard, probabilities);
        assert_eq!(judged(DetectorPolicy::Top1, &[0.1, 0.6, 0.2, 0.1]), 1.0);
        assert_eq!(judged(DetectorPolicy::Top1, &[0.6, 0.2, 0.1, 0.1]), 0.0);
        assert!((judged(DetectorPolicy::Entropy, &[0.25; 4]) - 1.0).abs() < 1e-6);
        assert!((judged(DetectorPolicy::Entropy, &[0.5, 0.5, 0.0, 0.0]) - 0.5).abs() < 1e-6);
        assert_eq!(judge(DetectorPolicy::Entropy, &classes, &LabelMap::default(), &[0.25; 4]), 0.0, "the last block");
    }

    #[test]
    fn an_easy_input_sent_deeper_by_mistake_is_still_answered() {
        let records = two_blocks();
        assert_eq!(answer_at(&records, 0, 1, Combine::Mixture, 3).class, 0);
        assert_eq!(answer_at(&records, 0, 1, Combine::Last, 3).class, 1, "the last block does not know class 0");
    }

    #[test]
    fn exits_costs_and_accuracy_by_hand() {
        let records = two_blocks();
        let rule = ExitRule { combine: Combine::Mixture, gates: vec![Gate { tau: 0.3, gamma: 0.8 }] };
        let outcome = evaluate(&records, &rule, 3);
        // Sample 0 exits at once. Sample 1: 0.2 * [.5 .3 .2] + 0.8 * [0 .9 .1] -> class 1. Sample 2: class 2 (0.55).
        assert_eq!(outcome.accuracy, 1.0);
        assert_eq!(outcome.exit_fraction, [1.0 / 3.0, 2.0 / 3.0]);
        assert_eq!(outcome.compute, Operations { macs: (12.0 + 24.0 + 24.0) / 3.0, synops: (101.0 + 402.0 + 402.0) / 3.0 });
        assert_eq!(outcome.full_compute, Operations { macs: 22.0, synops: 401.0 });
        assert!((outcome.compute_efficiency() - 423.0 / (20.0 + 905.0 / 3.0)).abs() < 1e-12);
    }
}
