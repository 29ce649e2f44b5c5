//! Whole objects in a store: atomic writes, verified reads, errors that say what to do.

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

/// What the caller of a failed operation should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Have the object made again.
    InputLost,
    /// Try again later.
    Retry,
    /// Tell a person.
    Fatal,
}

/// A failed store operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No object of that key.
    #[error("there is no object {key}")]
    Missing {
        /// Key of the object.
        key: String,
    },
    /// The content is not what was written.
    #[error("the object {key} is damaged: {problem}")]
    Damaged {
        /// Key of the object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No space is left.
    #[error(
        "cannot write {key}: no space is left in the store; free some (`bloctrain cache gc`) or choose another --store, then run the same command again"
    )]
    Full {
        /// Key of the object.
        key: String,
    },
    /// The store refuses writes.
    #[error("cannot write to the store {store}: {problem}; choose a folder that you may write to with --store")]
    NotWritable {
        /// The store.
        store: String,
        /// What the system says.
        problem: String,
    },
    /// The store was written by a newer version.
    #[error(
        "the store {store} has format version {found}, this program knows up to {known}; use a newer bloctrain, or another --store"
    )]
    NewerFormat {
        /// The store.
        store: String,
        /// Version of the store.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
    /// An address that names no store.
    #[error("`{0}` is not a store of this version; give a folder, file://FOLDER or memory://")]
    InvalidLocation(String),
    /// Anything else that may pass.
    #[error("the store failed at {key}: {problem}")]
    Unavailable {
        /// Key of the object.
        key: String,
        /// What the store says.
        problem: String,
    },
}

impl StoreError {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } | Self::Damaged { .. } => ErrorKind::InputLost,
            Self::Unavailable { .. } => ErrorKind::Retry,
            Self::Full { .. } | Self::NotWritable { .. } | Self::NewerFormat { .. } | Self::InvalidLocation(_) => {
                ErrorKind::Fatal
            }
        }
    }

    /// The object that it is about.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Missing { key } | Self::Damaged { key, .. } | Self::Full { key } | Self::Unavailable { key, .. } => Some(key),
            _ => None,
        }
    }
}

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
    /// Opens a store: a folder (created when absent), `file://FOLDER`, or `memory://`.
    ///
    /// # Errors
    /// When the address names no store of this version, or the folder cannot be made.
    pub fn open(location: &str) -> Result<Self, StoreError> {
        let scheme = location.split_once("://");
        match scheme {
            Some(("memory", _)) => Ok(Self { store: Arc::new(InMemory::new()), location: location.into() }),
            Some(("file", folder)) => Self::open_folder(folder),
            Some(_) => Err(StoreError::InvalidLocation(location.to_owned())),
            None => Self::open_folder(location),
        }
    }

    fn open_folder(folder: &str) -> Result<Self, StoreError> {
        let refuse = |problem: String| StoreError::NotWritable { store: folder.to_owned(), problem };
        std::fs::create_dir_all(folder).map_err(|error| refuse(error.to_string()))?;
        let local = LocalFileSystem::new_with_prefix(folder).map_err(|error| refuse(error.to_string()))?.with_fsync(true);
        Ok(Self { store: Arc::new(local), location: folder.into() })
    }

    /// The address that the store was opened by.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The underlying object store, for databases that live in it.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    fn error(&self, key: &str, error: object_store::Error) -> StoreError {
        if matches!(error, object_store::Error::NotFound { .. }) {
            return StoreError::Missing { key: key.to_owned() };
        }
        let kind = io_kind(&error);
        match kind {
            Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => StoreError::Full { key: key.to_owned() },
            Some(
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::NotADirectory,
            ) => StoreError::NotWritable { store: self.location.to_string(), problem: error.to_string() },
            _ => StoreError::Unavailable { key: key.to_owned(), problem: error.to_string() },
        }
    }

    /// Checks the version of the store's layout; a new store gets the current one.
    ///
    /// # Errors
    /// When the store is of a newer version or cannot be written.
    pub async fn check_format(&self) -> Result<(), StoreError> {
        let current = serde_json::to_vec(&Format { version: key::FORMAT_VERSION }).unwrap_or_default();
        let payload = PutPayload::from(current);
        match self.store.put_opts(&Path::from(key::FORMAT), payload, PutMode::Create.into()).await {
            Ok(_) => return Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(self.error(key::FORMAT, error)),
        }
        let bytes = self.get_unverified(key::FORMAT).await?;
        let damaged = |error: serde_json::Error| StoreError::Damaged { key: key::FORMAT.into(), problem: error.to_string() };
        let format: Format = serde_json::from_slice(&bytes).map_err(damaged)?;
        if format.version > key::FORMAT_VERSION {
            let store = self.location.to_string();
            return Err(StoreError::NewerFormat { store, found: format.version, known: key::FORMAT_VERSION });
        }
        Ok(())
    }

    /// Writes an object; it is there completely or not at all.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectRef, StoreError> {
        let object = ObjectRef { key: key.to_owned(), digest: Digest::of(&bytes), bytes: bytes.len() as u64 };
        self.store.put(&Path::from(key), PutPayload::from(bytes)).await.map_err(|error| self.error(key, error))?;
        Ok(object)
    }

    /// Reads an object and verifies its digest.
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
        let result = self.store.get(&Path::from(key)).await.map_err(|error| self.error(key, error))?;
        result.bytes().await.map_err(|error| self.error(key, error))
    }

    /// Whether an object is there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        match self.store.head(&Path::from(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.error(key, error)),
        }
    }

    /// Removes an object; it need not be there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.store.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error(key, error)),
        }
    }

    /// Keys and sizes of all objects below a prefix, sorted.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let found: Vec<_> =
            self.store.list(Some(&Path::from(prefix))).try_collect().await.map_err(|error| self.error(prefix, error))?;
        let mut keys: Vec<(String, u64)> = found.into_iter().map(|meta| (meta.location.to_string(), meta.size)).collect();
        keys.sort();
        Ok(keys)
    }
}

