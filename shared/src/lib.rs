//! The nouns and the pure rules of `bloctrain`.
//!
//! One ladder of words runs through the whole project:
//! [`RunSpec`] (asked) → [`Plan`](plan::Plan) (derived, pure) → [stage](mod@stage) (block × kind) →
//! [`Task`](task::Task) (a pure function of named inputs) → attempt (one worker, one lease) →
//! [`Report`](task::Report) (what a worker claims) → commit (what the coordinator accepted).
//!
//! Nothing here does I/O, reads a clock, or draws randomness that was not seeded by its caller. This crate knows
//! no tensor library, so the coordinator can depend on it alone.

pub mod compute;
pub mod course;
pub mod curve;
pub mod decide;
pub mod digest;
pub mod exit;
pub mod figures;
pub mod geometry;
pub mod graph;
pub mod hard_input;
pub mod history;
pub mod key;
pub mod label;
pub mod layer;
pub mod math;
pub mod metric;
pub mod neuron;
pub mod norm;
pub mod object;
pub mod order;
pub mod plan;
pub mod record;
pub mod remark;
pub mod rounds;
pub mod sample;
pub mod schedule;
pub mod seed;
pub mod spec;
pub mod spike;
pub mod split;
pub mod stage;
pub mod summary;
pub mod task;
pub mod view;

pub use digest::Digest;
pub use geometry::ImageShape;
pub use spec::RunSpec;
