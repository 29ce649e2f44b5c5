//! What is wrong with the state in a store.

use bloctrain_store::StoreError;
use slatedb::{CloseReason, ErrorKind};
use std::error::Error;
use std::sync::Arc;

/// State that cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another coordinator took over.
    #[error("another bloctrain process has taken over this store; let it finish, or use another --store")]
    Fenced,
    /// The store fails.
    #[error(
        "the coordinator's state cannot be kept in the store: {0}; check that it is writable and has space, then run \
        the same command again"
    )]
    Unavailable(String),
    /// There is no space.
    #[error(
        "no space is left in the store for the coordinator's state; free some (`bloctrain cache gc`) or choose \
        another --store, then run the same command again"
    )]
    Full,
    /// The store does not take it.
    #[error("the store does not take the coordinator's state: {0}; choose a --store that you may write to")]
    NotWritable(String),
    /// It does not hold what the state needs any more.
    #[error(
        "the coordinator's state in the store is incomplete: {0}; bring the missing files of its folder `state` back, \
        or move it away to start without it"
    )]
    Incomplete(String),
    /// A newer program wrote it.
    #[error(
        "the coordinator's state in the store is of version {found}, this program knows up to {known}; use a newer \
        bloctrain, or another --store; nothing was changed"
    )]
    Newer {
        /// Version of the state.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
    /// What is there makes no sense.
    #[error("the coordinator's state in the store is damaged: {0}; move its folder `state` away to start without it")]
    Damaged(String),
    /// The store cannot be used at all.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How SlateDB says of a manifest that it cannot be read, among errors of another kind.
const UNREADABLE: &str = "transactional object";

/// What is behind an error of the database.
enum Cause {
    Full,
    NotWritable,
    Missing,
    Other,
}

fn cause(error: &slatedb::Error) -> Cause {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            match io.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => return Cause::Full,
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    return Cause::NotWritable;
                }
                _ => {}
            }
        }
        let store = cause.downcast_ref::<object_store::Error>();
        match store.or_else(|| cause.downcast_ref::<Arc<object_store::Error>>().map(AsRef::as_ref)) {
            Some(object_store::Error::NotFound { .. }) => return Cause::Missing,
            Some(object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) => {
                return Cause::NotWritable;
            }
            _ => {}
        }
        next = cause.source();
    }
    Cause::Other
}

/// An error with the causes that it does not name itself, on one line.
fn text(error: &slatedb::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let of = cause.to_string();
        if !text.contains(&of) {
            text = format!("{text}: {of}");
        }
        next = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(600).collect()
}

impl From<slatedb::Error> for StateError {
    fn from(error: slatedb::Error) -> Self {
        if let ErrorKind::Closed(CloseReason::Fenced) = error.kind() {
            return Self::Fenced;
        }
        let text = text(&error);
        match cause(&error) {
            Cause::Full => Self::Full,
            Cause::NotWritable => Self::NotWritable(text),
            Cause::Missing => Self::Incomplete(text),
            Cause::Other if error.kind() == ErrorKind::Data || text.contains(UNREADABLE) => Self::Damaged(text),
            Cause::Other => Self::Unavailable(text),
        }
    }
}
