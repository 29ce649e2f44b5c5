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
    /// Input of the block: all training shards of view 0.
    pub source: Source,
}

names!(Work { classes, hard, weights, source });

/// A detector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Its parameters; `None` for policies that learn nothing.
    pub detector: Option<ObjectRef>,
}

names!(Output { detector });
