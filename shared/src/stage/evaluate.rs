//! Answers of the whole network to one shard.

use super::input::FrozenBlock;
use crate::object::{ObjectRef, names};
use crate::split::Split;
use serde::{Deserialize, Serialize};

/// Answers of the whole network to one shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Validation or test.
    pub split: Split,
    /// The shard.
    pub shard: u32,
    /// The network.
    pub blocks: Vec<FrozenBlock>,
}

names!(Work { split, shard, blocks });

/// Answers to one shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The records.
    pub records: ObjectRef,
}

names!(Output { records });
