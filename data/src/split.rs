//! Held-out validation data, and shards.

use bloctrain_shared::seed;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;

/// Holds out a fraction of each class by seed: indices to train on, and indices for validation, both ascending.
///
/// A class with at least two samples keeps at least one on each side.
pub fn hold_out(labels: &[u16], fraction: f64, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let mut by_class: BTreeMap<u16, Vec<u32>> = BTreeMap::new();
    for (index, &label) in labels.iter().enumerate() {
        by_class.entry(label).or_default().push(index as u32);
    }
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for (class, mut indices) in by_class {
        indices.shuffle(&mut seed::rng(seed, "hold-out", &[class.into()]));
        let wanted = (indices.len() as f64 * fraction).round() as usize;
        let held = wanted.clamp(usize::from(indices.len() > 1), indices.len().saturating_sub(1));
        validation.extend(&indices[..held]);
        train.extend(&indices[held..]);
    }
    train.sort_unstable();
    validation.sort_unstable();
    (train, validation)
}

/// Cuts samples into shards of at most `size`, after a permutation by seed, so that every shard has all classes.
pub fn shards(ids: &[u32], size: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut permuted = ids.to_vec();
    permuted.shuffle(&mut seed::rng(seed, "shards", &[]));
    permuted.chunks(size.max(1)).map(<[u32]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_lost_and_classes_are_on_both_sides(labels in prop::collection::vec(0_u16..4, 0..60),
            fraction in 0.01_f64..0.5, seed in 0_u64..9) {
            let (train, validation) = hold_out(&labels, fraction, seed);
            let mut all: Vec<u32> = train.iter().chain(&validation).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len() as u32).collect::<Vec<_>>());
            for class in 0..4 {
                let count = |ids: &[u32]| ids.iter().filter(|&&id| labels[id as usize] == class).count();
                let both = count(&train) + count(&validation);
                prop_assert!(both < 2 || (count(&train) > 0 && count(&validation) > 0));
            }
            let mut cut = shards(&train, 7, seed).concat();
            cut.sort_unstable();
            prop_assert_eq!(cut, train);
        }
    }

    #[test]
    fn another_seed_holds_out_others() {
        let labels = vec![0; 100];
        assert_ne!(hold_out(&labels, 0.1, 1).1, hold_out(&labels, 0.1, 2).1);
        assert_eq!(hold_out(&labels, 0.1, 1), hold_out(&labels, 0.1, 1));
    }
}
