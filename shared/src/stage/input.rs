//! What tasks start from: samples of a split, cached spikes, frozen blocks.

use crate::label::LabelMap;
use crate::object::{Names, ObjectRef, names};
use crate::split::Split;
use serde::{Deserialize, Serialize};

/// One committed shard of the spike cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedShard {
    /// Split that the samples belong to.
    pub split: Split,
    /// Augmented view; 0 for validation data.
    pub view: u32,
    /// Shard of the split.
    pub shard: u32,
    /// The Arrow IPC file.
    pub object: ObjectRef,
}

names!(CachedShard { split, view, shard, object });

/// Where a block's input comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Encoded images of the data set.
    Images,
    /// Cached spikes of the block before.
    Cache(Vec<CachedShard>),
    /// Training data through the frozen blocks before, computed again for every epoch; validation data from the cache.
    Fresh(Fresh),
}

/// Blocks that compute a block's input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fresh {
    /// The blocks before, first to last.
    pub blocks: Vec<Frozen>,
    /// Cached validation shards, where they are read.
    pub validation: Vec<CachedShard>,
}

names!(Fresh { blocks, validation });

/// A frozen block that only emits spikes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Number of classes that it tells apart.
    pub classes: usize,
    /// Its parameters.
    pub weights: ObjectRef,
}

names!(Frozen { classes, weights });

impl Names for Source {
    fn each_object<'a>(&'a self, see: &mut dyn FnMut(&'a ObjectRef)) {
        match self {
            Self::Images => {}
            Self::Cache(shards) => shards.each_object(see),
            Self::Fresh(fresh) => fresh.each_object(see),
        }
    }
}

/// A block whose parameters do not change any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenBlock {
    /// The block, from 1.
    pub block: u32,
    /// Classes that it tells apart.
    pub classes: LabelMap,
    /// Classes that stayed hard; empty for the last block.
    pub hard: LabelMap,
    /// Its parameters.
    pub weights: ObjectRef,
    /// Its detector; `None` for the last block and for policies that learn nothing.
    pub detector: Option<ObjectRef>,
}

names!(FrozenBlock { block, classes, hard, weights, detector });
