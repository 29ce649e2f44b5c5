//! How a process shows itself to whoever runs it.
//!
//! - [`metric`] is the one table of metrics, with stable names; [`exposition`] writes their values for Prometheus.
//! - [`http`] serves them, and the health endpoints that probes ask, on so many connections as [`limit`] lets;
//!   [`probe`] asks these.
//! - [`reload`] reads files with secrets again when they change.
//! - [`notice`] listens for a cloud's notice that the machine will be taken away.
//!
//! What a process says of itself comes from an implementation of [`http::Operated`]; nothing here knows of runs or
//! tasks.

pub mod exposition;
pub mod http;
pub mod limit;
pub mod metric;
pub mod notice;
pub mod probe;
pub mod reload;