/// The system's error at the bottom of a store error.
fn io_kind(error: &object_store::Error) -> Option<std::io::ErrorKind> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        source = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn objects_are_verified_on_every_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Artefacts::open(folder.path().to_str().expect("utf-8")).expect("opens");
        let object = store.put("a/b", Bytes::from_static(b"spikes")).await.expect("written");
        assert_eq!(store.get(&object).await.expect("read"), Bytes::from_static(b"spikes"));
        std::fs::write(folder.path().join("a/b"), b"spokes").expect("damaged");
        assert!(matches!(store.get(&object).await, Err(StoreError::Damaged { .. })));
        std::fs::write(folder.path().join("a/b"), b"spi").expect("cut");
        assert!(store.get(&object).await.expect_err("cut").to_string().contains("3 bytes instead of 6"));
        store.delete("a/b").await.expect("removed");
        store.delete("a/b").await.expect("removing twice is fine");
        assert_eq!(store.get(&object).await, Err(StoreError::Missing { key: "a/b".into() }));
        assert_eq!(store.exists("a/b").await, Ok(false));
    }

    #[tokio::test]
    async fn a_newer_or_damaged_format_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Artefacts::open(folder.path().to_str().expect("utf-8")).expect("opens");
        store.check_format().await.expect("a new store");
        store.check_format().await.expect("the same store");
        store.put(key::FORMAT, Bytes::from_static(b"{\"version\":99}")).await.expect("written");
        assert!(matches!(store.check_format().await, Err(StoreError::NewerFormat { found: 99, .. })));
        store.put(key::FORMAT, Bytes::from_static(b"nonsense")).await.expect("written");
        assert!(matches!(store.check_format().await, Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn places_that_cannot_be_stores_are_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let below = file.path().join("store");
        let error = Artefacts::open(below.to_str().expect("utf-8")).expect_err("a file is no folder");
        assert!(matches!(&error, StoreError::NotWritable { .. }) && error.to_string().contains("--store"));
        assert!(matches!(Artefacts::open("s3://bucket"), Err(StoreError::InvalidLocation(_))));
    }
}
