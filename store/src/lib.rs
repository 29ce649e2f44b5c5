//! Artefacts of bloctrain in object storage.
//!
//! [`Artefacts`] reads and writes whole objects whose digest is checked on every read; [`cache`] is the spike cache:
//! Arrow IPC files, addressed by what determines them; [`collect`] removes what nothing names. An object is complete or
//! not there: writes are atomic, and a cached shard counts only once its manifest exists.
//!
//! Below [`Artefacts`]: `address` (what an address means), `location` (from an address to a store), `settings`
//! (variables that cannot work are named), `profile` (keys in `~/.aws`), `error` (what a failure means), `retry` (when
//! to try again), `transfer` (large objects in parts), `format` (version marker and start-up probe), `disk` (a cache on
//! this machine), `process` (one process at a time in a folder).

mod address;
pub mod cache;
pub mod collect;
mod disk;
mod error;
mod format;
mod ipc;
pub mod leader;
mod location;
mod object;
pub mod process;
#[cfg(feature = "aws")]
mod profile;
mod retry;
#[cfg(feature = "cloud")]
mod settings;
#[cfg(feature = "testing")]
pub mod testing;
mod transfer;

pub use disk::DiskCacheConfig;
pub use error::{ErrorKind, StoreError};
pub use location::Place;
pub use object::{Artefacts, Created, Listed};
pub use retry::RetryPolicy;
pub use transfer::{LARGE_BYTES, PART_BYTES};
