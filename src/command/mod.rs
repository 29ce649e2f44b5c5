//! One module per command.

pub(crate) mod bench;
pub(crate) mod cache;
mod connect;
pub(crate) mod coordinator;
pub(crate) mod data;
pub(crate) mod doctor;
mod dry_run;
pub(crate) mod health;
pub(crate) mod help;
mod in_process;
pub(crate) mod init;
mod machine;
pub(crate) mod model;
mod occupation;
pub(crate) mod order;
pub(crate) mod report;
pub(crate) mod runs;
mod secret;
pub(crate) mod spec;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod track;
pub(crate) mod train;
pub(crate) mod worker;

use crate::failure::Failure;
use serde::Serialize;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::sync::Arc;

/// Prints one JSON value on standard output.
fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(value)?)?;
    Ok(())
}

/// A runtime for commands that only touch the store.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(future))
}

/// Prints a line; false when the reader went away.
fn print(line: &str) -> Result<bool, Failure> {
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A number that no other process has, for names and pauses; nothing that is computed depends on it.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The time of this process's start by the system's clock, and what has passed since by one that is never set: a step
/// of the system's clock ends no leases.
#[expect(clippy::disallowed_methods, reason = "the command owns the clock")]
fn clock() -> bloctrain_coordinator::Clock {
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let begun = std::time::Instant::now();
    Arc::new(move || u64::try_from((started + begun.elapsed()).as_millis()).unwrap_or(u64::MAX))
}

#[expect(clippy::disallowed_methods, reason = "the command owns the clock")]
fn stopwatch() -> bloctrain_worker::stage::Stopwatch {
    let begun = std::time::Instant::now();
    Arc::new(move || begun.elapsed().as_secs_f64())
}
