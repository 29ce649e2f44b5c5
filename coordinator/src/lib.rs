//! The coordinator of bloctrain: plans a run, hands out its tasks, keeps its state.
//!
//! | folder | role |
//! |---|---|
//! | [`run`] | decides what follows from what lasts of one run; pure |
//! | [`schedule`] | decides who works on what; pure |
//! | [`durable`] | remembers |
//! | [`drive`] | performs: the one loop around the decisions |
//! | [`serve`] | speaks |
//!
//! Imports point from each to those above it. The same services serve workers and clients of this process through an
//! in-memory channel ([`App`]), and those of other machines ([`fleet`]). This crate never links a tensor library.

pub mod collect;
mod config;
pub mod drive;
pub mod durable;
mod open;
pub mod run;
pub mod schedule;
pub mod serve;

pub use config::Config;
pub use drive::Clock;
pub use open::{OpenError, read_history, read_runs};
pub use serve::{App, Gate, RunRpc, WorkerRpc, access, fleet, occupant, secret, server};
