//! How sure a frozen block is of the training samples of one shard, where hard inputs are selected.

use super::input::Source;
use crate::label::LabelMap;
use crate::object::{ObjectRef, names};
use serde::{Deserialize, Serialize};

/// The answers of a frozen block to its training samples of one shard, in a view that no block has trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Shard of the training split.
    pub shard: u32,
    /// Classes of the block.
    pub classes: LabelMap,
    /// The frozen block.
    pub weights: ObjectRef,
    /// The block's training samples, where the block before selected some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub among: Option<ObjectRef>,
    /// Images, or the blocks before that compute the input.
    pub source: Source,
}

names!(Work { shard, classes, weights, among, source });

/// How sure it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The [`Scores`](crate::hard_input::Scores).
    pub scores: ObjectRef,
}

names!(Output { scores });
