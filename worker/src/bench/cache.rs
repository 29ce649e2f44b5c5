//! The spike cache beside its bounds, for `bench cache`: the same spikes through the cache, the same compressed bytes
//! through a plain file, and the same buffers through zstd alone.
//!
//! Spikes are those of the first block after some training, on training images. What was just written is read again, so
//! both reads come from the system's page cache.

use super::{Clock, GIGA, Images, SEED, image_tensor, step};
use crate::kernel::{BodyInput, Mode};
use crate::snn::block::BlockNet;
use crate::snn::pass::Pass;
use crate::stage::io::Io;
use bloctrain_shared::plan::{ARITHMETIC_VERSION, SHARD_SAMPLES};
use bloctrain_shared::task::Split;
use bloctrain_shared::{Digest, RunSpec};
use bloctrain_store::cache::{self, CacheMeta, SpikeShard, ZSTD_LEVEL};
use burn_flex::Flex;
use serde::Serialize;
use std::io::{Read, Write};
use std::path::Path;

/// Samples in one forward pass.
const BATCH: usize = 64;

/// Figures of the cache. Speeds are in 10^9 bytes of spikes *before* compression per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Bytes of packed spikes.
    pub bytes: u64,
    /// Bytes of their files.
    pub compressed_bytes: u64,
    /// The former over the latter.
    pub compression_ratio: f64,
    /// Share of ones in the spikes.
    pub firing_rate: f64,
    /// The cache, written: compressed, digested, on the disk.
    pub write_gb_per_s: f64,
    /// The cache, read: digest verified, decompressed.
    pub read_gb_per_s: f64,
    /// The files' bytes written to a plain file and synchronised.
    pub disk_write_gb_per_s: f64,
    /// The files' bytes read from it.
    pub disk_read_gb_per_s: f64,
    /// zstd alone, at the level and in the pieces of the cache.
    pub zstd_compress_gb_per_s: f64,
    /// zstd alone.
    pub zstd_decompress_gb_per_s: f64,
}

/// Writes and reads `shards` shards of spikes in a store that lies in `folder`.
///
/// # Errors
/// When the network cannot be built, or the folder cannot be written.
pub fn cache(
    spec: &RunSpec,
    images: &Images,
    (shards, train_steps): (u32, usize),
    (io, folder): (&Io, &Path),
    clock: Clock<'_>,
) -> Result<Figures, String> {
    let mut first = spec.clone();
    let network = first.network.resolve().map_err(|error| error.to_string())?;
    first.network = bloctrain_shared::spec::NetworkSpec { block: network.blocks[..1].to_vec(), ..Default::default() };
    let net = step::trained(&first, images, train_steps)?.pop().ok_or("the network has no block")?;
    let shards: Vec<SpikeShard> = (0..shards).map(|shard| export(&net, images, shard)).collect();
    let text = |error: bloctrain_shared::task::Failure| error.to_string();

    let timed = |work: &mut dyn FnMut() -> Result<(), String>| {
        let begun = clock();
        work().map(|()| (clock() - begun).max(1e-12))
    };
    let mut manifests = Vec::new();
    let write = timed(&mut || {
        for shard in &shards {
            manifests.push(io.block_on(cache::write(io.artefacts(), shard)).map_err(text)?);
        }
        Ok(())
    })?;
    let mut same = true;
    let read = timed(&mut || {
        for (shard, manifest) in shards.iter().zip(&manifests) {
            let found = io.block_on(cache::read(io.artefacts(), &manifest.object)).map_err(text)?;
            same &= found.ids.len() == shard.ids.len();
        }
        Ok(())
    })?;
    if !same {
        return Err("a shard came back with other samples than were written".into());
    }
    let files: Vec<bytes::Bytes> =
        manifests.iter().map(|manifest| io.get(&manifest.object)).collect::<Result<_, _>>().map_err(text)?;
    let (disk_write, disk_read) =
        disk(&files, folder, clock).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (compress, decompress) = zstd_alone(&shards, clock).map_err(|error| error.to_string())?;

    let bytes: u64 = manifests.iter().map(|manifest| manifest.uncompressed_bytes).sum();
    let compressed_bytes: u64 = manifests.iter().map(|manifest| manifest.object.bytes).sum();
    let ones: u64 = shards.iter().flat_map(|shard| &shard.packed).map(|byte| u64::from(byte.count_ones())).sum();
    let sites: usize = shards.iter().map(|shard| shard.ids.len() * shard.meta.dims.sites()).sum();
    let speed = |seconds: f64| bytes as f64 / seconds / GIGA;
    Ok(Figures {
        bytes,
        compressed_bytes,
        compression_ratio: bytes as f64 / compressed_bytes.max(1) as f64,
        firing_rate: ones as f64 / sites.max(1) as f64,
        write_gb_per_s: speed(write),
        read_gb_per_s: speed(read),
        disk_write_gb_per_s: speed(disk_write),
        disk_read_gb_per_s: speed(disk_read),
        zstd_compress_gb_per_s: speed(compress),
        zstd_decompress_gb_per_s: speed(decompress),
    })
}

