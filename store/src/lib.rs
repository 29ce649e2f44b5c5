//! Artefacts of bloctrain in object storage.
//!
//! [`Artefacts`] reads and writes whole objects whose digest is checked on every read; [`safetensor`] is the form of
//! parameters and optimiser state; [`cache`] is the spike cache: Arrow IPC files, addressed by what determines them.
//! An object is complete or not there: writes are atomic, and a cached shard counts only once its manifest exists.

pub mod cache;
mod object;
pub mod safetensor;

pub use object::{Artefacts, ErrorKind, StoreError};
