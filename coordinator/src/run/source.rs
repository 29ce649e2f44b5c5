//! Inputs of a block's tasks: what the block before has committed to the cache.

use super::block::Block;
use super::durable::Run;
use bloctrain_shared::plan::ExportPart;
use bloctrain_shared::stage::export;
use bloctrain_shared::task::{CachedShard, Fresh, Frozen, Source, Split};

impl Run {
    fn before(&self, index: usize) -> Option<&Block> {
        index.checked_sub(1).and_then(|before| self.blocks.get(before))
    }

    /// Training shards of some views, with the validation shards where asked for.
    pub(super) fn view_source(&self, index: usize, views: &[u32], validation: bool) -> Option<Source> {
        if index == 0 {
            return Some(Source::Images);
        }
        let wanted = |part: &ExportPart| match part.split {
            Split::Train => views.contains(&part.view),
            _ => validation,
        };
        let cached = self.cached(index, wanted)?;
        if self.plan.views > 0 {
            return Some(Source::Cache(cached));
        }
        // The block before has decided which classes this one sees.
        self.before(index)?.hard.as_ref()?;
        let frozen = |block: &Block| Some(Frozen { classes: block.classes.len(), weights: block.weights()?.clone() });
        let blocks = self.blocks[..index].iter().map(frozen).collect::<Option<_>>()?;
        Some(Source::Fresh(Fresh { blocks, validation: cached }))
    }

    /// Input for one shard, when it is there.
    pub(super) fn shard_source(&self, index: usize, part: ExportPart) -> Option<Source> {
        if index == 0 {
            return Some(Source::Images);
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
