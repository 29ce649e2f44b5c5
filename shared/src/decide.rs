//! Which classes stay hard after a block (design invariant R-6: once per block, from its complete validation).

use crate::label::LabelMap;
use crate::spec::{HardClassPolicy, HardClassSpec, RunSpec};

/// The hard classes among a block's classes, by class-wise validation accuracy.
///
/// A class without validation samples cannot be judged, and is not hard; but with the policy `all` all classes go on.
/// Ties go to the smaller label. The result is a subset of the given classes.
pub fn hard_classes(spec: &HardClassSpec, accuracy: &[(u16, Option<f64>)]) -> LabelMap {
    let mut ranked: Vec<(u16, f64)> =
        accuracy.iter().filter_map(|&(class, accuracy)| Some((class, accuracy?))).collect();
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    let lowest = |count: usize| ranked.iter().take(count).map(|&(class, _)| class).collect();
    let hard = match spec.policy {
        HardClassPolicy::Threshold => lowest(ranked.iter().filter(|&&(_, accuracy)| accuracy < spec.threshold).count()),
        HardClassPolicy::BottomK => lowest(spec.k),
        HardClassPolicy::BottomFraction => lowest((spec.fraction * ranked.len() as f64).ceil() as usize),
        HardClassPolicy::All => accuracy.iter().map(|&(class, _)| class).collect(),
    };
    LabelMap::new(hard)
}

/// The classes that go on after a block: the hard ones, or all of them where hard inputs are selected instead.
pub fn classes_after(spec: &RunSpec, accuracy: &[(u16, Option<f64>)]) -> LabelMap {
    if spec.hard_inputs.is_on() {
        return LabelMap::new(accuracy.iter().map(|&(class, _)| class).collect());
    }
    hard_classes(&spec.hard_classes, accuracy)
}

/// Whether deeper blocks have anything to learn: at least two hard classes.
pub fn goes_on(hard: &LabelMap) -> bool {
    hard.len() >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCURACY: [(u16, Option<f64>); 4] = [(1, Some(0.9)), (3, Some(0.5)), (4, Some(0.7)), (8, Some(0.5))];

    fn decide(policy: HardClassPolicy) -> Vec<u16> {
        let spec = HardClassSpec { policy, threshold: 0.7, k: 1, fraction: 0.6 };
        hard_classes(&spec, &ACCURACY).globals().to_vec()
    }

    #[test]
    fn each_policy_by_hand() {
        assert_eq!(decide(HardClassPolicy::Threshold), [3, 8], "0.7 is not below 0.7");
        assert_eq!(decide(HardClassPolicy::BottomK), [3], "the tie goes to the smaller label");
        assert_eq!(decide(HardClassPolicy::BottomFraction), [3, 4, 8], "0.6 of 4 rounds up to 3");
        assert_eq!(decide(HardClassPolicy::All), [1, 3, 4, 8]);
    }

    #[test]
    fn where_inputs_are_selected_every_class_goes_on() {
        let mut spec = RunSpec::default();
        spec.hard_classes.threshold = 0.7;
        assert_eq!(classes_after(&spec, &ACCURACY).globals(), [3, 8]);
        spec.hard_inputs.fraction = Some(0.5);
        assert_eq!(classes_after(&spec, &ACCURACY).globals(), [1, 3, 4, 8]);
    }

    #[test]
    fn a_class_without_samples_is_not_hard_and_one_class_is_not_enough() {
        let accuracy = [(0, None), (1, Some(0.2)), (2, Some(1.0)), (3, None)];
        let hard = |policy| hard_classes(&HardClassSpec { policy, k: 3, ..HardClassSpec::default() }, &accuracy);
        assert_eq!(hard(HardClassPolicy::Threshold).globals(), [1]);
        assert_eq!(hard(HardClassPolicy::BottomK).globals(), [1, 2]);
        assert_eq!(hard(HardClassPolicy::BottomFraction).globals(), [1], "half of the two that were judged");
        assert_eq!(hard(HardClassPolicy::All).globals(), [0, 1, 2, 3]);
        assert!(!goes_on(&hard(HardClassPolicy::Threshold)));
    }
}
