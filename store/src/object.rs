//! Whole objects in a store: atomic writes, verified reads, errors that say what to do.
//!
//! A local write goes to a staging file beside its target, is synced, renamed, and the folder synced: it is durable when
//! it returns, and a process killed at any moment leaves the old object or the new one.

use crate::error::{Access, StoreError, situation};
use bloctrain_shared::task::ObjectRef;
use bloctrain_shared::{Digest, key};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Object written and removed to see whether a store can be written.
const PROBE: &str = "probe";

/// What `format.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct Format {
    version: u32,
}

/// A store of artefacts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Artefacts {
    store: Arc<dyn ObjectStore>,
    location: Arc<str>,
}

impl Artefacts {
    /// Opens a store: a folder (created when absent), `file://FOLDER`, or `memory://`, which is a new, empty store each
    /// time.
    ///
    /// # Errors
    /// When the address names no store of this version, or the folder cannot be made.
    pub fn open(location: &str) -> Result<Self, StoreError> {
        let invalid = |problem: String| StoreError::InvalidLocation { location: location.to_owned(), problem };
        match location.split_once("://") {
            Some(("memory", _)) => Ok(Self::over(Arc::new(InMemory::new()), location)),
            Some(("file", "")) => Err(invalid("it names no folder".into())),
            None if location.is_empty() => Err(invalid("it names no folder".into())),
            Some(("file", folder)) => Self::open_folder(folder),
            Some(("s3" | "s3a" | "gs" | "gcs" | "az" | "azure" | "abfs" | "abfss" | "http" | "https", _)) => {
                Err(invalid("object storage over the network is not in this version yet".into()))
            }
            Some((scheme, _)) => Err(invalid(format!("nothing is known about `{scheme}://`"))),
            None => Self::open_folder(location),
        }
    }

    fn open_folder(folder: &str) -> Result<Self, StoreError> {
        let refuse = |problem: String| StoreError::NotWritable { store: folder.to_owned(), problem };
        std::fs::create_dir_all(folder).map_err(|error| refuse(error.to_string()))?;
        let local = LocalFileSystem::new_with_prefix(folder).map_err(|error| refuse(error.to_string()))?;
        Ok(Self::over(Arc::new(local.with_fsync(true)), folder))
    }

    /// Artefacts over an object store of the caller's, for stores that fail on purpose; `location` names it in errors.
    pub fn over(store: Arc<dyn ObjectStore>, location: &str) -> Self {
        Self { store, location: location.into() }
    }

    /// The address that the store was opened by.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The underlying object store, for databases that live in it.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    fn reading(&self, key: &str) -> impl FnOnce(object_store::Error) -> StoreError {
        move |error| situation(&self.location, key, Access::Read, &error)
    }

    fn writing(&self, key: &str) -> impl FnOnce(object_store::Error) -> StoreError {
        move |error| situation(&self.location, key, Access::Write, &error)
    }

    /// Checks the version of the store's layout; a new store gets the current one. A store that has a version is only
    /// read, so this also works where the disk is full or read-only.
    ///
    /// # Errors
    /// When the store is of a newer version, says nothing readable, or is new and cannot be written.
    pub async fn check_format(&self) -> Result<(), StoreError> {
        let bytes = match self.get_unverified(key::FORMAT).await {
            Err(StoreError::Missing { .. }) if self.claim_format().await? => return Ok(()),
            Err(StoreError::Missing { .. }) => self.get_unverified(key::FORMAT).await?,
            found => found?,
        };
        let store = self.location.to_string();
        let format: Format = match serde_json::from_slice(&bytes) {
            Ok(format) => format,
            Err(error) => return Err(StoreError::UnknownFormat { store, key: key::FORMAT.into(), problem: error.to_string() }),
        };
        if format.version > key::FORMAT_VERSION {
            return Err(StoreError::NewerFormat { store, found: format.version, known: key::FORMAT_VERSION });
        }
        Ok(())
    }

    /// Gives a new store the current version; false when another process was faster.
    async fn claim_format(&self) -> Result<bool, StoreError> {
        let format = serde_json::to_vec(&Format { version: key::FORMAT_VERSION }).expect("a number always serialises");
        let put = self.store.put_opts(&Path::from(key::FORMAT), PutPayload::from(format), PutMode::Create.into()).await;
        match put {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.writing(key::FORMAT)(error)),
        }
    }

    /// Writes and removes a small object: call it before work that would be lost if the store refused it.
    ///
    /// # Errors
    /// [`StoreError::NotWritable`] or [`StoreError::Full`], with what to do.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        self.put(PROBE, Bytes::from_static(b"probe")).await?;
        self.delete(PROBE).await
    }

    /// Writes an object; it is there completely or not at all.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectRef, StoreError> {
        self.put_content(|_| key.to_owned(), bytes).await
    }

    /// Writes an object whose key is made from the digest of its content.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put_content(&self, key: impl FnOnce(Digest) -> String, bytes: Bytes) -> Result<ObjectRef, StoreError> {
        let digest = Digest::of(&bytes);
        let object = ObjectRef { key: key(digest), digest, bytes: bytes.len() as u64 };
        self.store.put(&Path::from(object.key.as_str()), PutPayload::from(bytes)).await.map_err(self.writing(&object.key))?;
        Ok(object)
    }

    /// Reads an object and verifies its size and digest.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the content is not what the reference says, [`StoreError::Missing`] without it.
    pub async fn get(&self, object: &ObjectRef) -> Result<Bytes, StoreError> {
        let bytes = self.get_unverified(&object.key).await?;
        let damaged = |problem: String| StoreError::Damaged { key: object.key.clone(), problem };
        if bytes.len() as u64 != object.bytes {
            return Err(damaged(format!("it has {} bytes instead of {}", bytes.len(), object.bytes)));
        }
        if Digest::of(&bytes) != object.digest {
            return Err(damaged("its checksum is wrong".into()));
        }
        Ok(bytes)
    }

    /// Reads an object of unknown digest.
    ///
    /// # Errors
    /// When it is missing or the store fails.
    pub async fn get_unverified(&self, key: &str) -> Result<Bytes, StoreError> {
        let result = self.store.get(&Path::from(key)).await.map_err(self.reading(key))?;
        result.bytes().await.map_err(self.reading(key))
    }

    /// Whether an object is there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        match self.store.head(&Path::from(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.reading(key)(error)),
        }
    }

    /// Removes an object; it need not be there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.store.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.writing(key)(error)),
        }
    }

    /// Keys and sizes of all objects below a prefix (`a/b`, whole names), sorted; an empty prefix lists everything.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let found: Vec<_> = self.store.list(Some(&Path::from(prefix))).try_collect().await.map_err(self.reading(prefix))?;
        let mut keys: Vec<(String, u64)> = found.into_iter().map(|meta| (meta.location.to_string(), meta.size)).collect();
        keys.sort();
        Ok(keys)
    }
}
