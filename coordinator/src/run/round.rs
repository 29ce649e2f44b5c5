//! Rounds of training as they are kept.

use bloctrain_shared::stage::train::{Checkpoint, RoundMetrics};
use bloctrain_shared::task::ObjectRef;
use serde::{Deserialize, Serialize};

/// A committed round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// State after the round.
    pub checkpoint: Checkpoint,
    /// Its metrics.
    pub metrics: RoundMetrics,
    /// Whether its checkpoint is still stored.
    pub kept: bool,
    /// What each replica keeps; empty where there is only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<Replica>,
}

impl Round {
    /// Stored objects from which training goes on.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        let optimizers = self.replicas.iter().map(|replica| &replica.optimizer);
        [&self.checkpoint.weights, &self.checkpoint.optimizer].into_iter().chain(optimizers)
    }
}

/// What a replica has trained since the last merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its state.
    pub checkpoint: Checkpoint,
    /// Whether it made all steps of the round; not when it was handed back.
    pub complete: bool,
    /// Metrics of the steps that it made.
    pub metrics: RoundMetrics,
    /// Links of its chain that are committed.
    pub links: u32,
}

/// What a replica keeps from one round to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    /// Its optimiser state.
    pub optimizer: ObjectRef,
    /// Links of its chain that are committed.
    pub links: u32,
}
