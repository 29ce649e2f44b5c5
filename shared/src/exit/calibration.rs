//! Finding the exit thresholds, on validation records only.
//!
//! For every sample and every possible exit the answer is fixed, so they are worked out once; a setting of the gates
//! then only chooses among them. All gates equal over a grid of (tau, gamma) gives a first front of accuracy against
//! compute; then each gate of each point of the front is varied on its own. What is on the front at the end is the
//! curve. With `exit.min_share` the point that is used comes from a front of its own, of settings that let every block
//! answer its share.
//!
//! The weights of `stack` are fitted on validation records, too. So that gates are not judged on answers that were
//! fitted to the same labels, the answers of every fold of the records are made with weights that the other folds gave.

use super::{ExitRule, Gate, answer_at, cost_at, full_cost, stack};
use crate::record::Records;
use crate::spec::{Combine, ExitSpec};
use serde::{Deserialize, Serialize};

const TAUS: [f32; 12] = [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 0.97, 1.01];
const GAMMAS: [f32; 10] = [0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995];

/// One setting of the gates with what it does to the validation data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// One gate for every block but the last.
    pub gates: Vec<Gate>,
    /// Fraction of right answers in [0, 1].
    pub accuracy: f64,
    /// Mean compute per sample as a fraction of the full network's.
    pub relative_compute: f64,
}

/// The result of a calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The chosen rule.
    pub rule: ExitRule,
    /// The front of accuracy against compute, cheapest first; each point is more accurate than the one before, but for
    /// the chosen one where `exit.min_share` puts it behind the front.
    pub curve: Vec<Point>,
    /// Index in `curve` of the chosen point.
    pub chosen: usize,
}

/// Parts of the records of which each is answered with weights that the others gave. Weights from one half and gates
/// from the other answered worse (docs/accuracy.md): too few records chose the gates.
const FOLDS: usize = 5;

struct Table {
    samples: usize,
    /// `[exit][sample]`
    right: Vec<Vec<bool>>,
    cost: Vec<Vec<f64>>,
    /// `[gate][sample]`
    hard: Vec<Vec<f32>>,
    confidence: Vec<Vec<f32>>,
    full: f64,
}

impl Table {
    /// What happens to the samples of the records; `rules` answer in turn.
    fn new(records: &Records, rules: &[ExitRule], classes: usize) -> Self {
        let samples = records.len();
        let exits = 0..records.blocks.len();
        let gated = &records.blocks[..records.blocks.len().saturating_sub(1)];
        let over = |f: &dyn Fn(usize) -> f64| (0..samples).map(f).collect::<Vec<f64>>();
        let answer = |i: usize, exit| answer_at(records, i, exit, &rules[i % rules.len()], classes).class;
        let right = |exit| (0..samples).map(|i| answer(i, exit) == records.labels[i]).collect();
        let gate = |of: &dyn Fn(usize) -> f32| (0..samples).map(of).collect::<Vec<f32>>();
        Self {
            samples,
            right: exits.clone().map(right).collect(),
            cost: exits.map(|exit| over(&|i| cost_at(records, i, exit).total())).collect(),
            hard: gated.iter().map(|block| gate(&|i| block.hard[i])).collect(),
            confidence: gated.iter().map(|block| gate(&|i| block.confidence(i))).collect(),
            full: (0..samples).map(|i| full_cost(records, i).total()).sum(),
        }
    }

    fn measure(&self, gates: &[Gate]) -> Setting {
        let (mut right, mut cost) = (0_u64, 0.0);
        let mut answered = vec![0_u64; gates.len() + 1];
        for sample in 0..self.samples {
            let opens = |&k: &usize| gates[k].opens(self.hard[k][sample], self.confidence[k][sample]);
            let exit = (0..gates.len()).find(opens).unwrap_or(gates.len());
            answered[exit] += 1;
            right += u64::from(self.right[exit][sample]);
            cost += self.cost[exit][sample];
        }
        answered.sort_unstable();
        let accuracy = right as f64 / self.samples.max(1) as f64;
        let relative_compute = if self.full > 0.0 { cost / self.full } else { 1.0 };
        Setting { point: Point { gates: gates.to_vec(), accuracy, relative_compute }, answered }
    }
}

