//! The spike cache: one Arrow IPC file per shard, addressed by the digest of everything that determines it.
//!
//! Columns: `sample_id: uint32`, `label: uint16`, `view: uint32`, `spikes: fixed_size_binary`, the last packed as
//! [`bloctrain_shared::spike`] says. The schema's metadata has dimensions, digests and the encoder's seed. A JSON
//! manifest is written after the data: a shard without one is not complete and does not count.

use crate::error::{ErrorKind, StoreError};
use crate::ipc;
use crate::object::{Artefacts, Created};
use arrow_array::{Array, FixedSizeBinaryArray, RecordBatch, UInt16Array, UInt32Array};
use arrow_buffer::Buffer;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_ipc::{CompressionType, MetadataVersion};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use bloctrain_shared::spike::SpikeDims;
use bloctrain_shared::task::{ObjectRef, Split};
use bloctrain_shared::{Digest, key};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Samples in one record batch.
pub const ROWS: usize = 128;

/// Level of the compression.
pub const ZSTD_LEVEL: i32 = 3;

/// Name of the schema's metadata entry that holds the [`CacheMeta`].
const META: &str = "bloctrain";

/// What determines a cached shard, apart from the samples in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheMeta {
    /// Sizes of one sample's spikes.
    pub dims: SpikeDims,
    /// Digest of the weights of every block from the first to the one that emitted the spikes.
    pub blocks: Vec<Digest>,
    /// Digest of the data set.
    pub dataset: Digest,
    /// What the specification says about the spikes: the fields of
    /// [`Reach::Spikes`](bloctrain_shared::spec::field::Reach::Spikes) that are not at their defaults, as JSON.
    pub encoding: String,
    /// Seed of augmentation and encoding.
    pub seed: u64,
    /// Split of the samples.
    pub split: Split,
    /// Augmented view.
    pub view: u32,
    /// Version of the arithmetic that made them.
    pub arithmetic: u32,
    /// Backend that made them.
    pub backend: String,
}

impl CacheMeta {
    /// The content address of a shard of these samples.
    pub fn identity(&self, ids: &[u32]) -> Digest {
        let ids: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Digest::of_parts(&[Digest::of_json(self).as_bytes(), &ids])
    }
}

/// One shard of spikes.
#[derive(Debug, Clone, PartialEq)]
pub struct SpikeShard {
    /// What determines it.
    pub meta: CacheMeta,
    /// Sample indices in the split's images.
    pub ids: Vec<u32>,
    /// Global labels.
    pub labels: Vec<u16>,
    /// Packed spikes, sample-major, `ids.len() * dims.packed_bytes()`.
    pub packed: Vec<u8>,
}

/// What is known about a complete shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheManifest {
    /// The Arrow IPC file.
    pub object: ObjectRef,
    /// Samples in it.
    pub samples: usize,
    /// Bytes of its packed spikes before compression.
    pub uncompressed_bytes: u64,
    /// What determines it.
    pub meta: CacheMeta,
}

fn schema(meta: &CacheMeta) -> Result<Schema, ArrowError> {
    let width =
        i32::try_from(meta.dims.packed_bytes()).map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))?;
    let json = |error: serde_json::Error| ArrowError::InvalidArgumentError(error.to_string());
    let text = |pair: (&str, String)| (pair.0.to_owned(), pair.1);
    let SpikeDims { steps, channels, height, width: columns } = meta.dims;
    let metadata: HashMap<String, String> = [
        (META, serde_json::to_string(meta).map_err(json)?),
        ("dims", format!("T={steps} C={channels} H={height} W={columns}")),
        (
            "layout",
            "order T, H, W, ceil(C / 8) bytes; channel c is bit c % 8 (least significant first) of byte c / 8"
                .to_owned(),
        ),
        ("block_digest", meta.blocks.last().map(Digest::to_string).unwrap_or_default()),
        ("dataset_digest", meta.dataset.to_string()),
        ("encoder_seed", meta.seed.to_string()),
    ]
    .map(text)
    .into();
    let fields = vec![
        Field::new("sample_id", DataType::UInt32, false),
        Field::new("label", DataType::UInt16, false),
        Field::new("view", DataType::UInt32, false),
        Field::new("spikes", DataType::FixedSizeBinary(width), false),
    ];
    Ok(Schema::new_with_metadata(fields, metadata))
}

