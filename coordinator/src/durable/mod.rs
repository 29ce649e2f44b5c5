//! What lasts, in the store: a log of records in an ordered table, and snapshots that shorten replay.
//!
//! [`Log`] writes and replays, `rows` is the state as snapshots have it, [`table`] what both are kept in: SlateDB, or
//! what a test puts there. `time` is the clock that SlateDB writes by.

mod error;
mod json;
mod log;
mod read;
mod rows;
mod slate;
pub mod table;
mod time;

pub use error::StateError;
pub use log::{Log, SNAPSHOT_EVERY};
pub use read::read;
