//! One run: what of it lasts, and what follows from that. Pure: no clock, no randomness, no I/O, no protobuf.
//!
//! [`Record`](record::Record)s are the only way to change what lasts ([`Durable`](durable::Durable)). Each kind of task
//! is a file in `stage/`: when its tasks open, what may be reported of them, what a commit does, what a loss takes
//! back, what is needed of what they made. From these follow open tasks (`task`), what a record changes (`replay`), and
//! what people see (`view`, `detail`, `outlook`). Who works on what is decided in [`schedule`](crate::schedule).
//!
//! Invariants: R-1 a task commits at most once ([`Run::is_committed`](durable::Run::is_committed)); R-4 tasks are
//! derived from committed inputs only; R-5 replaying records gives the same state; R-6 hard classes are decided in one
//! place (`stage/validate`).

pub mod block;
pub(crate) mod claim;
pub mod detail;
pub mod durable;
mod history;
mod open;
pub mod outlook;
pub mod record;
pub mod replay;
mod replica;
pub mod round;
mod source;
pub(crate) mod stage;
mod task;
mod view;
