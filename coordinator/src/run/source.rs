//! Inputs of a block's tasks: what the block before has committed to the cache.

use super::block::Block;
use super::durable::Run;
use bloctrain_shared::plan::ExportPart;
use bloctrain_shared::stage::export;
use bloctrain_shared::task::{CachedShard, Fresh, Frozen, ObjectRef, Source, Split};

impl Run {
    fn before(&self, index: usize) -> Option<&Block> {
        index.checked_sub(1).and_then(|before| self.blocks.get(before))
    }

    /// Whether the samples that a block trains on are known: not as long as the block before has to select them.
    fn is_selected(&self, index: usize) -> bool {
        !self.selects() || self.before(index).is_none_or(|before| before.selection.is_some())
    }

    /// The samples that a block trains on, where the block before selected some.
    pub(super) fn among(&self, index: usize) -> Option<ObjectRef> {
        self.before(index).and_then(|before| before.selection.clone())
    }

    /// Training shards of some views, with the validation shards where asked for.
    pub(super) fn view_source(&self, index: usize, views: &[u32], validation: bool) -> Option<Source> {
        if index == 0 {
            return Some(Source::Images);
        }
        if !self.is_selected(index) {
            return None;
        }
        let wanted = |part: &ExportPart| match part.split {
            Split::Train => views.contains(&part.view),
            _ => validation,
        };
        let cached = self.cached(index, wanted)?;
        if self.plan.views > 0 {
            return Some(Source::Cache(cached));
        }
        self.fresh(index, cached)
    }

    /// What computes the training input of a block in views that are not cached.
    pub(super) fn uncached_source(&self, index: usize) -> Option<Source> {
        if index == 0 {
            return Some(Source::Images);
        }
        if self.is_selected(index) { self.fresh(index, Vec::new()) } else { None }
    }

    fn fresh(&self, index: usize, validation: Vec<CachedShard>) -> Option<Source> {
        // The block before has decided which classes this one sees.
        self.before(index)?.hard.as_ref()?;
        let frozen = |block: &Block| Some(Frozen { classes: block.classes.len(), weights: block.weights()?.clone() });
        let blocks = self.blocks[..index].iter().map(frozen).collect::<Option<_>>()?;
        Some(Source::Fresh(Fresh { blocks, validation }))
    }

    /// Input for one shard, when it is there.
    pub(super) fn shard_source(&self, index: usize, part: ExportPart) -> Option<Source> {
        if index == 0 {
            return Some(Source::Images);
        }
        if part.split == Split::Train && !self.is_selected(index) {
            return None;
        }
        let exported = self.before(index)?.exports.get(&self.plan.export_index(part))?;
        Some(Source::Cache(vec![exported.shard.clone()]))
    }

    fn cached(&self, index: usize, wanted: impl Fn(&ExportPart) -> bool) -> Option<Vec<CachedShard>> {
        let exports = &self.before(index)?.exports;
        let parts = (0..self.plan.export_count()).filter(|part| wanted(&self.plan.export_part(*part)));
        // Whether all of them are there is known before any is copied.
        let exported: Vec<&export::Output> = parts.map(|part| exports.get(&part)).collect::<Option<_>>()?;
        Some(exported.into_iter().map(|exported| exported.shard.clone()).collect())
    }
}
