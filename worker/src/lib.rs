//! The worker of bloctrain: trains, validates, detects, exports and evaluates.
pub mod data;
pub mod kernel;
pub mod snn;
