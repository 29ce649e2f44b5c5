//! The spikes of a frozen block on the hard samples of one shard, into the cache.
//!
//! The shard's address is the digest of everything that determines it, so a shard that an earlier run left is used
//! again.

use super::input::{self, Reader};
use super::io::fatal;
use super::{Context, Control, EVAL_BATCH, Executor, Stop, passed};
use crate::kernel::SpikingBackend;
use crate::snn::trainer::TrainingBackend;
use bloctrain_shared::Digest;
use bloctrain_shared::plan::ARITHMETIC_VERSION;
use bloctrain_shared::spec::Augment;
use bloctrain_shared::spec::field::Reach;
use bloctrain_shared::spike::SpikeDims;
use bloctrain_shared::stage::export::{self, Work};
use bloctrain_shared::task::{CachedShard, Output, Source, Split};
use bloctrain_store::cache::{self, CacheManifest, CacheMeta, SpikeShard};

pub(super) fn run<B: TrainingBackend>(
    executor: &Executor<B>,
    context: &Context,
    work: &Work,
    control: &Control,
) -> Result<Output, Stop> {
    let Work { classes, hard, weights, among, selection, source, .. } = work;
    let net = executor.frozen(context, classes.len(), weights)?;
    let spec = &context.submission.spec;
    let reader = Reader::new(&context.prepared, spec, &executor.io, work.split, classes, source);
    let reader = reader.among(&executor.io, among.as_ref())?;
    let samples = context.prepared.samples(work.split);
    let mut shards = match selection {
        Some(selection) => input::selection(&executor.io, selection, reader.shards())?.shards,
        None => context.prepared.shards_of(work.split, hard),
    };
    let ids = shards.get_mut(work.shard as usize).map(std::mem::take).unwrap_or_default();
    let meta = meta(context, work, net.spike_dims());
    let store = executor.io.artefacts();
    let identity = meta.identity(&ids);
    let found = executor.io.block_on(cache::lookup(store, identity))?;
    if let Some(manifest) = found {
        return Ok(output(work, manifest, true));
    }
    let mut next = ids.iter().peekable();
    let is_hard = |position: &(usize, usize)| next.next_if(|id| **id == reader.id(*position)).is_some();
    let positions: Vec<(usize, usize)> = reader.positions_of(work.shard).into_iter().filter(is_hard).collect();
    let body = net.frozen_body();
    let mut shard = SpikeShard { meta, ids, labels: Vec::with_capacity(positions.len()), packed: Vec::new() };
    for (number, chunk) in positions.chunks(EVAL_BATCH).enumerate() {
        passed(control, number * EVAL_BATCH, positions.len())?;
        let batch = reader.batch::<B::InnerBackend>(chunk, work.view, &executor.device)?;
        let spikes = B::InnerBackend::run_frozen(&body, batch.input, false).0.into_spikes(chunk.len());
        shard.labels.extend(batch.ids.iter().map(|&id| samples.label(id as usize)));
        (0..chunk.len()).for_each(|sample| spikes.pack_sample(sample, &mut shard.packed));
    }
    if shard.labels.len() != shard.ids.len() {
        return Err(fatal("the samples of a shard do not match the data set").into());
    }
    let manifest = executor.io.block_on(cache::write(store, &shard))?;
    Ok(output(work, manifest, false))
}

fn output(work: &Work, manifest: CacheManifest, reused: bool) -> Output {
    let shard = CachedShard { split: work.split, view: work.view, shard: work.shard, object: manifest.object };
    Output::Export(export::Output { shard, uncompressed_bytes: manifest.uncompressed_bytes, reused })
}

/// What determines the shard: the block, what comes into it, and every field of the specification that reaches spikes.
fn meta(context: &Context, work: &Work, dims: SpikeDims) -> CacheMeta {
    let spec = &context.submission.spec;
    let mut inputs: Vec<Digest> = match &work.source {
        Source::Images => Vec::new(),
        Source::Cache(shards) => shards.iter().map(|shard| shard.object.digest).collect(),
        Source::Fresh(fresh) => fresh.validation.iter().map(|shard| shard.object.digest).collect(),
    };
    if work.split == Split::Train && spec.data.augment.contains(&Augment::CutMix) {
        // What may be mixed into an image.
        inputs.push(Digest::of_json(&context.prepared.shards(Split::Train)));
    }
    inputs.push(work.weights.digest);
    CacheMeta {
        dims,
        blocks: inputs,
        dataset: context.submission.dataset.digest,
        encoding: spec.identity(Reach::Spikes).to_string(),
        seed: spec.run.seed,
        split: work.split,
        view: work.view,
        arithmetic: ARITHMETIC_VERSION,
        backend: context.submission.backend.clone(),
    }
}