/// The rule of answering that some samples of the records give, without gates.
fn rule(records: &Records, combine: Combine, classes: usize, is_given: impl Fn(usize) -> bool) -> ExitRule {
    let mut rule = ExitRule::new(combine, Vec::new());
    if combine == Combine::Stack {
        let given: Vec<usize> = (0..records.len()).filter(|&sample| is_given(sample)).collect();
        rule.weights = stack::fit(records, &given, classes);
    }
    rule
}

/// The rules that answer the samples of the records in turn.
fn folds(records: &Records, combine: Combine, classes: usize) -> Vec<ExitRule> {
    let folds = if combine == Combine::Stack { FOLDS } else { 1 };
    (0..folds).map(|fold| rule(records, combine, classes, |sample| sample % folds != fold)).collect()
}

/// Calibrates the gates of a network on validation records over `classes` classes.
///
/// The chosen point is the cheapest whose accuracy is at most `max_accuracy_drop` below the best there is, or, with a
/// `compute_budget`, the most accurate within it (the cheapest of all when none is). Where some settings (within the
/// budget) let every block answer `min_share` of the records, it is one of those.
pub fn calibrate(records: &Records, spec: &ExitSpec, classes: usize) -> Calibration {
    let mut rule = rule(records, spec.combine, classes, |_| true);
    let table = Table::new(records, &folds(records, spec.combine, classes), classes);
    let gates = records.blocks.len().saturating_sub(1);
    let equal = grid().map(|gate| table.measure(&vec![gate; gates])).collect();
    let free = search(&table, equal, 0.0);
    let mut curve: Vec<Point> = free.iter().map(|setting| setting.point.clone()).collect();
    let mut chosen = choose(&curve, spec);
    if spec.min_share > 0.0 {
        let least = spec.min_share * table.samples as f64 - 1e-9;
        let sharing = search(&table, towards(&table, &free, least), least);
        let fits = |point: &Point| spec.compute_budget.is_none_or(|budget| point.relative_compute <= budget);
        let sharing: Vec<Point> = sharing.into_iter().map(|setting| setting.point).filter(fits).collect();
        if let Some(point) = sharing.get(choose(&sharing, spec)) {
            chosen = insert(&mut curve, point);
        }
    }
    rule.gates = curve.get(chosen).map(|point| point.gates.clone()).unwrap_or_default();
    Calibration { rule, curve, chosen }
}

/// A setting of the gates.
#[derive(Clone)]
struct Setting {
    point: Point,
    /// How many samples the blocks answer under it, fewest first.
    answered: Vec<u64>,
}

impl Setting {
    /// Whether every block answers at least so many samples.
    fn shares(&self, least: f64) -> bool {
        self.answered[0] as f64 >= least
    }
}

/// The front of settings that let every block answer at least so many samples, from some settings and what is near
/// them.
fn search(table: &Table, start: Vec<Setting>, least: f64) -> Vec<Setting> {
    let allowed = |settings: Vec<Setting>| settings.into_iter().filter(|setting| setting.shares(least)).collect();
    let mut found = front(allowed(start));
    if found.first().is_some_and(|setting| setting.point.gates.len() > 1) {
        for _ in 0..2 {
            found = front(allowed(vary_each_gate(table, &found)));
        }
    }
    found
}

/// What is near some settings; where none of it lets every block answer so many samples, what is near the one that
/// comes closest, and so on.
fn towards(table: &Table, settings: &[Setting], least: f64) -> Vec<Setting> {
    let mut near = vary_each_gate(table, settings);
    while !near.iter().any(|setting| setting.shares(least)) {
        let Some(closest) = near.iter().max_by_key(|setting| &setting.answered) else { break };
        let nearer = vary_each_gate(table, std::slice::from_ref(closest));
        if nearer.iter().all(|setting| setting.answered <= closest.answered) {
            break;
        }
        near = nearer;
    }
    near
}

/// Puts a point into a curve, by its compute, unless it is there; returns where it is.
fn insert(curve: &mut Vec<Point>, point: &Point) -> usize {
    let at = curve.partition_point(|other| other.relative_compute < point.relative_compute);
    if curve.get(at) != Some(point) {
        curve.insert(at, point.clone());
    }
    at
}

