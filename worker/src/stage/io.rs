//! The store as stage code sees it: blocking calls, and errors that are already a task's [`Failure`].

use bloctrain_session::control::failure;
use bloctrain_shared::Digest;
use bloctrain_shared::task::{Failure, ObjectRef};
use bloctrain_store::cache::{self, SpikeShard};
use bloctrain_store::{Artefacts, StoreError};
use bytes::Bytes;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;

/// Bytes of packed spikes of cached shards that are kept in memory.
const RESIDENT_BYTES: usize = 512 << 20;

/// Shards with the digests of their files, oldest first.
type Shards = VecDeque<(Digest, Arc<SpikeShard>)>;

/// Blocking access to the store. Stage code runs on its own thread, never on the runtime's.
#[derive(Clone)]
pub struct Io {
    artefacts: Artefacts,
    runtime: Handle,
    /// Those that were read.
    shards: Arc<Mutex<Shards>>,
}

impl Io {
    /// Access through a runtime that drives the I/O.
    pub fn new(artefacts: Artefacts, runtime: Handle) -> Self {
        Self { artefacts, runtime, shards: Arc::default() }
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

    /// A shard of the spike cache, verified when it is read from the store. Shards stay in memory, up to a bound, since
    /// every epoch reads them again.
    ///
    /// # Errors
    /// [`Failure::InputLost`] when it is damaged or missing.
    pub fn shard(&self, object: &ObjectRef) -> Result<Arc<SpikeShard>, Failure> {
        let shards = || self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, shard)) = shards().iter().find(|(digest, _)| *digest == object.digest) {
            return Ok(Arc::clone(shard));
        }
        let read = Arc::new(self.block_on(cache::read(&self.artefacts, object))?);
        let mut shards = shards();
        shards.push_back((object.digest, Arc::clone(&read)));
        while shards.len() > 1 && shards.iter().map(|(_, shard)| shard.packed.len()).sum::<usize>() > RESIDENT_BYTES {
            shards.pop_front();
        }
        Ok(read)
    }

    /// Writes a value as JSON, under a key that its digest is part of.
    ///
    /// # Errors
    /// [`Failure::Fatal`] when the store cannot be written.
    pub(super) fn put_json(
        &self,
        value: &impl Serialize,
        key: impl FnOnce(Digest) -> String,
    ) -> Result<ObjectRef, Failure> {
        let bytes = Bytes::from(serde_json::to_vec(value).map_err(fatal)?);
        self.put(&key(Digest::of(&bytes)), bytes)
    }

    /// Writes an object.
    ///
    /// # Errors
    /// [`Failure::Fatal`] when the store cannot be written.
    pub fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectRef, Failure> {
        self.block_on(self.artefacts.put(key, bytes))
    }
}

/// A failure that trying again cannot mend.
pub fn fatal(problem: impl std::fmt::Display) -> Failure {
    Failure::Fatal { message: problem.to_string() }
}

/// An object whose content is of no use: it is made again.
pub(super) fn lost(object: &ObjectRef, problem: String) -> Failure {
    Failure::InputLost { key: object.key.clone(), problem, content: true }
}
