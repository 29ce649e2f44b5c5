//! The store as stage code sees it: blocking calls, and errors that are already a task's [`Failure`].

use bloctrain_shared::task::{Failure, ObjectRef};
use bloctrain_store::{Artefacts, ErrorKind, StoreError};
use bytes::Bytes;
use tokio::runtime::Handle;

/// Blocking access to the store. Stage code runs on its own thread, never on the runtime's.
#[derive(Clone)]
pub struct Io {
    artefacts: Artefacts,
    runtime: Handle,
}

impl Io {
    /// Access through a runtime that drives the I/O.
    pub fn new(artefacts: Artefacts, runtime: Handle) -> Self {
        Self { artefacts, runtime }
    }

    /// Runs a store operation to its end.
    ///
    /// # Errors
    /// The operation's error as a [`Failure`].
    pub fn block_on<T>(&self, operation: impl Future<Output = Result<T, StoreError>>) -> Result<T, Failure> {
        self.runtime.block_on(operation).map_err(failure)
    }

    /// The store itself, for operations that take it.
    pub fn artefacts(&self) -> &Artefacts {
        &self.artefacts
    }

    /// Reads and verifies an object.
    ///
    /// # Errors
    /// [`Failure::InputLost`] when it is damaged or missing.
    pub fn get(&self, object: &ObjectRef) -> Result<Bytes, Failure> {
        self.block_on(self.artefacts.get(object))
    }

    /// Writes an object.
    ///
    /// # Errors
    /// [`Failure::Fatal`] when the store cannot be written.
    pub fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectRef, Failure> {
        self.block_on(self.artefacts.put(key, bytes))
    }
}

/// A store error as the failure of a task.
pub fn failure(error: StoreError) -> Failure {
    match (error.kind(), error.key()) {
        (ErrorKind::InputLost, Some(key)) => Failure::InputLost { key: key.to_owned(), problem: error.to_string() },
        (ErrorKind::Retry, _) => Failure::Transient { message: error.to_string() },
        _ => Failure::Fatal { message: error.to_string() },
    }
}

/// A failure that trying again cannot mend.
pub fn fatal(problem: impl std::fmt::Display) -> Failure {
    Failure::Fatal { message: problem.to_string() }
}
