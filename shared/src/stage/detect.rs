//! Training of a block's detector.

use super::input::Source;
use crate::label::LabelMap;
use crate::object::{ObjectRef, names};
use serde::{Deserialize, Serialize};

/// Training of the block's detector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Classes of the block.
    pub classes: LabelMap,
    /// Classes that stayed hard.
    pub hard: LabelMap,
    /// The frozen block.
    pub weights: ObjectRef,
    /// The block's training samples, where the block before selected some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub among: Option<ObjectRef>,
    /// Those that train the next block, where inputs are selected: these count as hard then, whatever their class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<ObjectRef>,
    /// Input of the block: all training shards of view 0, or what computes a view that no block has trained on.
    pub source: Source,
}

names!(Work { classes, hard, weights, among, selection, source });

/// A detector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Its parameters; `None` for policies that learn nothing.
    pub detector: Option<ObjectRef>,
}

names!(Output { detector });
