//! One module per command.

pub(crate) mod bench;
pub(crate) mod cache;
pub(crate) mod data;
pub(crate) mod model;
pub(crate) mod runs;
pub(crate) mod spec;
pub(crate) mod train;

use crate::failure::Failure;
use serde::Serialize;

/// Prints one JSON value on standard output.
fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A runtime for commands that only touch the store.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(future))
}