fn grid() -> impl Iterator<Item = Gate> {
    TAUS.into_iter().flat_map(|tau| GAMMAS.into_iter().map(move |gamma| Gate { tau, gamma }))
}

/// The settings, and with them those that differ from one of them in one gate.
fn vary_each_gate(table: &Table, settings: &[Setting]) -> Vec<Setting> {
    let mut found = settings.to_vec();
    for Setting { point, .. } in settings {
        for gate in 0..point.gates.len() {
            found.extend(grid().map(|changed| {
                let mut gates = point.gates.clone();
                gates[gate] = changed;
                table.measure(&gates)
            }));
        }
    }
    found
}

/// Settings that no other one beats in both accuracy and compute, cheapest first.
fn front(mut settings: Vec<Setting>) -> Vec<Setting> {
    settings.sort_by(|Setting { point: a, .. }, Setting { point: b, .. }| {
        a.relative_compute.total_cmp(&b.relative_compute).then(b.accuracy.total_cmp(&a.accuracy))
    });
    let mut kept: Vec<Setting> = Vec::new();
    for setting in settings {
        if kept.last().is_none_or(|last| setting.point.accuracy > last.point.accuracy) {
            kept.push(setting);
        }
    }
    kept
}

fn choose(curve: &[Point], spec: &ExitSpec) -> usize {
    if let Some(budget) = spec.compute_budget {
        return curve.iter().rposition(|point| point.relative_compute <= budget).unwrap_or(0);
    }
    let best = curve.last().map_or(0.0, |point| point.accuracy);
    let enough = |point: &Point| point.accuracy >= best - spec.max_accuracy_drop - 1e-12;
    curve.iter().position(enough).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::evaluate;
    use super::super::tests::{answers, two_blocks};
    use super::*;

    fn spec(drop: f64, budget: Option<f64>) -> ExitSpec {
        ExitSpec { max_accuracy_drop: drop, compute_budget: budget, ..ExitSpec::default() }
    }

    #[test]
    fn the_curve_by_hand() {
        // Exits and their totals: at block 1 always 113, at block 2 always 426; the full network costs 423.
        // Right at block 1: sample 0 only. Right at block 2 (mixture): all three.
        // Best for 1, 2 and 3 samples sent deeper: samples 1 and 2 must go, sample 0 need not.
        let calibration = calibrate(&two_blocks(), &spec(0.0, None), 3);
        let accuracies: Vec<f64> = calibration.curve.iter().map(|point| point.accuracy).collect();
        assert_eq!(accuracies, [1.0 / 3.0, 2.0 / 3.0, 1.0]);
        let cheapest = (113.0 * 3.0) / (423.0 * 3.0);
        let best = (113.0 + 426.0 * 2.0) / (423.0 * 3.0);
        assert!((calibration.curve[0].relative_compute - cheapest).abs() < 1e-12);
        assert!((calibration.curve[2].relative_compute - best).abs() < 1e-12);
        assert_eq!(calibration.chosen, 2);
        assert_eq!(evaluate(&two_blocks(), &calibration.rule, 3).accuracy, 1.0);
    }

    #[test]
    fn the_point_follows_the_wish() {
        let chosen = |spec: &ExitSpec| calibrate(&two_blocks(), spec, 3).chosen;
        assert_eq!(chosen(&spec(0.4, None)), 1, "a third may be given up");
        assert_eq!(chosen(&spec(0.0, Some(0.5))), 0);
        assert_eq!(chosen(&spec(0.0, Some(0.9))), 2);
        assert_eq!(chosen(&spec(0.0, Some(0.01))), 0, "nothing fits: the cheapest");
    }

    /// The first block is right with 0.6, the second sure, and wrong in one fold only.
    #[test]
    fn no_sample_is_answered_with_weights_that_it_gave() {
        let sides = |first: bool, p: f32| if first { [p, 1.0 - p] } else { [1.0 - p, p] };
        let row = |at: u16| {
            (at % 2, sides(at.is_multiple_of(2), 0.6), sides(at.is_multiple_of(2) != at.is_multiple_of(5), 0.9))
        };
        let rows: Vec<(u16, [f32; 2], [f32; 2])> = (0..20).map(row).collect();
        let records = answers(&rows);
        let folds = folds(&records, Combine::Stack, 2);
        for (fold, rule) in folds.iter().enumerate() {
            let others: Vec<usize> = (0..rows.len()).filter(|sample| sample % FOLDS != fold).collect();
            assert_eq!(rule.weights, stack::fit(&records, &others, 2), "fold {fold}");
        }
        assert!(folds[0].weights != folds[1].weights, "only the others know that the second block is wrong at times");
        let table = Table::new(&records, &folds, 2);
        for (exit, right) in table.right.iter().enumerate() {
            let answer = |sample: usize| answer_at(&records, sample, exit, &folds[sample % FOLDS], 2).class;
            assert!(
                right.iter().enumerate().all(|(sample, right)| *right == (answer(sample) == records.labels[sample]))
            );
        }
        let found = calibrate(&records, &ExitSpec { combine: Combine::Stack, ..ExitSpec::default() }, 2);
        assert_eq!(
            found.rule.weights,
            stack::fit(&records, &(0..rows.len()).collect::<Vec<_>>(), 2),
            "all give what is kept"
        );
    }

    /// Sixteen samples; the first block is as good as both together, so that without a wish none goes deeper.
    fn one_block_is_enough() -> Records {
        let sure = |at: u16| 0.55 + 0.025 * f32::from(at);
        answers(&(0..16).map(|at| (0, [sure(at), 1.0 - sure(at)], [0.9, 0.1])).collect::<Vec<_>>())
    }

    #[test]
    fn every_block_answers_its_share_where_that_can_be() {
        let records = one_block_is_enough();
        let found = |min_share| {
            let spec = ExitSpec { min_share, ..ExitSpec::default() };
            let found = calibrate(&records, &spec, 2);
            assert_eq!(found.curve[found.chosen].gates, found.rule.gates, "the chosen point is on the curve");
            (evaluate(&records, &found.rule, 2).exit_fraction, found.curve.len())
        };
        assert_eq!(found(0.0), (vec![1.0, 0.0], 1));
        // Confidences 0.55, 0.575, ..: below 0.6 are two samples, below 0.7 six.
        assert_eq!(found(0.1), (vec![0.875, 0.125], 2));
        assert_eq!(found(0.3), (vec![0.625, 0.375], 2));
        assert_eq!(found(0.6), (vec![1.0, 0.0], 1), "two blocks cannot have 60 % each");
    }

    /// From where all leave at block 1 no change of one gate alone gives all three blocks something.
    #[test]
    fn shares_of_three_blocks_are_found() {
        let mut records = one_block_is_enough();
        records.blocks.insert(0, records.blocks[0].clone());
        let spec = ExitSpec { min_share: 0.25, ..ExitSpec::default() };
        let exits = evaluate(&records, &calibrate(&records, &spec, 2).rule, 2).exit_fraction;
        assert_eq!(
            exits,
            [0.375, 0.25, 0.375],
            "of thresholds in steps of 0.1 only 0.8 and 0.7 leave each its four of sixteen"
        );
    }

    #[test]
    fn a_wish_for_compute_holds_among_settings_that_share() {
        let records = one_block_is_enough();
        let spec = ExitSpec { min_share: 0.1, ..spec(0.0, Some(0.6)) };
        let found = calibrate(&records, &spec, 2);
        // Block 1 is half of the network: an eighth goes on for 56 %, six of sixteen for 69 %.
        assert!((found.curve[found.chosen].relative_compute - 0.5625).abs() < 1e-12);
        let spec = ExitSpec { compute_budget: Some(0.55), ..spec };
        assert_eq!(calibrate(&records, &spec, 2).chosen, 0, "no setting that shares is within the budget");
    }

    #[test]
    fn one_block_has_no_gates() {
        let mut records = two_blocks();
        records.blocks.truncate(1);
        let calibration = calibrate(&records, &spec(0.0, None), 3);
        assert_eq!((calibration.rule.gates.len(), calibration.curve.len()), (0, 1));
    }
}
