//! What a coordinator does with everything that it should not be sent: it refuses it with a clear status, writes a line
//! in its log, and is as it was. Real sockets, real services, the real state machine; the store is in memory, and the
//! clock stands still, so that two looks at an undisturbed coordinator are equal.

mod access;
mod certificate;
mod crowd;
#[path = "../fleet/mod.rs"]
mod fleet;
mod fuzz;
mod lie;
mod limit;
mod long;
mod moved;
mod operate;
mod page;
mod resubmit;
mod schema;
mod server;
mod stream;
mod web;
