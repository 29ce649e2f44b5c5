//! What the log is kept in: an ordered table with one writer.

use super::error::StateError;
use bytes::Bytes;
use futures::future::BoxFuture;

/// One change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key.
    Delete(Vec<u8>),
}

/// For an entry of a table, the key from which to go on instead of the next one.
pub type Beyond = dyn Fn(&[u8], &[u8]) -> Option<Vec<u8>> + Send + Sync;

/// An ordered table, open for the one writer that opened it last. Whoever opened it before is fenced: its writes fail
/// with [`StateError::Fenced`] and change nothing.
pub trait Table: Send + Sync {
    /// The value of a key.
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StateError>>;

    /// All keys that begin in this way, in order, with their values.
    fn scan<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(Bytes, Bytes)>, StateError>>;

    /// As [`scan`](Self::scan), but where `beyond` names a later key for an entry, it goes on from there: what is
    /// between is not read, where the table can do so.
    fn scan_beyond<'a>(
        &'a self,
        prefix: &'a str,
        beyond: &'a Beyond,
    ) -> BoxFuture<'a, Result<Vec<(Bytes, Bytes)>, StateError>> {
        Box::pin(async move {
            let mut from = None;
            let mut found = self.scan(prefix).await?;
            found.retain(|(key, value)| {
                let is_skipped = from.as_ref().is_some_and(|from: &Vec<u8>| key[..] < from[..]);
                if !is_skipped {
                    from = beyond(key, value);
                }
                !is_skipped
            });
            Ok(found)
        })
    }

    /// Makes all changes or none. They are durable when this returns; after an error it is not known whether they will
    /// be, and the table takes no more writes.
    fn write(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StateError>>;

    /// Ends the use of the table.
    fn close(&self) -> BoxFuture<'_, Result<(), StateError>>;
}
