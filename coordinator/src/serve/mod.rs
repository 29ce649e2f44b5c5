//! Serving: who may call, over which connections, and who of several coordinators is active.
//!
//! [`App`] serves the process that it is in, [`fleet`] other machines. `rpc/` is the edge: it decodes, sends an event,
//! awaits the reply, and decides nothing.

pub mod access;
mod activate;
mod app;
mod connection;
pub mod fleet;
mod guard;
mod handshake;
mod http;
pub mod occupant;
mod peer;
mod place;
mod refusal;
mod rpc;
pub mod secret;
pub mod server;
mod tls;
mod web;

pub use app::App;
pub use rpc::{Gate, RunRpc, WorkerRpc};
