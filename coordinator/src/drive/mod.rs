//! The loop around the decisions: it takes what comes in, applies it, makes it durable, performs the effects, and
//! answers.
//!
//! [`driver`] is the loop, [`Handle`] the way to it, [`environment`] what it stands on, `history` what it keeps for
//! people.

pub mod counters;
pub mod driver;
pub mod environment;
mod handle;
mod history;
pub mod journal;
mod trace;
pub mod verify;

pub use environment::Clock;
pub use handle::{Answer, DriverError, Handle};