/// A shard as an Arrow IPC file.
///
/// # Errors
/// When the lengths of its columns do not fit each other.
pub fn encode(shard: &SpikeShard) -> Result<Bytes, ArrowError> {
    let width = shard.meta.dims.packed_bytes();
    if shard.labels.len() != shard.ids.len() || shard.packed.len() != shard.ids.len() * width {
        return Err(ArrowError::InvalidArgumentError("ids, labels and spikes have different lengths".into()));
    }
    let schema = Arc::new(schema(&shard.meta)?);
    // Metadata of a schema is a hash map; one entry order per process would make bytes differ between processes, but
    // arrow sorts it when it writes.
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?
        .try_with_compression(Some(CompressionType::ZSTD))?
        .try_with_compression_level(Some(ZSTD_LEVEL))?;
    let mut writer = FileWriter::try_new_with_options(Vec::new(), &schema, options)?;
    let rows: Vec<usize> = (0..shard.ids.len()).step_by(ROWS).collect();
    for first in rows {
        let last = (first + ROWS).min(shard.ids.len());
        let spikes = Buffer::from(&shard.packed[first * width..last * width]);
        let spikes = FixedSizeBinaryArray::try_new(width as i32, spikes, None)?;
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(UInt32Array::from(shard.ids[first..last].to_vec())),
                Arc::new(UInt16Array::from(shard.labels[first..last].to_vec())),
                Arc::new(UInt32Array::from(vec![shard.meta.view; last - first])),
                Arc::new(spikes),
            ],
        )?;
        writer.write(&batch)?;
    }
    writer.finish()?;
    writer.into_inner().map(Bytes::from)
}

/// Reads an Arrow IPC file back.
///
/// # Errors
/// When it is not a cached shard, or its columns contradict its metadata.
pub fn decode(bytes: Bytes) -> Result<SpikeShard, ArrowError> {
    let wrong = |problem: &str| ArrowError::ParseError(problem.to_owned());
    let meta: OnceCell<CacheMeta> = OnceCell::new();
    let (mut ids, mut labels, mut packed) = (Vec::new(), Vec::new(), Vec::new());
    let check = |schema: &Schema| {
        let text = schema.metadata().get(META).ok_or_else(|| wrong("its schema has no bloctrain metadata"))?;
        let read: CacheMeta = serde_json::from_str(text).map_err(|error| wrong(&error.to_string()))?;
        let width = i32::try_from(read.dims.packed_bytes()).map_err(|_| wrong("its samples are too large"))?;
        let spikes = schema.field_with_name("spikes")?;
        if *spikes.data_type() != DataType::FixedSizeBinary(width) {
            return Err(wrong("the spikes do not have the stated dimensions"));
        }
        let _ = meta.set(read);
        // Bits of presence, labels and identifiers take up to four bytes a sample; arrow fills up to whole words.
        Ok(ROWS * (width.cast_unsigned() as usize).max(4) + 64)
    };
    ipc::read(bytes, check, |batch| {
        let column =
            |name: &str| batch.column_by_name(name).ok_or_else(|| wrong(&format!("it has no column `{name}`")));
        let of_ids = column("sample_id")?
            .as_any()
            .downcast_ref::<UInt32Array>()
            .ok_or_else(|| wrong("sample_id is not uint32"))?;
        let of_labels =
            column("label")?.as_any().downcast_ref::<UInt16Array>().ok_or_else(|| wrong("label is not uint16"))?;
        let spikes = column("spikes")?
            .as_any()
            .downcast_ref::<FixedSizeBinaryArray>()
            .ok_or_else(|| wrong("spikes are not binary"))?;
        ids.extend(of_ids.values());
        labels.extend(of_labels.values());
        packed.extend_from_slice(spikes.value_data());
        Ok(())
    })?;
    let meta = meta.into_inner().ok_or_else(|| wrong("it has no schema"))?;
    Ok(SpikeShard { meta, ids, labels, packed })
}

