//! Figures for people: percent, mebibytes, one table per run.

use bloctrain_shared::history::HistoryLine;
use bloctrain_shared::summary::Summary;
use bloctrain_shared::view::{RunState, RunView};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use console::Term;
use std::io::IsTerminal;

/// A fraction in percent.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.2} %", 100.0 * fraction)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Columns that tables need at most.
const WIDE: u16 = 110;

/// An empty table, which on a narrow terminal folds its cells.
fn new() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    let (_, columns) = Term::stdout().size();
    if std::io::stdout().is_terminal() && columns < WIDE {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    table
}

/// The table of a finished run.
pub(crate) fn summary(summary: &Summary) -> String {
    let mut table = new();
    table.set_header([
        "block",
        "classes",
        "samples",
        "accuracy",
        "exits",
        "epochs",
        "seconds",
        "waiting",
        "peak memory",
        "firing rate",
    ]);
    for block in &summary.blocks {
        table.add_row([
            block.block.to_string(),
            block.classes.to_string(),
            block.train_samples.to_string(),
            percent(block.accuracy),
            percent(block.exit_fraction),
            block.epochs.to_string(),
            format!("{:.1}", block.train_seconds),
            percent(block.waiting_fraction),
            mebibytes(block.peak_memory_bytes),
            percent(block.firing_rate),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let inference = &summary.inference;
    let notes: String = summary.notes.iter().map(|note| format!("\nnote: {note}")).collect();
    format!(
        "{table}\ntest accuracy       {}  (validation {})\ncompute efficiency  {:.2}x  ({:.0} synaptic operations and \
        {:.0} MACs per input)\nparameter overhead  {:.3}x\nmodel               {}{notes}",
        percent(summary.accuracy.test),
        percent(summary.accuracy.validation),
        inference.compute_efficiency,
        inference.synops_per_sample,
        inference.macs_per_sample,
        inference.parameter_overhead,
        summary.model,
    )
}

/// The course of a run's training.
pub(crate) fn history(lines: &[HistoryLine]) -> String {
    let mut table = new();
    let mut head = vec![
        "block",
        "epoch",
        "loss",
        "accuracy",
        "validation",
        "firing rate",
        "rate",
        "images/s",
        "seconds",
        "peak memory",
    ];
    let is_validated = lines.iter().any(|line| line.validation_accuracy.is_some());
    if !is_validated {
        head.retain(|name| *name != "validation");
    }
    table.set_header(head);
    for line in lines {
        let mut row = vec![
            line.block.to_string(),
            line.epoch.to_string(),
            format!("{:.4}", line.loss),
            percent(line.accuracy),
            line.validation_accuracy.map(percent).unwrap_or_default(),
            percent(line.firing_rate),
            format!("{:.3e}", line.learning_rate),
            format!("{:.0}", line.images_per_second),
            format!("{:.1}", line.seconds),
            line.peak_bytes.map(mebibytes).unwrap_or_default(),
        ];
        if !is_validated {
            row.remove(4);
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Where a run stands, in words.
pub(crate) fn state(state: &RunState) -> String {
    match state {
        RunState::Running => "unfinished".into(),
        RunState::Paused => "paused".into(),
        RunState::Completed => "completed".into(),
        RunState::Failed { message } => format!("failed: {message}"),
        RunState::Cancelled => "cancelled".into(),
    }
}

/// Runs of a sweep with their results, the most accurate on validation data first.
pub(crate) fn runs(views: &[RunView]) -> String {
    let mut table = new();
    table.set_header(["run", "name", "state", "blocks", "validation", "test", "compute"]);
    let mut views: Vec<&RunView> = views.iter().collect();
    let accuracy = |view: &RunView| view.summary.as_ref().map_or(-1.0, |summary| summary.accuracy.validation);
    views.sort_by(|a, b| accuracy(b).total_cmp(&accuracy(a)));
    for view in views {
        let figure = |of: fn(&Summary) -> String| view.summary.as_ref().map(of).unwrap_or_default();
        table.add_row([
            view.run.clone(),
            view.name.clone().unwrap_or_default(),
            state(&view.state),
            view.blocks.len().to_string(),
            figure(|summary| percent(summary.accuracy.validation)),
            figure(|summary| percent(summary.accuracy.test)),
            figure(|summary| format!("{:.2}x", summary.inference.compute_efficiency)),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
