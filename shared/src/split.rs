//! Parts of a data set.

use crate::object::nameless;
use serde::{Deserialize, Serialize};

/// A part of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Samples that are trained on.
    Train,
    /// Training data held out by seed, for decisions and calibration.
    Validation,
    /// The data set's own test data, for reported figures only.
    Test,
}

impl Split {
    /// The split in a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

nameless!(Split);
