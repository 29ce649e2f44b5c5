//! Who works on what. Pure: no clock, no randomness, no I/O, no protobuf.
//!
//! [`State::apply`] takes an [`Event`] and answers with [`Effect`]s. What lasts is in
//! [`Durable`](crate::run::durable::Durable) and changes by records only, each of which is an [`Effect::Persist`];
//! workers and leases are not durable: after a restart every lease is old (its epoch's upper half counts openings).
//!
//! Invariants: R-1 a committed task is refused ([`Rejected::Committed`]); R-3 an old lease is refused
//! ([`Rejected::Stale`]); R-5 a rejected event changes nothing, and replaying records gives the same durable state.

pub(crate) mod admission;
mod apply;
mod attempt;
mod backup;
mod chain;
mod choose;
mod demand;
mod doubt;
mod event;
mod join;
mod lease;
mod order;
mod pace;
mod refuse;
mod report;
mod share;
mod state;
mod view;
pub mod worker;

pub use choose::Apart;
pub use demand::{Demand, Overview};
pub use event::{Doubt, Effect, Entry, Event, Lost, Rejected};
pub use join::MAX_WORKERS;
pub use lease::{Attempt, Leases};
pub use order::{MAX_KEPT, MAX_RUNS};
pub use state::State;

#[cfg(test)]
mod tests;
