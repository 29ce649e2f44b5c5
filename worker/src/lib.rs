//! The worker of bloctrain: trains, validates, detects, exports and evaluates.
pub mod kernel;
pub mod snn;
