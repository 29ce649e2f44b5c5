//! The order in which an epoch's samples are trained on, known before the data is (design section 4, R-2).

use crate::seed;
use rand::seq::SliceRandom;

/// Shards whose samples are shuffled together.
pub const WINDOW_SHARDS: usize = 4;

/// Positions of an epoch's samples as (shard, index within shard), each exactly once.
///
/// Shards are permuted by (seed, block, epoch); samples are shuffled within windows of [`WINDOW_SHARDS`] consecutive
/// shards of that permutation, so a reader needs a window of shards at a time and can start before the last shard
/// exists. `sizes[s]` is the number of samples of shard s.
pub fn epoch_order(sizes: &[usize], seed: u64, block: u32, epoch: u32) -> Vec<(usize, usize)> {
    let mut shards: Vec<usize> = (0..sizes.len()).collect();
    shards.shuffle(&mut seed::rng(seed, "shard-order", &[block.into(), epoch.into()]));
    let mut order = Vec::with_capacity(sizes.iter().sum());
    for (number, window) in shards.chunks(WINDOW_SHARDS).enumerate() {
        let start = order.len();
        order.extend(window.iter().flat_map(|&shard| (0..sizes[shard]).map(move |index| (shard, index))));
        let mut rng = seed::rng(seed, "sample-order", &[block.into(), epoch.into(), number as u64]);
        order[start..].shuffle(&mut rng);
    }
    order
}

/// Optimiser steps of an epoch: full batches, and one short batch for a remainder of at least two samples.
///
/// A single left-over sample is merged into the batch before it, because batch statistics of one sample at one
/// position do not exist. With `drop_last` there are full batches only, unless there are too few samples for one.
pub fn batches(order: &[(usize, usize)], batch: usize, drop_last: bool) -> Vec<&[(usize, usize)]> {
    let mut chunks: Vec<&[(usize, usize)]> = order.chunks(batch.max(1)).collect();
    if drop_last && chunks.len() > 1 {
        chunks.retain(|chunk| chunk.len() == batch.max(1));
        return chunks;
    }
    if batch > 1 && chunks.len() > 1 && chunks.last().is_some_and(|last| last.len() == 1) {
        chunks.truncate(chunks.len() - 2);
        let start = chunks.iter().map(|chunk| chunk.len()).sum();
        chunks.push(&order[start..]);
    }
    chunks
}

/// The step at which a round that begins with step `first` ends: at the end of the epoch, or, with `round_steps`, at
/// their next multiple. So a round that was handed back and its rest end together where the whole round would have.
pub fn round_end(first: u64, per_epoch: u64, epochs: u32, round_steps: u32) -> u64 {
    let length = if round_steps == 0 { per_epoch } else { u64::from(round_steps) }.max(1);
    ((first / length + 1) * length).min(per_epoch * u64::from(epochs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn every_sample_once(sizes in prop::collection::vec(0_usize..20, 0..12), seed in 0_u64..50, epoch in 0_u32..5,
            batch in 1_usize..9) {
            let order = epoch_order(&sizes, seed, 1, epoch);
            let seen: BTreeSet<_> = order.iter().copied().collect();
            prop_assert_eq!(seen.len(), order.len());
            prop_assert_eq!(order.len(), sizes.iter().sum::<usize>());
            let batched: Vec<_> = batches(&order, batch, false).concat();
            prop_assert_eq!(&batched, &order);
            let full = batches(&order, batch, true);
            prop_assert!(full.len() == 1 || full.iter().all(|chunk| chunk.len() == batch));
            prop_assert_eq!(full.concat(), order[..full.iter().map(|chunk| chunk.len()).sum()].to_vec());
        }
    }

    #[test]
    fn batches_by_hand() {
        let order: Vec<(usize, usize)> = (0..11).map(|index| (0, index)).collect();
        let sizes = |samples: usize, batch, drop_last| {
            batches(&order[..samples], batch, drop_last).iter().map(|batch| batch.len()).collect::<Vec<_>>()
        };
        assert_eq!((sizes(11, 4, false), sizes(11, 4, true)), (vec![4, 4, 3], vec![4, 4]));
        assert_eq!(
            (sizes(9, 4, false), sizes(9, 4, true)),
            (vec![4, 5], vec![4, 4]),
            "one left over joins, or is left out"
        );
        assert_eq!((sizes(8, 4, true), sizes(3, 4, true)), (vec![4, 4], vec![3]), "too few for a batch");
    }

    #[test]
    fn the_rest_of_a_round_ends_where_the_whole_would_have() {
        assert_eq!((round_end(0, 10, 3, 0), round_end(7, 10, 3, 0), round_end(10, 10, 3, 0)), (10, 10, 20));
        assert_eq!((round_end(8, 10, 3, 4), round_end(9, 10, 3, 4), round_end(12, 10, 3, 4)), (12, 12, 16));
        assert_eq!(round_end(28, 10, 3, 4), 30, "the last round is shorter");
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let sizes = [8; 6];
        assert_ne!(epoch_order(&sizes, 1, 1, 0), epoch_order(&sizes, 1, 1, 1));
        assert_ne!(epoch_order(&sizes, 1, 1, 0), epoch_order(&sizes, 2, 1, 0));
        assert_eq!(epoch_order(&sizes, 1, 1, 0), epoch_order(&sizes, 1, 1, 0));
    }
}
