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

/// An ordered table, open for the one writer that opened it last. Whoever opened it before is fenced: its writes fail with
/// [`StateError::Fenced`] and change nothing.
pub trait Table: Send + Sync {
    /// The value of a key.
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, StateError>>;

    /// All keys that begin in this way, in order, with their values.
    fn scan<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(Bytes, Bytes)>, StateError>>;

    /// Makes all changes or none. They are durable when this returns; after an error it is not known whether they will be, and
    /// the table takes no more writes.
    fn write(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StateError>>;

    /// Ends the use of the table.
    fn close(&self) -> BoxFuture<'_, Result<(), StateError>>;
}
