//! Spikes of one shard's hard samples, into the cache.

use super::input::{CachedShard, Source};
use crate::label::LabelMap;
use crate::object::{ObjectRef, names};
use crate::split::Split;
use serde::{Deserialize, Serialize};

/// Spikes of one shard's hard samples, into the cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Split of the shard.
    pub split: Split,
    /// Augmented view.
    pub view: u32,
    /// The shard.
    pub shard: u32,
    /// Classes of the block.
    pub classes: LabelMap,
    /// Classes whose samples are exported.
    pub hard: LabelMap,
    /// The frozen block.
    pub weights: ObjectRef,
    /// The block's training samples, where the block before selected some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub among: Option<ObjectRef>,
    /// The samples that are exported, where inputs are selected; of validation shards all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<ObjectRef>,
    /// Input of the block: this shard and view.
    pub source: Source,
}

names!(Work { split, view, shard, classes, hard, weights, among, selection, source });

/// A cached shard, as it is committed and kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The shard.
    pub shard: CachedShard,
    /// Bytes of its spikes packed, before compression.
    pub uncompressed_bytes: u64,
    /// Whether an earlier run had left it in the cache.
    pub reused: bool,
}

names!(Output { shard, uncompressed_bytes, reused });
