//! The forms of answers that are not views already: a run in a list, a run as it is now, lines of logs.

use crate::drive::journal::Line;
use crate::run::outlook;
use bloctrain_shared::spec::sweep;
use bloctrain_shared::stage::Stage;
use bloctrain_shared::view::{RunState, RunView};
use serde::Serialize;
use std::collections::BTreeMap;

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct RunRow {
    run: String,
    name: Option<String>,
    /// The sweep that it is of, by its name.
    sweep: Option<SweepOf>,
    dataset: String,
    end_to_end: bool,
    state: &'static str,
    /// Why it failed.
    message: Option<String>,
    created_ms: u64,
    updated_ms: u64,
    /// The last block that has begun.
    block: u32,
    planned_blocks: u32,
    /// What is worked on in that block, or what was committed last.
    stage: Option<Stage>,
    /// How much is done, in [0, 1].
    progress: f64,
    /// Seconds of training that are left at most.
    left_seconds: Option<f64>,
    /// Validation accuracy: of the last block that was validated, or of the network once completed.
    validation_accuracy: Option<f64>,
    /// Test accuracy with early exits, once completed.
    test_accuracy: Option<f64>,
    /// Compute of the whole network over that with early exits, once completed.
    compute_efficiency: Option<f64>,
    /// Workers that have tasks of it.
    working: usize,
    /// Why nobody may work on it.
    missing: Option<String>,
    /// Notes on it.
    notes: usize,
}

/// What a run's name says of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct SweepOf {
    name: String,
    /// Its values by field.
    values: BTreeMap<String, String>,
}

/// A fraction to two decimals of a percent, so that a row differs only when people would see it.
fn rounded(fraction: f64) -> f64 {
    (fraction * 1e4).round() / 1e4
}

impl RunRow {
    pub(super) fn id(&self) -> &str {
        &self.run
    }

    pub(super) fn new(view: RunView) -> Self {
        let sweep = view.name.as_deref().and_then(sweep::parts).map(|(name, values)| SweepOf {
            name: name.to_owned(),
            values: values.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        });
        let worked_on =
            view.attempts.iter().map(|attempt| attempt.task).max_by_key(|task| (task.block == 0, task.block));
        let validated = view.blocks.iter().rev().find_map(|block| block.accuracy);
        let summary = view.summary.as_ref();
        Self {
            sweep,
            state: view.state.name(),
            message: match &view.state {
                RunState::Failed { message } => Some(message.clone()),
                RunState::Running | RunState::Paused | RunState::Completed | RunState::Cancelled => None,
            },
            block: view.blocks.last().map_or(0, |block| block.block),
            stage: worked_on.map(|task| task.stage),
            progress: rounded(outlook::progress(&view)),
            left_seconds: outlook::left_seconds(&view).map(f64::round),
            validation_accuracy: summary.map(|summary| summary.accuracy.validation).or(validated),
            test_accuracy: summary.map(|summary| summary.accuracy.test),
            compute_efficiency: summary.map(|summary| summary.inference.compute_efficiency),
            working: view.attempts.len(),
            notes: view.notes.len(),
            run: view.run,
            name: view.name,
            dataset: view.dataset,
            end_to_end: view.end_to_end,
            created_ms: view.created_ms,
            updated_ms: view.updated_ms,
            planned_blocks: view.planned_blocks,
            missing: view.missing,
        }
    }
}

/// A run as it is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct RunNow {
    #[serde(flatten)]
    view: RunView,
    progress: f64,
    left_seconds: Option<f64>,
}

impl RunNow {
    pub(super) fn new(view: RunView) -> Self {
        Self { progress: rounded(outlook::progress(&view)), left_seconds: outlook::left_seconds(&view), view }
    }
}

/// A line of a run's log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct LogLine {
    number: u64,
    at_ms: u64,
    text: String,
}

impl LogLine {
    pub(super) fn new(line: Line) -> Self {
        Self { number: line.number, at_ms: line.at_ms, text: line.text }
    }
}

/// A line of all logs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct EventLine {
    sequence: u64,
    run: String,
    at_ms: u64,
    text: String,
}

impl EventLine {
    pub(super) fn new((run, line): (String, Line)) -> Self {
        Self { sequence: line.sequence, run, at_ms: line.at_ms, text: line.text }
    }
}
