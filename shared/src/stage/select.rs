//! Which training samples of a block train the next one, where hard inputs are selected.

use crate::label::LabelMap;
use crate::object::{ObjectRef, names};
use serde::{Deserialize, Serialize};

/// The rule of [`hard_input::select`](crate::hard_input::select) over the scores of a whole block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Classes of the block.
    pub classes: LabelMap,
    /// The block's training samples, where the block before selected some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub among: Option<ObjectRef>,
    /// Scores of the training shards, in order.
    pub scores: Vec<ObjectRef>,
}

names!(Work { classes, among, scores });

/// What was selected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The [`Selection`](crate::hard_input::Selection).
    pub selection: ObjectRef,
    /// Samples of the block.
    pub samples: u64,
    /// Those of them that go on.
    pub selected: u64,
    /// Those of them that the block answers wrongly; absent from older workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<u64>,
}

names!(Output { selection, samples, selected, wrong });
