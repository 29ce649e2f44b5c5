//! The coordinator of bloctrain: plans a run, hands out its tasks, keeps its state.
pub mod run;
