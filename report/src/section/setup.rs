//! What a run came to, what was asked, and on what.

use crate::Run;
use crate::document::{Section, Table};
use crate::number::{channels, count, percent, times};
use bloctrain_shared::plan::ARITHMETIC_VERSION;

pub(super) fn result(section: &mut Section, run: &Run) {
    let (summary, spec, data) = (&run.summary, &run.spec, &run.dataset);
    let mut table = Table::words(&["figure", "value"]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("test accuracy", percent(summary.accuracy.test));
    row("validation accuracy, on which exits were calibrated", percent(summary.accuracy.validation));
    row("compute efficiency", times(summary.inference.compute_efficiency));
    row("synaptic operations per input", count(summary.inference.synops_per_sample));
    row("multiply-accumulates per input", count(summary.inference.macs_per_sample));
    row("parameter overhead", format!("{:.3}x", summary.inference.parameter_overhead));
    if let Some(figures) = &run.figures {
        row("expected calibration error on test data", percent(figures.calibration_error));
    }
    section.table(table);
    for note in &summary.notes {
        section.text(format!("Note: {note}"));
    }
    let mut table = Table::words(&["of", "value"]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("run", summary.run.clone());
    if let Some(name) = &spec.run.name {
        row("name", name.clone());
    }
    row("mode", if spec.run.end_to_end { "end to end" } else { "block by block" }.to_owned());
    let shape = data.shape;
    row("data set", data.name.clone());
    row(
        "images",
        format!(
            "{}, {} x {} pixels, {} classes",
            channels(shape.channels),
            shape.width,
            shape.height,
            data.classes.len()
        ),
    );
    row("samples", format!("{} to train on, {} to validate on, {} to test on", data.train, data.validation, data.test));
    row("digest of the data", data.digest.to_string());
    row("seed", spec.run.seed.to_string());
    match &run.figures {
        Some(figures) => {
            row("program", format!("bloctrain {}, arithmetic version {}", figures.program, figures.arithmetic));
            row("backend", figures.backend.clone());
        }
        None => row("program", format!("not recorded; this report is of arithmetic version {ARITHMETIC_VERSION}")),
    }
    section.table(table);
}

pub(super) fn specification(section: &mut Section, run: &Run) {
    section.text("Every field of the run's specification; a file with these lines asks for the same run.");
    section.code(run.spec.printed());
}
