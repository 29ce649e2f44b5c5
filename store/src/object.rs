//! Whole objects in a store: atomic writes, verified reads, errors that say what to do.

use crate::disk::{DiskCache, DiskCacheConfig};
use crate::error::{StoreError, classify};
use crate::location::{self, Mode, Place};
use crate::retry::RetryPolicy;
use crate::transfer;
use bloctrain_shared::Digest;
use bloctrain_shared::task::ObjectRef;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a put-if-absent found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object was absent and is written.
    Written,
    /// An object of the same content was there already. After a lost answer this is one's own: whoever must tell own
    /// from foreign writes puts something of its own into the content.
    Identical,
    /// An object of other content was there; it is as it was.
    Different,
}

/// What a listing says about an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub bytes: u64,
    /// When it was last written, Unix milliseconds by the store's clock.
    pub modified_ms: u64,
}

/// A store of artefacts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Artefacts {
    store: Arc<dyn ObjectStore>,
    location: Arc<str>,
    place: Place,
    retry: RetryPolicy,
    cache: Option<DiskCache>,
    /// Operations that came to an end.
    completed: Arc<AtomicU64>,
}

impl Artefacts {
    /// Opens a store: a folder (created when absent), `file:///FOLDER`, `memory://`, `s3://BUCKET/PREFIX`,
    /// `gs://BUCKET/PREFIX`, or `az://CONTAINER/PREFIX` and its other spellings (`abfs`, `abfss`, `adl`, `azure`).
    /// Credentials of the last three come from the environment, or from the role of the machine. Nothing is sent yet:
    /// [`check_format`](Self::check_format) is the first contact.
    ///
    /// # Errors
    /// When the address names no store, the folder cannot be made, or the environment lacks something.
    pub fn open(location: &str) -> Result<Self, StoreError> {
        Self::open_with(location, &[])
    }

    /// As [`open`](Self::open), with settings of object storage by the names of environment variables, such as
    /// `AWS_ENDPOINT`, which they go before.
    ///
    /// # Errors
    /// As [`open`](Self::open), and for a setting that the kind of store does not have.
    pub fn open_with(location: &str, settings: &[(&str, &str)]) -> Result<Self, StoreError> {
        location::open(location, settings, Mode::Use).map(Self::opened)
    }

    /// As [`open`](Self::open), where somebody else has begun the store: a folder that is absent, as one that was not
    /// mounted, is not made.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`StoreError::NoStore`] where there is no such folder.
    pub fn existing(location: &str) -> Result<Self, StoreError> {
        location::open(location, &[], Mode::Look).map(Self::opened)
    }

    /// As [`existing`](Self::existing), for whoever only looks: that a store does not answer is said within seconds.
    ///
    /// # Errors
    /// As [`existing`](Self::existing).
    pub fn look(location: &str) -> Result<Self, StoreError> {
        let store = Self::existing(location)?;
        let retry = store.retry.first_contact();
        Ok(store.with_retry(retry))
    }

    fn opened(opened: location::Opened) -> Self {
        Self::with_store(opened.store, &opened.location, opened.place)
    }

    /// Artefacts in any object store, for tests and simulation; `location` is what messages call it.
    pub fn with_store(store: Arc<dyn ObjectStore>, location: &str, place: Place) -> Self {
        Self {
            store,
            location: location.into(),
            place,
            retry: RetryPolicy::default(),
            cache: None,
            completed: Arc::default(),
        }
    }

    /// The same store with other retries.
    #[must_use]
    pub fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// The same store with a read-through cache on this machine's disk. A folder that cannot be used is named in the
    /// log, and there is no cache then.
    #[must_use]
    pub fn with_cache(self, config: &DiskCacheConfig) -> Self {
        Self { cache: DiskCache::open(config), ..self }
    }

