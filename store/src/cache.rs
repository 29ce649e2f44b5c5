//! The spike cache: one Arrow IPC file per shard, addressed by the digest of everything that determines it.
//!
//! A JSON manifest is written after the data: a shard without one is not complete and does not count. Shards are shared
//! between runs; which of them some run still names is for the caller to know.

use crate::arrow;
use crate::error::StoreError;
use crate::object::Artefacts;
use bloctrain_shared::spike::SpikeDims;
use bloctrain_shared::task::{ObjectRef, Split};
use bloctrain_shared::{Digest, key};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What determines a cached shard, apart from the samples in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheMeta {
    /// Sizes of one sample's spikes.
    pub dims: SpikeDims,
    /// Digest of the weights of every block from the first to the one that emitted the spikes.
    pub blocks: Vec<Digest>,
    /// Digest of the data set.
    pub dataset: Digest,
    /// Encoding and augmentation, in words.
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

/// Writes a shard and then its manifest.
///
/// # Errors
/// [`StoreError::Invalid`] when the shard contradicts itself, else when the store cannot be written.
pub async fn write(store: &Artefacts, shard: &SpikeShard) -> Result<CacheManifest, StoreError> {
    let identity = shard.meta.identity(&shard.ids);
    let (data_key, manifest_key) = (key::cache_data(identity), key::cache_manifest(identity));
    let bytes =
        arrow::encode(shard).map_err(|error| StoreError::Invalid { key: data_key.clone(), problem: error.to_string() })?;
    let object = store.put(&data_key, bytes).await?;
    let uncompressed_bytes = shard.packed.len() as u64;
    let manifest = CacheManifest { object, samples: shard.ids.len(), uncompressed_bytes, meta: shard.meta.clone() };
    let json = serde_json::to_vec_pretty(&manifest);
    let json = json.map_err(|error| StoreError::Invalid { key: manifest_key.clone(), problem: error.to_string() })?;
    store.put(&manifest_key, Bytes::from(json)).await?;
    Ok(manifest)
}

/// The manifest of a complete, undamaged shard; `None` when there is none. A damaged one is named in the log.
///
/// # Errors
/// When the store fails.
pub async fn lookup(store: &Artefacts, identity: Digest) -> Result<Option<CacheManifest>, StoreError> {
    let manifest_key = key::cache_manifest(identity);
    let Some(manifest) = read_manifest(store, &manifest_key).await? else {
        return Ok(None);
    };
    match store.get(&manifest.object).await {
        Ok(_) => Ok(Some(manifest)),
        Err(error @ (StoreError::Missing { .. } | StoreError::Damaged { .. })) => {
            tracing::warn!(key = manifest.object.key, %error, "a cached shard is unusable; it will be computed again");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A manifest that can be believed; `None`, with a warning, for one that cannot.
async fn read_manifest(store: &Artefacts, manifest_key: &str) -> Result<Option<CacheManifest>, StoreError> {
    let bytes = match store.get_unverified(manifest_key).await {
        Ok(bytes) => bytes,
        Err(StoreError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    match serde_json::from_slice::<CacheManifest>(&bytes) {
        Ok(manifest) if manifest.object.key == data_of(manifest_key) => return Ok(Some(manifest)),
        Ok(manifest) => tracing::warn!(key = manifest_key, object = manifest.object.key, "a cache manifest names another shard"),
        Err(error) => tracing::warn!(key = manifest_key, %error, "a cache manifest is damaged"),
    }
    Ok(None)
}

/// The data key that belongs to a manifest's.
fn data_of(manifest_key: &str) -> String {
    format!("{}.arrow", manifest_key.trim_end_matches(".json"))
}

/// Reads and verifies a shard.
///
/// # Errors
/// [`StoreError::Damaged`] when it is not what was written.
pub async fn read(store: &Artefacts, object: &ObjectRef) -> Result<SpikeShard, StoreError> {
    let bytes = store.get(object).await?;
    arrow::decode(&bytes).map_err(|error| StoreError::Damaged { key: object.key.clone(), problem: error.to_string() })
}

/// Every complete shard of the cache: its manifest can be read, and its data is there in full length. Digests are not
/// verified.
///
/// # Errors
/// When the store fails.
pub async fn list(store: &Artefacts) -> Result<Vec<CacheManifest>, StoreError> {
    let found = store.list(key::CACHE).await?;
    complete(store, &found).await
}

async fn complete(store: &Artefacts, found: &[(String, u64)]) -> Result<Vec<CacheManifest>, StoreError> {
    let sizes: BTreeMap<&str, u64> = found.iter().map(|(key, bytes)| (key.as_str(), *bytes)).collect();
    let mut manifests = Vec::new();
    for (key, _) in found.iter().filter(|(key, _)| key.ends_with(".json")) {
        let Some(manifest) = read_manifest(store, key).await? else {
            continue;
        };
        if sizes.get(manifest.object.key.as_str()) == Some(&manifest.object.bytes) {
            manifests.push(manifest);
        } else {
            tracing::warn!(key = manifest.object.key, "the data of a cached shard is missing or cut");
        }
    }
    Ok(manifests)
}

/// How much the cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CacheUsage {
    /// Complete shards.
    pub objects: usize,
    /// Bytes of their data in the store.
    pub bytes: u64,
    /// Bytes of the same spikes packed, before compression.
    pub uncompressed_bytes: u64,
    /// Bytes of everything else in the cache: manifests, and what interrupted or damaged writes left.
    pub other_bytes: u64,
}

/// How much the cache holds.
///
/// # Errors
/// When the store fails.
pub async fn usage(store: &Artefacts) -> Result<CacheUsage, StoreError> {
    let found = store.list(key::CACHE).await?;
    let manifests = complete(store, &found).await?;
    let bytes = manifests.iter().map(|manifest| manifest.object.bytes).sum();
    let all: u64 = found.iter().map(|(_, bytes)| bytes).sum();
    Ok(CacheUsage {
        objects: manifests.len(),
        bytes,
        uncompressed_bytes: manifests.iter().map(|manifest| manifest.uncompressed_bytes).sum(),
        other_bytes: all.saturating_sub(bytes),
    })
}

/// What a garbage collection removed, or would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Collected {
    /// Objects.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Removes data and manifests of all shards whose data key is not in `keep`, complete or not. A manifest goes before its
/// data, so an interruption leaves no shard that looks complete. Files of other kinds are left alone.
///
/// Nothing here knows of shards that a running task has written and not reported yet: they must be in `keep` too, or no
/// run may be at work.
///
/// # Errors
/// When the store fails.
pub async fn collect(store: &Artefacts, keep: &BTreeSet<String>, dry_run: bool) -> Result<Collected, StoreError> {
    let mut collected = Collected::default();
    let found = store.list(key::CACHE).await?;
    for suffix in [".json", ".arrow"] {
        for (key, bytes) in found.iter().filter(|(key, _)| key.ends_with(suffix)) {
            if keep.contains(&data_of(key.trim_end_matches(".arrow"))) {
                continue;
            }
            if !dry_run {
                store.delete(key).await?;
            }
            collected.objects += 1;
            collected.bytes += bytes;
        }
    }
    Ok(collected)
}
