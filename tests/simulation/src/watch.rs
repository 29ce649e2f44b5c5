//! The object store under the eyes of the oracle: nothing that a record names is ever written over with other content.

use crate::bug::Bug;
use crate::oracle::Oracle;
use async_trait::async_trait;
use bloctrain_shared::Digest;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::sync::{Arc, Mutex, PoisonError};

/// The store of all processes.
#[derive(Clone)]
pub(crate) struct WatchedStore {
    pub(crate) inner: Arc<InMemory>,
    pub(crate) oracle: Arc<Mutex<Oracle>>,
    pub(crate) bug: Option<Bug>,
}

impl WatchedStore {
    /// Where an object is kept: where it belongs, or with a bug all specifications of a run at one place.
    fn place(&self, location: &Path) -> Path {
        match location.as_ref().split_once("/spec-") {
            Some((run, _)) if self.bug == Some(Bug::SharedSpec) => Path::from(format!("{run}/spec.json")),
            _ => location.clone(),
        }
    }
}

impl std::fmt::Debug for WatchedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchedStore")
    }
}

impl std::fmt::Display for WatchedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchedStore")
    }
}

#[async_trait]
impl ObjectStore for WatchedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let place = self.place(location);
        let content = Bytes::from(payload.iter().flatten().copied().collect::<Vec<u8>>());
        let overwrites = options.mode == PutMode::Overwrite;
        let answer = self.inner.put_opts(&place, payload, options).await;
        if answer.is_ok() && overwrites {
            let mut oracle = self.oracle.lock().unwrap_or_else(PoisonError::into_inner);
            oracle.stored(|key| self.place(&Path::from(key)) == place, Digest::of(&content));
        }
        answer
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(&self.place(location), options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