/// Writes a shard and then its manifest. A usable shard that is there already stays, also where its bytes differ, as
/// two GPUs' may: others may have committed it. Then that one is given.
///
/// # Errors
/// When the store cannot be written.
pub async fn write(store: &Artefacts, shard: &SpikeShard) -> Result<CacheManifest, StoreError> {
    let identity = shard.meta.identity(&shard.ids);
    let data_key = key::cache_data(identity);
    let bytes =
        encode(shard).map_err(|error| StoreError::Damaged { key: data_key.clone(), problem: error.to_string() })?;
    let object = match store.create(&data_key, bytes.clone()).await? {
        Created::Written | Created::Identical => object_of(&data_key, &bytes),
        Created::Different => match there(store, &data_key).await? {
            Some(object) => object,
            // What is of no use to anybody is no loss.
            None => store.put(&data_key, bytes).await?,
        },
    };
    let uncompressed_bytes = shard.packed.len() as u64;
    let manifest = CacheManifest { object, samples: shard.ids.len(), uncompressed_bytes, meta: shard.meta.clone() };
    let json = Bytes::from(serde_json::to_vec_pretty(&manifest).unwrap_or_default());
    let manifest_key = key::cache_manifest(identity);
    if store.create(&manifest_key, json.clone()).await? == Created::Different {
        // It names another object than is there: with it the shard would not count as complete.
        store.put(&manifest_key, json).await?;
    }
    Ok(manifest)
}

fn object_of(key: &str, bytes: &Bytes) -> ObjectRef {
    ObjectRef { key: key.to_owned(), digest: Digest::of(bytes), bytes: bytes.len() as u64 }
}

/// The shard under a key, if it is the one that the key says.
async fn there(store: &Artefacts, key: &str) -> Result<Option<ObjectRef>, StoreError> {
    let bytes = match store.get_unverified(key).await {
        Err(StoreError::Missing { .. }) => return Ok(None),
        bytes => bytes?,
    };
    let object = object_of(key, &bytes);
    Ok(shard_of(&object, bytes).is_ok().then_some(object))
}

