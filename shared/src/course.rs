//! Which batches the steps of a round are, and when it ends.

use crate::order::round_end;
use crate::rounds::{Rounds, Slice};
use crate::spec::TrainSpec;

/// An optimiser that is not where a replica's part of a round is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the optimiser of replica {replica} is at step {first}, which is not in round {round}")]
pub struct NotInRound {
    replica: u32,
    first: u64,
    round: u32,
}

/// The course of one round, or of one replica's part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// Batches of an epoch.
    per_epoch: u64,
    /// The optimiser's first step.
    pub first: u64,
    /// Its step at the end of the round.
    pub planned: u64,
    /// A replica's slice; `None` where every step is the batch of its number.
    slice: Option<Slice>,
}

impl Course {
    /// The course of a round (from 0), or with a replica (from 1) of its part, from the optimiser's step `first` on; an
    /// epoch has `per_epoch` batches.
    ///
    /// # Errors
    /// When the replica's part does not have that step.
    pub fn new(spec: &TrainSpec, per_epoch: usize, first: u64, round: u32, replica: u32) -> Result<Self, NotInRound> {
        let slice = (replica > 0).then(|| Rounds::of(spec, per_epoch).slice(round, replica));
        let per_epoch = per_epoch as u64;
        let planned = match &slice {
            Some(slice) => slice.before + (slice.own.end - slice.own.start),
            None => round_end(first, per_epoch, spec.epochs, spec.round_steps),
        };
        if slice.as_ref().is_some_and(|slice| !(slice.before..=planned).contains(&first)) {
            return Err(NotInRound { replica, first, round });
        }
        Ok(Self { per_epoch, first, planned, slice })
    }

    /// The batch of a step, counted through all epochs.
    pub fn batch(&self, step: u64) -> u64 {
        self.slice.as_ref().map_or(step, |slice| self.start(slice) + slice.own.start + (step - slice.before))
    }

    /// Epoch of a step, and its batch in that epoch.
    pub fn place(&self, step: u64) -> (u32, usize) {
        let batch = self.batch(step);
        (u32::try_from(batch / self.per_epoch).unwrap_or(u32::MAX), (batch % self.per_epoch) as usize)
    }

    /// Batches that all replicas together have done before a step, counted through all epochs.
    pub fn position(&self, step: u64) -> u64 {
        self.slice.as_ref().map_or(step, |slice| self.start(slice) + slice.position(step - slice.before))
    }

    /// Epochs that are done before a step, taking the other replicas to be as far.
    pub fn epochs(&self, step: u64) -> u32 {
        let done = match &self.slice {
            Some(slice) if step >= self.planned => self.start(slice) + slice.round.end,
            _ => self.position(step),
        };
        u32::try_from(done / self.per_epoch).unwrap_or(u32::MAX)
    }

    fn start(&self, slice: &Slice) -> u64 {
        u64::from(slice.epoch) * self.per_epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RunSpec;

    #[test]
    fn what_is_left_of_a_part_goes_on_in_its_slice() {
        let mut spec = RunSpec::default().train;
        (spec.replicas, spec.round_steps, spec.epochs) = (2, 3, 2);
        // Ten batches in two rounds of five; the second replica has batches 2, 3 and 4, then 7, 8 and 9.
        let whole = Course::new(&spec, 10, 0, 0, 2).expect("its first step");
        assert_eq!((whole.planned, whole.batch(0), whole.position(0), whole.epochs(3)), (3, 2, 0, 0));
        let rest = Course::new(&spec, 10, 4, 1, 2).expect("a part that was handed back");
        assert_eq!((rest.planned, rest.batch(4), rest.place(5), rest.epochs(6)), (6, 8, (0, 9), 1));
        assert_eq!(Course::new(&spec, 10, 7, 1, 2), Err(NotInRound { replica: 2, first: 7, round: 1 }));
        let plain = Course::new(&spec, 10, 2, 0, 0).expect("plain training");
        assert_eq!((plain.planned, plain.batch(2), plain.place(12)), (3, 2, (1, 2)));
    }
}
