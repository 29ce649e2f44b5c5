//! Artefacts of bloctrain in object storage.
//!
//! [`Artefacts`] reads and writes whole objects whose digest is checked on every read; [`safetensor`] is the form of
//! parameters and optimiser state; [`cache`] is the spike cache: Arrow IPC files ([`arrow`]), addressed by what
//! determines them. It decides nothing about runs: keys come from [`bloctrain_shared::key`] and from the caller.
//!
//! 1. An object is complete or not there: writes are atomic, and on a local disk durable when they return.
//! 2. Nothing is trusted unread: size and digest are verified whenever a reference is followed.
//! 3. A cached shard counts only once its manifest exists, and the manifest is written after the data.

pub mod arrow;
pub mod cache;
mod error;
mod object;
pub mod safetensor;

pub use error::{ErrorKind, StoreError};
pub use object::Artefacts;
