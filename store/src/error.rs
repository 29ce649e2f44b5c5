//! What can go wrong with a store, and what its caller does about it.

use std::io;

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
    /// The store refuses reads.
    #[error("cannot read {key} in the store {store}: {problem}; get permission to read it, or choose another --store")]
    NotReadable {
        /// The store.
        store: String,
        /// Key of the object.
        key: String,
        /// What the system says.
        problem: String,
    },
    /// The file that says which version of the layout the store has says something else.
    #[error(
        "the store {store} has an unreadable {key}: {problem}; if the folder belongs to something else choose another --store, else restore that file"
    )]
    UnknownFormat {
        /// The store.
        store: String,
        /// Key of the file.
        key: String,
        /// What is wrong with it.
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
    #[error("`{location}` is not a store: {problem}; give a folder, file://FOLDER or memory://")]
    InvalidLocation {
        /// The address.
        location: String,
        /// Why it is none.
        problem: String,
    },
    /// An object that its maker got wrong, refused before it was written.
    #[error("refusing to write {key}: {problem}; this is a bug in bloctrain, please report it")]
    Invalid {
        /// Key of the object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
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
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } | Self::Damaged { .. } => ErrorKind::InputLost,
            Self::Unavailable { .. } => ErrorKind::Retry,
            Self::Full { .. }
            | Self::NotWritable { .. }
            | Self::NotReadable { .. }
            | Self::UnknownFormat { .. }
            | Self::NewerFormat { .. }
            | Self::InvalidLocation { .. }
            | Self::Invalid { .. } => ErrorKind::Fatal,
        }
    }

    /// The object that it is about.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Missing { key }
            | Self::Damaged { key, .. }
            | Self::Full { key }
            | Self::NotReadable { key, .. }
            | Self::UnknownFormat { key, .. }
            | Self::Invalid { key, .. }
            | Self::Unavailable { key, .. } => Some(key),
            Self::NotWritable { .. } | Self::NewerFormat { .. } | Self::InvalidLocation { .. } => None,
        }
    }
}

/// What was being done with an object when the store failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading, listing, asking.
    Read,
    /// Writing, deleting.
    Write,
}

/// The situation behind an error of the object store.
pub(crate) fn situation(store: &str, key: &str, access: Access, error: &object_store::Error) -> StoreError {
    use io::ErrorKind as Io;
    use object_store::Error as Object;
    let (store, key, problem) = (store.to_owned(), key.to_owned(), error.to_string());
    let refused = matches!(error, Object::PermissionDenied { .. } | Object::Unauthenticated { .. });
    match io_kind(error) {
        _ if matches!(error, Object::NotFound { .. }) => StoreError::Missing { key },
        Some(Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge) => StoreError::Full { key },
        Some(Io::PermissionDenied) if access == Access::Read => StoreError::NotReadable { store, key, problem },
        _ if refused && access == Access::Read => StoreError::NotReadable { store, key, problem },
        Some(Io::PermissionDenied | Io::ReadOnlyFilesystem | Io::NotADirectory) => StoreError::NotWritable { store, problem },
        _ if refused => StoreError::NotWritable { store, problem },
        _ => StoreError::Unavailable { key, problem },
    }
}

/// The system's error at the bottom of a store error.
fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        source = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn situation_of(kind: io::ErrorKind, access: Access) -> ErrorKind {
        let error = object_store::Error::Generic { store: "test", source: Box::new(io::Error::from(kind)) };
        let found = situation("/s", "k", access, &error);
        match kind {
            io::ErrorKind::StorageFull => assert!(matches!(&found, StoreError::Full { key } if key == "k")),
            io::ErrorKind::ReadOnlyFilesystem => {
                assert!(matches!(&found, StoreError::NotWritable { store, .. } if store == "/s"))
            }
            _ => {}
        }
        found.kind()
    }

    #[test]
    fn the_systems_error_decides_what_to_do() {
        for fatal in [io::ErrorKind::StorageFull, io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            assert_eq!(situation_of(fatal, Access::Write), ErrorKind::Fatal, "{fatal:?}");
        }
        assert_eq!(situation_of(io::ErrorKind::PermissionDenied, Access::Read), ErrorKind::Fatal);
        assert_eq!(situation_of(io::ErrorKind::TimedOut, Access::Read), ErrorKind::Retry);
        let gone = object_store::Error::NotFound { path: "k".into(), source: "none".into() };
        assert_eq!(situation("/s", "k", Access::Read, &gone), StoreError::Missing { key: "k".into() });
    }
}
