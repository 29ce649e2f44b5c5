//! Which batches the steps of a round are, and when it ends.

use super::io::fatal;
use super::train::Inputs;
use bloctrain_shared::order::round_end;
use bloctrain_shared::rounds::{Rounds, Slice};
use bloctrain_shared::spec::TrainSpec;
use bloctrain_shared::task::Failure;

/// The course of one round, or of one replica's part of it.
pub(super) struct Course {
    /// Batches of an epoch.
    per_epoch: u64,
    /// The optimiser's first step.
    pub(super) first: u64,
    /// Its step at the end of the round.
    pub(super) planned: u64,
    /// A replica's slice; `None` where every step is the batch of its number.
    slice: Option<Slice>,
}

impl Course {
    /// The course from the optimiser's step `first` on, with epochs of `per_epoch` batches.
    pub(super) fn new(spec: &TrainSpec, per_epoch: usize, first: u64, inputs: &Inputs<'_>) -> Result<Self, Failure> {
        let (round, replica) = (inputs.round, inputs.replica);
        let rounds = Rounds::new(per_epoch, spec.replicas, spec.round_steps);
        let slice = (replica > 0).then(|| rounds.slice(round, replica));
        let per_epoch = per_epoch as u64;
        let planned = match &slice {
            Some(slice) => slice.before + (slice.own.end - slice.own.start),
            None => round_end(first, per_epoch, spec.epochs, spec.round_steps),
        };
        if slice.as_ref().is_some_and(|slice| !(slice.before..=planned).contains(&first)) {
            return Err(fatal(format!("the optimiser of replica {replica} is at step {first}, which is not in round {round}")));
        }
        Ok(Self { per_epoch, first, planned, slice })
    }

    /// The batch of a step, counted through all epochs.
    pub(super) fn batch(&self, step: u64) -> u64 {
        self.slice.as_ref().map_or(step, |slice| self.start(slice) + slice.own.start + (step - slice.before))
    }

    /// Epoch of a step, and its batch in that epoch.
    pub(super) fn place(&self, step: u64) -> (u32, usize) {
        let batch = self.batch(step);
        (u32::try_from(batch / self.per_epoch).unwrap_or(u32::MAX), (batch % self.per_epoch) as usize)
    }

    /// Batches that all replicas together have done before a step, counted through all epochs.
    pub(super) fn position(&self, step: u64) -> u64 {
        self.slice.as_ref().map_or(step, |slice| self.start(slice) + slice.position(step - slice.before))
    }

    /// Epochs that are done before a step, taking the other replicas to be as far.
    pub(super) fn epochs(&self, step: u64) -> u32 {
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