    /// The address of the store, as others may open it: without what an address may end in.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// What kind of place it is.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The underlying object store, for databases that live in it. It does not retry.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Operations on objects that came to an end, of this and of all clones: a sign of life for whoever waits for one.
    pub fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    /// Does an operation on `bytes` bytes at `key` as often as the policy says.
    async fn attempt<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        key: &str,
        bytes: u64,
        operation: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let done = self.retry.run(key, bytes, operation).await;
        self.completed.fetch_add(1, Ordering::Relaxed);
        done
    }

    pub(crate) fn retry(&self) -> &RetryPolicy {
        &self.retry
    }

    fn error(&self, key: &str, error: &object_store::Error) -> StoreError {
        classify(&self.location, key, error)
    }

    /// Writes an object; it is there completely or not at all. Repeating it does no harm.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectRef, StoreError> {
        let object = ObjectRef { key: key.to_owned(), digest: Digest::of(&bytes), bytes: bytes.len() as u64 };
        let path = Path::from(key);
        let write = || async {
            transfer::upload(self.store.as_ref(), &path, &bytes).await.map_err(|error| self.error(key, &error))
        };
        Box::pin(self.attempt(key, object.bytes, write)).await?;
        if let Some(cache) = &self.cache {
            cache.insert(object.digest, bytes).await;
        }
        Ok(object)
    }

    /// Writes an object on condition that its key is absent. When an answer is lost, the object that a repetition finds
    /// is recognised by its digest.
    ///
    /// # Errors
    /// When the store cannot be written or knows no conditions.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let path = Path::from(key);
        let write = || async {
            let payload = PutPayload::from(bytes.clone());
            match self.store.put_opts(&path, payload, PutMode::Create.into()).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
                Err(error) => Err(self.error(key, &error)),
            }
        };
        if Box::pin(self.attempt(key, bytes.len() as u64, write)).await? {
            return Ok(Created::Written);
        }
        let found = self.get_unverified(key).await?;
        Ok(if Digest::of(&found) == Digest::of(&bytes) { Created::Identical } else { Created::Different })
    }

    /// Replaces an object on condition that its content is still `before`; whether it is `after` now. When an answer is
    /// lost, a repetition finds its own content. Folders know no such condition: there a lock keeps other processes
    /// out.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn replace(&self, key: &str, before: &Bytes, after: Bytes) -> Result<bool, StoreError> {
        let _lock = match self.place {
            Place::Folder => Some(location::lock(&self.location).await?),
            Place::Memory | Place::Remote => None,
        };
        let path = Path::from(key);
        let write = || async {
            let found = self.store.get(&path).await.map_err(|error| self.error(key, &error))?;
            let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
            let content = found.bytes().await.map_err(|error| self.error(key, &error))?;
            if content == after || content != *before {
                return Ok(content == after);
            }
            let mode = if self.place == Place::Folder { PutMode::Overwrite } else { PutMode::Update(version) };
            match self.store.put_opts(&path, PutPayload::from(after.clone()), mode.into()).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. }) => Ok(false),
                Err(error) => Err(self.error(key, &error)),
            }
        };
        Box::pin(self.attempt(key, after.len() as u64, write)).await
    }

    /// Reads an object and verifies its digest, wherever it comes from.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the content is not what the reference says, [`StoreError::Missing`] without it.
    pub async fn get(&self, object: &ObjectRef) -> Result<Bytes, StoreError> {
        let Some(cache) = &self.cache else { return self.get_stored(object).await };
        if let Some(bytes) = cache.get(object.digest, object.bytes).await {
            return Ok(bytes);
        }
        let bytes = self.get_stored(object).await?;
        cache.insert(object.digest, bytes.clone()).await;
        Ok(bytes)
    }

    /// As [`get`](Self::get), but from the store itself: for whoever asks whether the object is really there.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_stored(&self, object: &ObjectRef) -> Result<Bytes, StoreError> {
        let bytes = self.download(&object.key, object.bytes).await?;
        let Err(problem) = verify(object, &bytes) else { return Ok(bytes) };
        // It may have been damaged on the way; the second answer decides.
        tracing::debug!(key = object.key, problem, "an object is read again");
        let bytes = self.download(&object.key, object.bytes).await?;
        match verify(object, &bytes) {
            Ok(()) => Ok(bytes),
            Err(problem) => Err(StoreError::Damaged { key: object.key.clone(), problem }),
        }
    }

    async fn download(&self, key: &str, expected: u64) -> Result<Bytes, StoreError> {
        let path = Path::from(key);
        let read = || async {
            transfer::download(self.store.as_ref(), &path, expected).await.map_err(|error| self.error(key, &error))
        };
        Box::pin(self.attempt(key, expected, read)).await
    }

    /// Reads an object of unknown digest.
    ///
    /// # Errors
    /// When it is missing or the store fails.
    pub async fn get_unverified(&self, key: &str) -> Result<Bytes, StoreError> {
        self.download(key, 0).await
    }

    /// Whether an object is there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        Ok(self.size(key).await?.is_some())
    }

    /// Bytes of an object; `None` when it is not there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let path = Path::from(key);
        let head = || async { self.store.head(&path).await.map_err(|error| self.error(key, &error)) };
        match Box::pin(self.attempt(key, 0, head)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(StoreError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes an object; it need not be there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = Path::from(key);
        let delete = || async { self.store.delete(&path).await.map_err(|error| self.error(key, &error)) };
        match Box::pin(self.attempt(key, 0, delete)).await {
            Ok(()) | Err(StoreError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Keys and sizes of all objects below a prefix, sorted.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, StoreError> {
        Ok(self.list_objects(prefix).await?.into_iter().map(|listed| (listed.key, listed.bytes)).collect())
    }

    /// All objects below a prefix, sorted by key.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_objects(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let path = Path::from(prefix);
        let list = || async {
            let found: Result<Vec<_>, _> = self.store.list(Some(&path)).try_collect().await;
            found.map_err(|error| self.error(prefix, &error))
        };
        let found = match Box::pin(self.attempt(prefix, 0, list)).await {
            Err(StoreError::Missing { .. }) => Vec::new(),
            found => found?,
        };
        let listed = |meta: object_store::ObjectMeta| Listed {
            key: meta.location.to_string(),
            bytes: meta.size,
            modified_ms: u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0),
        };
        let mut objects: Vec<Listed> = found.into_iter().map(listed).collect();
        objects.sort();
        Ok(objects)
    }
}

/// Compares content with its reference.
fn verify(object: &ObjectRef, bytes: &Bytes) -> Result<(), String> {
    if bytes.len() as u64 != object.bytes {
        return Err(format!("it has {} bytes instead of {}", bytes.len(), object.bytes));
    }
    if Digest::of(bytes) != object.digest {
        return Err("its checksum is wrong".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn damage_in_a_folder_is_seen_on_every_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Artefacts::open(folder.path().to_str().expect("utf-8")).expect("opens");
        let object = store.put("a/b", Bytes::from_static(b"spikes")).await.expect("written");
        assert_eq!(store.get(&object).await.expect("read"), Bytes::from_static(b"spikes"));
        std::fs::write(folder.path().join("a/b"), b"spokes").expect("damaged");
        assert!(matches!(store.get(&object).await, Err(StoreError::Damaged { .. })));
        std::fs::write(folder.path().join("a/b"), b"spi").expect("cut");
        assert!(store.get(&object).await.expect_err("cut").to_string().contains("3 bytes instead of 6"));
    }

    #[test]
    fn places_that_cannot_be_stores_are_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let below = file.path().join("store");
        let error = Artefacts::open(below.to_str().expect("utf-8")).expect_err("a file is no folder");
        assert!(matches!(&error, StoreError::NotWritable { .. }) && error.to_string().contains("--store"));
    }

    #[tokio::test]
    async fn looking_makes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let typo = folder.path().join("typo");
        let error = Artefacts::look(typo.to_str().expect("utf-8")).expect_err("nothing is there");
        assert!(matches!(&error, StoreError::NoStore { store } if store.ends_with("typo")), "{error}");
        let here = Artefacts::look(folder.path().to_str().expect("utf-8")).expect("a folder");
        assert!(matches!(here.look_format().await, Err(StoreError::NoStore { .. })), "a folder that is no store");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
