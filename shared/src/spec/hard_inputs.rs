//! `[hard_inputs]`: which samples the next block learns, whatever their class.

use serde::{Deserialize, Serialize};

const FLOOR: f64 = 0.1;

// Left out of a run's identity at its default: runs of before this field keep their ids.
fn is_floor(value: &f64) -> bool {
    *value == FLOOR
}

/// `[hard_inputs]`: in place of hard classes, the samples that a block is least sure of train the next block, and every
/// block tells all classes apart. A frozen block is asked about a view of its training samples that it has not trained
/// on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HardInputSpec {
    /// Share of a block's training samples that train the next block: those that it answers wrongly, then those of the
    /// lowest confidence. Where more are wrong, the least confident of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    /// Share of the samples of every class that goes on in any case, in the same order.
    #[serde(skip_serializing_if = "is_floor")]
    pub floor: f64,
}

impl Default for HardInputSpec {
    fn default() -> Self {
        Self { fraction: None, floor: FLOOR }
    }
}

impl HardInputSpec {
    /// Whether inputs are selected in place of classes.
    pub fn is_on(&self) -> bool {
        self.fraction.is_some()
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