fn export(net: &BlockNet<Flex>, images: &Images, shard: u32) -> SpikeShard {
    let first = shard * SHARD_SAMPLES as u32;
    let meta = CacheMeta {
        dims: net.spike_dims(),
        blocks: vec![Digest::of(b"benchmark")],
        dataset: Digest::of(b"benchmark"),
        encoding: "{}".into(),
        seed: SEED,
        split: Split::Train,
        view: 0,
        arithmetic: ARITHMETIC_VERSION,
        backend: "cpu".into(),
    };
    let ids: Vec<u32> = (first..first + SHARD_SAMPLES as u32).collect();
    let mut out = SpikeShard { meta, ids, labels: Vec::new(), packed: Vec::new() };
    for number in 0..SHARD_SAMPLES / BATCH {
        let (values, labels) = images.batch(BATCH, first as usize / BATCH + number);
        let input = BodyInput::Image(image_tensor(values, images.shape(), &Default::default()));
        let spikes = net.body(input, &mut Pass::new(net.steps(), BATCH, Mode::Eval)).into_spikes(BATCH);
        out.labels.extend(labels.iter().map(|&label| label as u16));
        (0..BATCH).for_each(|sample| spikes.pack_sample(sample, &mut out.packed));
    }
    out
}

/// Seconds to write the files' bytes to plain files and synchronise them, and to read them back.
fn disk(files: &[bytes::Bytes], folder: &Path, clock: Clock<'_>) -> std::io::Result<(f64, f64)> {
    let path = |number: usize| folder.join(format!("bench-raw-{number}.tmp"));
    let begun = clock();
    for (number, bytes) in files.iter().enumerate() {
        let mut file = std::fs::File::create(path(number))?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    let written = clock();
    let mut content = Vec::new();
    for (number, bytes) in files.iter().enumerate() {
        content.clear();
        content.reserve(bytes.len());
        std::fs::File::open(path(number))?.read_to_end(&mut content)?;
    }
    let read = clock();
    (0..files.len()).try_for_each(|number| std::fs::remove_file(path(number)))?;
    Ok(((written - begun).max(1e-12), (read - written).max(1e-12)))
}

/// Seconds of zstd alone, both ways.
fn zstd_alone(shards: &[SpikeShard], clock: Clock<'_>) -> std::io::Result<(f64, f64)> {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    let mut decompressor = zstd::bulk::Decompressor::new()?;
    let piece = |shard: &SpikeShard| cache::ROWS * shard.meta.dims.packed_bytes();
    let mut packed = Vec::new();
    let begun = clock();
    for shard in shards {
        for bytes in shard.packed.chunks(piece(shard).max(1)) {
            packed.push((compressor.compress(bytes)?, bytes.len()));
        }
    }
    let compressed = clock();
    for (bytes, size) in &packed {
        decompressor.decompress(bytes, *size)?;
    }
    Ok(((compressed - begun).max(1e-12), (clock() - compressed).max(1e-12)))
}
