//! The outer step over the replicas of a round. What it makes is a [round](super::train::Output).

use super::input::Source;
use super::train::{Checkpoint, RoundMetrics};
use crate::label::LabelMap;
use crate::object::{ObjectRef, names};
use serde::{Deserialize, Serialize};

/// What one replica trained in a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Its parameters and running statistics.
    pub weights: ObjectRef,
    /// Its metrics.
    pub metrics: RoundMetrics,
}

names!(Trained { weights, metrics });

/// The outer step over the replicas of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The round, from 0.
    pub round: u32,
    /// Classes of the block.
    pub classes: LabelMap,
    /// Where the round started; `None` starts from the seed.
    pub from: Option<Checkpoint>,
    /// Final weights of the block before, where the round started from what that one was trained with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherits: Option<ObjectRef>,
    /// What the replicas trained, in their order.
    pub replicas: Vec<Trained>,
    /// Input of the block: validation shards, where `patience` asks for the accuracy.
    pub source: Source,
}

names!(Work { round, classes, from, inherits, replicas, source });
