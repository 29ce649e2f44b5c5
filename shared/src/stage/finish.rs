//! Calibration, summary and model package.

use super::input::FrozenBlock;
use super::train::RoundMetrics;
use crate::metric::Confusion;
use crate::object::{ObjectRef, names};
use crate::summary::{CacheSize, Summary};
use serde::{Deserialize, Serialize};

/// What training and validation of a block found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockProgress {
    /// Metrics of every committed round, in order.
    pub rounds: Vec<RoundMetrics>,
    /// Complete validation of the frozen block.
    pub confusion: Confusion,
}

names!(BlockProgress { rounds, confusion });

/// Calibration, summary and model package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The network.
    pub blocks: Vec<FrozenBlock>,
    /// Records of the validation shards, in order.
    pub validation: Vec<ObjectRef>,
    /// Records of the test shards, in order.
    pub test: Vec<ObjectRef>,
    /// What training and validation of each block found.
    pub progress: Vec<BlockProgress>,
    /// Totals of the spike cache.
    pub cache: CacheSize,
    /// Seconds of work on all committed tasks of the run.
    pub seconds: f64,
}

names!(Work { blocks, validation, test, progress, cache, seconds });

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Its figures.
    pub summary: Box<Summary>,
}

names!(Output { summary });
