//! A shard of spikes as an Arrow IPC file, which any Arrow reader opens.
//!
//! Columns: `sample_id: uint32`, `label: uint16`, `view: uint32`, `spikes: fixed_size_binary`, the last packed as
//! [`bloctrain_shared::spike`] says. Buffers are compressed with zstd. Record batches are small, so that a reader can
//! stream. The schema's metadata says in words what the bits mean, for readers that know nothing of this project.

use crate::cache::{CacheMeta, SpikeShard};
use arrow_array::cast::AsArray;
use arrow_array::types::{UInt16Type, UInt32Type};
use arrow_array::{Array, FixedSizeBinaryArray, RecordBatch, UInt16Array, UInt32Array};
use arrow_buffer::Buffer;
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_ipc::{CompressionType, MetadataVersion};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use bloctrain_shared::spike::SpikeDims;
use bloctrain_shared::{Digest, key};
use bytes::Bytes;
use std::collections::HashMap;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Samples in one record batch.
const ROWS: usize = 128;

/// Name of the schema's metadata entry that holds the [`CacheMeta`].
const META: &str = "bloctrain";

/// Name of the entry that says which version of this form the file has.
const VERSION: &str = "format_version";

/// How spikes are packed, for people.
const LAYOUT: &str = "order T, H, W, ceil(C / 8) bytes; channel c is bit c % 8 (least significant first) of byte c / 8";

/// Bytes that are not a shard, or a shard that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// Cut, damaged, or no Arrow IPC file at all.
    #[error("not a usable Arrow IPC file: {0}")]
    Unreadable(String),
    /// An Arrow IPC file, but not one of the spike cache.
    #[error("not a shard of the spike cache: {0}")]
    Foreign(String),
    /// Columns that contradict each other or the stated dimensions.
    #[error("the shard contradicts itself: {0}")]
    Contradiction(String),
}

