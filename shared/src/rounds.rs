//! How an epoch is cut into rounds of data-parallel training, and a round into the slices of its replicas.
//!
//! The batches of an epoch are those of plain training, in the same order. They are cut into rounds as evenly as whole
//! batches allow, and each round into one slice per replica: neighbouring batches, so that a replica reads few shards.
//! Every batch of an epoch is in one slice of one round. No round reaches into the next epoch.

use crate::spec::TrainSpec;
use std::ops::Range;

/// Local steps of a round where the specification leaves them open.
pub const DEFAULT_STEPS: u32 = 8;

/// Optimiser steps of plain training in an epoch, as [`batches`](crate::order::batches) cuts it.
pub fn batch_count(samples: usize, train: &TrainSpec) -> usize {
    let batch = train.batch.max(1);
    if train.drop_last && samples > batch {
        return samples / batch;
    }
    let count = samples.div_ceil(batch);
    if batch > 1 && count > 1 && samples % batch == 1 { count - 1 } else { count }
}

/// Samples that an epoch trains on: without those that `train.drop_last` leaves out.
pub fn samples_trained(samples: usize, train: &TrainSpec) -> usize {
    if train.drop_last { samples.min(batch_count(samples, train) * train.batch.max(1)) } else { samples }
}

/// The cut of every epoch of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounds {
    batches: u64,
    replicas: u64,
    per_epoch: u64,
}

/// What one replica does in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The epoch, from 0.
    pub epoch: u32,
    /// The round's batches in the order of the epoch, of all replicas.
    pub round: Range<u64>,
    /// Those of the replica; none when the round has fewer batches than there are replicas.
    pub own: Range<u64>,
    /// Steps that the replica made before this round.
    pub before: u64,
}

impl Slice {
    /// Batches of the epoch that all replicas together have done when this one has made `done` steps of its slice:
    /// where the schedule of the learning rate stands.
    pub fn position(&self, done: u64) -> u64 {
        let (round, own) = (self.round.end - self.round.start, self.own.end - self.own.start);
        self.round.start + done * round / own.max(1)
    }
}

impl Rounds {
    /// The cut of epochs of some batches into rounds of about `steps` steps of each replica; 0 means [`DEFAULT_STEPS`].
    pub fn new(batches: usize, replicas: u32, steps: u32) -> Self {
        let (batches, replicas) = (batches.max(1) as u64, u64::from(replicas.max(1)));
        let steps = u64::from(if steps == 0 { DEFAULT_STEPS } else { steps });
        Self { batches, replicas, per_epoch: batches.div_ceil(replicas * steps) }
    }

    /// The cut that a specification asks for, of epochs of some batches.
    pub fn of(train: &TrainSpec, batches: usize) -> Self {
        Self::new(batches, train.replicas, train.round_steps)
    }

    /// Epochs that are done after a round (from 0).
    pub fn epochs(&self, round: u32) -> u32 {
        (round + 1) / self.per_epoch()
    }

    /// Whether a round (from 0) is the last of its epoch.
    pub fn ends_epoch(&self, round: u32) -> bool {
        (round + 1).is_multiple_of(self.per_epoch())
    }

    /// Rounds of an epoch.
    pub fn per_epoch(&self) -> u32 {
        u32::try_from(self.per_epoch).unwrap_or(u32::MAX)
    }

    /// The part of a replica (from 1) in a round (from 0 at the block's start).
    pub fn slice(&self, round: u32, replica: u32) -> Slice {
        let round = u64::from(round);
        let (epoch, number) = (round / self.per_epoch, round % self.per_epoch);
        let before_in_epoch: u64 = (0..number).map(|number| self.own(number, replica).count() as u64).sum();
        let epoch_steps: u64 = (0..self.per_epoch).map(|number| self.own(number, replica).count() as u64).sum();
        Slice {
            epoch: u32::try_from(epoch).unwrap_or(u32::MAX),
            round: self.span(number),
            own: self.own(number, replica),
            before: epoch * epoch_steps + before_in_epoch,
        }
    }

    fn span(&self, number: u64) -> Range<u64> {
        cut(0..self.batches, number, self.per_epoch)
    }

    fn own(&self, number: u64, replica: u32) -> Range<u64> {
        cut(self.span(number), u64::from(replica.saturating_sub(1)), self.replicas)
    }
}

/// Part `number` of `parts` of a range, whose lengths differ by one at most.
fn cut(range: Range<u64>, number: u64, parts: u64) -> Range<u64> {
    let length = range.end - range.start;
    range.start + length * number / parts..range.start + length * (number + 1) / parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{batches, epoch_order};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_sample_of_an_epoch_is_in_one_slice(
            samples in 1_usize..500, batch in 1_usize..33, replicas in 1_u32..8, steps in 0_u32..20, epoch in 0_u32..3,
            drop_last in any::<bool>(),
        ) {
            let order = epoch_order(&[samples / 2, samples - samples / 2], 3, 1, epoch);
            let batches = batches(&order, batch, drop_last);
            let spec = TrainSpec { batch, drop_last, ..TrainSpec::default() };
            prop_assert_eq!(batches.len(), batch_count(samples, &spec));
            let rounds = Rounds::new(batches.len(), replicas, steps);
            let mut trained = Vec::new();
            let mut made = vec![0; replicas as usize];
            for round in 0..(epoch + 1) * rounds.per_epoch() {
                let mut next = None;
                for replica in 1..=replicas {
                    let slice = rounds.slice(round, replica);
                    let made = &mut made[replica as usize - 1];
                    prop_assert_eq!(slice.before, *made, "steps of the rounds before");
                    *made += slice.own.end - slice.own.start;
                    prop_assert_eq!(slice.own.start, next.unwrap_or(slice.round.start), "neighbouring slices");
                    next = Some(slice.own.end);
                    let most = u64::from(if steps == 0 { DEFAULT_STEPS } else { steps });
                    prop_assert!(slice.own.end - slice.own.start <= most);
                    if slice.epoch == epoch {
                        (slice.own).for_each(|index| trained.extend_from_slice(batches[index as usize]));
                    }
                }
                prop_assert_eq!(next, Some(rounds.slice(round, 1).round.end));
            }
            prop_assert_eq!(trained, batches.concat(), "R-2: each sample of a batch once, in the order of the epoch");
            prop_assert!(drop_last || batches.concat() == order, "and of the epoch");
        }

        #[test]
        fn the_learning_rate_stands_where_all_replicas_stand(batches in 1_usize..200, replicas in 1_u32..8,
            steps in 1_u32..20) {
            let rounds = Rounds::new(batches, replicas, steps);
            for round in 0..rounds.per_epoch() {
                let slice = rounds.slice(round, 1);
                let own = slice.own.end - slice.own.start;
                let positions: Vec<u64> = (0..own).map(|done| slice.position(done)).collect();
                prop_assert!(positions.iter().all(|position| slice.round.contains(position)));
                prop_assert!(positions.is_sorted());
            }
        }
    }

    #[test]
    fn a_cut_by_hand() {
        let rounds = Rounds::new(10, 2, 3);
        assert_eq!(rounds.per_epoch(), 2);
        assert_eq!(rounds.slice(0, 2), Slice { epoch: 0, round: 0..5, own: 2..5, before: 0 });
        assert_eq!(rounds.slice(3, 1), Slice { epoch: 1, round: 5..10, own: 5..7, before: 6 });
        assert_eq!(rounds.slice(0, 2).position(1), 1);
        assert_eq!(Rounds::new(3, 4, 1).slice(0, 1).own, 0..0, "fewer batches than replicas");
    }
}
