//! The worker of bloctrain: trains, validates, detects, exports and evaluates.
//!
//! [`session`] talks to a coordinator and hands tasks to [`stage`], which runs them on [`snn`] networks over the
//! operations of [`kernel`]; [`data`] reads images; [`model`] is what comes out.

pub mod bench;
pub mod data;
pub mod device;
pub mod engine;
pub mod kernel;
pub mod model;
pub mod snn;
pub mod stage;

pub use bloctrain_session as session;
