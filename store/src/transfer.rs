//! Moving whole objects: one request for small ones, several parts at once for large ones.
//!
//! An upload is never visible half-done: stores show an object of several parts only when the last request completes
//! it, and an upload that fails is aborted. Parts bound what one broken connection costs.

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, Result};
use std::ops::Range;

/// Bytes of one part. Stores want at least 5 MiB in all but the last part and at most 10,000 parts: objects up to 78
/// GiB.
pub const PART_BYTES: usize = 8 << 20;

/// Objects above this size travel in parts.
pub const LARGE_BYTES: usize = 16 << 20;

/// Parts on their way at the same time.
const CONCURRENT_PARTS: usize = 4;

/// Ranges of the parts of `bytes` bytes.
fn parts(bytes: usize) -> impl Iterator<Item = Range<usize>> {
    (0..bytes).step_by(PART_BYTES).map(move |first| first..(first + PART_BYTES).min(bytes))
}

/// Writes an object, replacing what was there.
pub(crate) async fn upload(store: &dyn ObjectStore, path: &Path, bytes: &Bytes) -> Result<()> {
    if bytes.len() <= LARGE_BYTES {
        return store.put(path, PutPayload::from(bytes.clone())).await.map(drop);
    }
    let mut upload = store.put_multipart(path).await?;
    let sent = upload_parts(upload.as_mut(), bytes).await;
    if sent.is_err() {
        // What cannot be aborted now is removed by the store's own rule for unfinished uploads.
        let _ = upload.abort().await;
    }
    sent
}

async fn upload_parts(upload: &mut dyn MultipartUpload, bytes: &Bytes) -> Result<()> {
    let requests: Vec<_> =
        parts(bytes.len()).map(|range| upload.put_part(PutPayload::from(bytes.slice(range)))).collect();
    futures::stream::iter(requests).buffer_unordered(CONCURRENT_PARTS).try_collect::<Vec<()>>().await?;
    upload.complete().await.map(drop)
}

/// Reads an object that should have `expected` bytes; when it is of another size, what is there is returned as it is.
pub(crate) async fn download(store: &dyn ObjectStore, path: &Path, expected: u64) -> Result<Bytes> {
    let large = usize::try_from(expected).ok().filter(|&bytes| bytes > LARGE_BYTES);
    let Some(bytes) = large else { return store.get(path).await?.bytes().await };
    if store.head(path).await?.size != expected {
        return store.get(path).await?.bytes().await;
    }
    let read = |range: Range<usize>| store.get_range(path, range.start as u64..range.end as u64);
    let mut arrived = futures::stream::iter(parts(bytes).map(read)).buffered(CONCURRENT_PARTS);
    let mut whole = BytesMut::with_capacity(bytes);
    while let Some(part) = arrived.next().await {
        whole.extend_from_slice(&part?);
    }
    Ok(whole.freeze())
}