impl From<ArrowError> for CacheError {
    fn from(error: ArrowError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// A shard as an Arrow IPC file. Equal shards have equal bytes.
///
/// # Errors
/// [`CacheError::Contradiction`] when its columns do not fit each other or its dimensions.
pub fn encode(shard: &SpikeShard) -> Result<Bytes, CacheError> {
    let width = check(shard)?;
    let schema = Arc::new(schema(&shard.meta, width)?);
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?.try_with_compression(Some(CompressionType::ZSTD))?;
    let mut writer = FileWriter::try_new_with_options(Vec::new(), &schema, options)?;
    let columns = shard.ids.chunks(ROWS).zip(shard.labels.chunks(ROWS)).zip(shard.packed.chunks(ROWS * width));
    for ((ids, labels), packed) in columns {
        let spikes = FixedSizeBinaryArray::try_new(width_of(width)?, Buffer::from(packed), None)?;
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(UInt32Array::from(ids.to_vec())),
            Arc::new(UInt16Array::from(labels.to_vec())),
            Arc::new(UInt32Array::from(vec![shard.meta.view; ids.len()])),
            Arc::new(spikes),
        ];
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
    }
    writer.finish()?;
    Ok(writer.into_inner()?.into())
}

/// Reads an Arrow IPC file back, and checks everything that can be: types, lengths, dimensions, view, unused bits.
///
/// # Errors
/// When it is not a shard of the spike cache, or contradicts itself.
pub fn decode(bytes: &[u8]) -> Result<SpikeShard, CacheError> {
    // The reader may panic on bytes that no writer made. Digests are verified before, but a panic must not end a worker.
    let read = catch_unwind(AssertUnwindSafe(|| read(bytes)));
    let shard = read.unwrap_or_else(|_| Err(CacheError::Unreadable("the reader gave up on it".into())))?;
    check(&shard)?;
    Ok(shard)
}

fn read(bytes: &[u8]) -> Result<SpikeShard, CacheError> {
    let reader = FileReader::try_new(Cursor::new(bytes), None)?;
    let meta = read_meta(reader.schema().metadata())?;
    let expected = schema(&meta, width(meta.dims)?)?;
    if reader.schema().fields() != expected.fields() {
        return Err(CacheError::Foreign(format!("its columns are {:?}", reader.schema().fields())));
    }
    let mut shard = SpikeShard { meta, ids: Vec::new(), labels: Vec::new(), packed: Vec::new() };
    for batch in reader {
        append(&mut shard, &batch?)?;
    }
    Ok(shard)
}

fn read_meta(metadata: &HashMap<String, String>) -> Result<CacheMeta, CacheError> {
    let entry = |name: &str| metadata.get(name).ok_or_else(|| CacheError::Foreign(format!("its schema has no `{name}`")));
    let version = entry(VERSION)?;
    if *version != key::FORMAT_VERSION.to_string() {
        return Err(CacheError::Foreign(format!("its format version is `{version}`, {} is known", key::FORMAT_VERSION)));
    }
    serde_json::from_str(entry(META)?).map_err(|error| CacheError::Foreign(error.to_string()))
}

/// Appends one batch; the schema has been compared, so the types are certain.
fn append(shard: &mut SpikeShard, batch: &RecordBatch) -> Result<(), CacheError> {
    if batch.columns().iter().any(|column| column.null_count() > 0) {
        return Err(CacheError::Contradiction("it has empty cells".into()));
    }
    if batch.column(2).as_primitive::<UInt32Type>().values().iter().any(|&view| view != shard.meta.view) {
        return Err(CacheError::Contradiction(format!("a sample is not of view {}", shard.meta.view)));
    }
    shard.ids.extend(batch.column(0).as_primitive::<UInt32Type>().values());
    shard.labels.extend(batch.column(1).as_primitive::<UInt16Type>().values());
    batch.column(3).as_fixed_size_binary().iter().flatten().for_each(|sample| shard.packed.extend_from_slice(sample));
    Ok(())
}

/// Bytes of one packed sample, for dimensions that came from outside.
fn width(dims: SpikeDims) -> Result<usize, CacheError> {
    let sizes = [dims.steps, dims.height, dims.width, dims.channels.div_ceil(8)];
    let width = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    match width {
        Some(width) if width > 0 && i32::try_from(width).is_ok() => Ok(width),
        _ => Err(CacheError::Contradiction(format!("spikes cannot have the dimensions {}", words(dims)))),
    }
}

fn width_of(width: usize) -> Result<i32, CacheError> {
    i32::try_from(width).map_err(|error| CacheError::Contradiction(error.to_string()))
}

/// Checks a shard's lengths and unused bits; gives the bytes of one packed sample.
fn check(shard: &SpikeShard) -> Result<usize, CacheError> {
    let wrong = |problem: String| Err(CacheError::Contradiction(problem));
    let width = width(shard.meta.dims)?;
    let (samples, labels, bytes) = (shard.ids.len(), shard.labels.len(), shard.packed.len());
    if labels != samples {
        return wrong(format!("{samples} samples have {labels} labels"));
    }
    if samples.checked_mul(width) != Some(bytes) {
        return wrong(format!("{samples} samples of {width} bytes are not the {bytes} bytes of their spikes"));
    }
    let (used, site) = (shard.meta.dims.channels % 8, shard.meta.dims.channels.div_ceil(8));
    let stray = |last: &u8| used > 0 && last >> used != 0;
    if shard.packed.iter().skip(site - 1).step_by(site).any(stray) {
        return wrong(format!("a spike lies beyond channel {}", shard.meta.dims.channels - 1));
    }
    Ok(width)
}

fn words(dims: SpikeDims) -> String {
    format!("T={} C={} H={} W={}", dims.steps, dims.channels, dims.height, dims.width)
}

fn schema(meta: &CacheMeta, width: usize) -> Result<Schema, CacheError> {
    let json = serde_json::to_string(meta).map_err(|error| CacheError::Contradiction(error.to_string()))?;
    // The order of a hash map differs between processes, but arrow sorts the entries when it writes them.
    let metadata: HashMap<String, String> = [
        (META, json),
        (VERSION, key::FORMAT_VERSION.to_string()),
        ("dims", words(meta.dims)),
        ("layout", LAYOUT.to_owned()),
        ("block_digest", meta.blocks.last().map(Digest::to_string).unwrap_or_default()),
        ("dataset_digest", meta.dataset.to_string()),
        ("encoder_seed", meta.seed.to_string()),
    ]
    .map(|(name, text)| (name.to_owned(), text))
    .into();
    let fields = vec![
        Field::new("sample_id", DataType::UInt32, false),
        Field::new("label", DataType::UInt16, false),
        Field::new("view", DataType::UInt32, false),
        Field::new("spikes", DataType::FixedSizeBinary(width_of(width)?), false),
    ];
    Ok(Schema::new_with_metadata(fields, metadata))
}