/// The manifest of a complete, undamaged shard; `None` when there is none. A damaged one is named in the log.
///
/// # Errors
/// When the store fails.
pub async fn lookup(store: &Artefacts, identity: Digest) -> Result<Option<CacheManifest>, StoreError> {
    let manifest_key = key::cache_manifest(identity);
    let bytes = match store.get_unverified(&manifest_key).await {
        Ok(bytes) => bytes,
        Err(StoreError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(manifest) = serde_json::from_slice::<CacheManifest>(&bytes) else {
        tracing::warn!(key = manifest_key, "a cache manifest is damaged; its shard will be computed again");
        return Ok(None);
    };
    // Not from a cache of this machine: other workers will want it from the store.
    let found = match store.get_stored(&manifest.object).await {
        Ok(bytes) => shard_of(&manifest.object, bytes).map(drop),
        Err(error) => Err(error),
    };
    match found {
        Ok(()) if manifest.object.key == key::cache_data(identity) => Ok(Some(manifest)),
        Ok(()) => {
            tracing::warn!(key = manifest_key, "a cache manifest names another shard; its own will be computed again");
            Ok(None)
        }
        Err(error) if error.kind() == ErrorKind::InputLost => {
            tracing::warn!(%error, "a cached shard is unusable; it will be computed again");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads and verifies a shard.
///
/// # Errors
/// [`StoreError::Damaged`] when it is not what was written, [`StoreError::Unusable`] when that is another shard than
/// its key says.
pub async fn read(store: &Artefacts, object: &ObjectRef) -> Result<SpikeShard, StoreError> {
    shard_of(object, store.get(object).await?)
}

/// The shard in an object's bytes.
fn shard_of(object: &ObjectRef, bytes: Bytes) -> Result<SpikeShard, StoreError> {
    let damaged = |problem: String| StoreError::Unusable { key: object.key.clone(), problem };
    let shard = decode(bytes).map_err(|error| damaged(error.to_string()))?;
    if key::cache_data(shard.meta.identity(&shard.ids)) != object.key {
        return Err(damaged("it holds another shard than its key says".into()));
    }
    Ok(shard)
}

/// Every complete shard of the cache.
///
/// # Errors
/// When the store fails.
pub async fn list(store: &Artefacts) -> Result<Vec<CacheManifest>, StoreError> {
    let mut manifests = Vec::new();
    for (key, _) in store.list(key::CACHE).await? {
        if !key.ends_with(".json") {
            continue;
        }
        match serde_json::from_slice::<CacheManifest>(&store.get_unverified(&key).await?) {
            Ok(manifest) => manifests.push(manifest),
            Err(error) => tracing::warn!(key, %error, "a cache manifest is damaged"),
        }
    }
    Ok(manifests)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change here orphans what is cached.
    #[test]
    fn addresses_are_what_they_were() {
        let identity = |split| CacheMeta { split, ..shard(1, 9).meta }.identity(&[1, 2]).short(16);
        let known = ["386a4771974f98b0", "39ba635e85fce6df", "b5b65fd144781d03"];
        assert_eq!([Split::Train, Split::Validation, Split::Test].map(identity), known);
    }

    fn shard(samples: usize, channels: usize) -> SpikeShard {
        let dims = SpikeDims { steps: 2, channels, height: 3, width: 2 };
        let meta = CacheMeta {
            dims,
            blocks: vec![Digest::of(b"weights")],
            dataset: Digest::of(b"data"),
            encoding: "{}".into(),
            seed: 7,
            split: Split::Train,
            view: 1,
            arithmetic: 1,
            backend: "cpu".into(),
        };
        let packed = (0..samples * dims.packed_bytes()).map(|index| (index * 37 % 251) as u8 & 1).collect();
        SpikeShard { meta, ids: (0..samples as u32).rev().collect(), labels: (0..samples as u16).collect(), packed }
    }

    #[test]
    fn round_trip_for_all_sizes() {
        for (samples, channels) in [(0, 3), (1, 8), (5, 10), (300, 1)] {
            let shard = shard(samples, channels);
            assert_eq!(decode(encode(&shard).expect("encodes")).expect("decodes"), shard, "{samples} x {channels}");
            assert_eq!(encode(&shard).expect("encodes"), encode(&shard).expect("encodes"));
        }
    }

    #[test]
    fn damaged_shards() {
        let whole = [shard(5, 10), shard(130, 1)].map(|shard| encode(&shard).expect("encodes").to_vec());
        let allowance = bloctrain_damage::Allowance { least: 1 << 20, each: 64 };
        bloctrain_damage::each("shards", &whole, allowance, |bytes| decode(Bytes::copy_from_slice(bytes)).is_ok());
    }

    #[tokio::test]
    async fn a_shard_counts_only_when_complete_and_undamaged() {
        let store = Artefacts::open("memory://").expect("opens");
        let shard = shard(9, 10);
        let identity = shard.meta.identity(&shard.ids);
        assert_eq!(lookup(&store, identity).await, Ok(None));
        store.put(&key::cache_data(identity), encode(&shard).expect("encodes")).await.expect("written");
        assert_eq!(lookup(&store, identity).await, Ok(None), "data without a manifest");
        let manifest = write(&store, &shard).await.expect("written");
        assert_eq!(lookup(&store, identity).await, Ok(Some(manifest.clone())));
        assert_eq!(read(&store, &manifest.object).await, Ok(shard));
        store.put(&key::cache_data(identity), Bytes::from_static(b"damaged")).await.expect("written");
        assert_eq!(lookup(&store, identity).await, Ok(None));
        assert!(matches!(read(&store, &manifest.object).await, Err(StoreError::Damaged { .. })));
    }

    /// As two GPUs may make it: of the same identity, with other bits.
    #[tokio::test]
    async fn a_usable_shard_is_never_written_over() {
        let store = Artefacts::open("memory://").expect("opens");
        let one = shard(9, 10);
        let mut other = one.clone();
        other.packed[0] ^= 1;
        let first = write(&store, &one).await.expect("written");
        let second = write(&store, &other).await.expect("written");
        assert_eq!(first, second, "whoever came later names what is there");
        assert_eq!(read(&store, &first.object).await, Ok(one), "what was committed is as it was");
        store.put(&first.object.key, Bytes::from_static(b"damaged")).await.expect("written");
        let mended = write(&store, &other).await.expect("written");
        assert_eq!(read(&store, &mended.object).await, Ok(other));
        assert_eq!(lookup(&store, mended.meta.identity(&[8, 7, 6, 5, 4, 3, 2, 1, 0])).await, Ok(Some(mended)));
    }

    #[tokio::test]
    async fn another_shard_under_its_own_digest_is_found_out() {
        let store = Artefacts::open("memory://").expect("opens");
        let (own, other) = (shard(9, 10), shard(8, 10));
        let (identity, manifest) = (own.meta.identity(&own.ids), write(&store, &own).await.expect("written"));
        // Digest and size are those of what is stored, which is not what the key says.
        let lie = store.put(&manifest.object.key, encode(&other).expect("encodes")).await.expect("written");
        let damaged = read(&store, &lie).await.expect_err("another shard");
        assert!(damaged.to_string().contains("another shard"), "{damaged}");
        for object in [lie, write(&store, &other).await.expect("written").object] {
            let json = serde_json::to_vec(&CacheManifest { object, ..manifest.clone() }).expect("serialises");
            store.put(&key::cache_manifest(identity), Bytes::from(json)).await.expect("written");
            assert_eq!(lookup(&store, identity).await, Ok(None));
        }
    }
}
