//! What is wrong with the state in a store.

use bloctrain_store::StoreError;
use slatedb::{CloseReason, ErrorKind};

/// State that cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another coordinator took over.
    #[error("another bloctrain process has taken over this store; let it finish, or use another --store")]
    Fenced,
    /// The store fails.
    #[error(
        "the coordinator's state cannot be kept in the store: {0}; check that it is writable and has space, then run the same command again"
    )]
    Unavailable(String),
    /// A newer program wrote it.
    #[error(
        "the coordinator's state in the store is of version {found}, this program knows up to {known}; use a newer bloctrain, or another --store; nothing was changed"
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

impl From<slatedb::Error> for StateError {
    fn from(error: slatedb::Error) -> Self {
        match error.kind() {
            ErrorKind::Closed(CloseReason::Fenced) => Self::Fenced,
            ErrorKind::Data => Self::Damaged(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
