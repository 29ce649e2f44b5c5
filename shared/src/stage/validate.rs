//! The confusion matrix of one validation shard.

use super::input::Source;
use crate::label::LabelMap;
use crate::metric::Confusion;
use crate::object::{ObjectRef, names};
use serde::{Deserialize, Serialize};

/// The confusion matrix of one validation shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Shard of the validation split.
    pub shard: u32,
    /// Classes of the block.
    pub classes: LabelMap,
    /// The frozen block.
    pub weights: ObjectRef,
    /// Input of the block: this shard.
    pub source: Source,
}

names!(Work { shard, classes, weights, source });

/// Counts of one shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The confusion matrix over the block's classes.
    pub confusion: Confusion,
}

names!(Output { confusion });
