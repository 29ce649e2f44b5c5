//! Runs side by side.

use super::{Training, cost};
use crate::Run;
use crate::chart::{Chart, Series};
use crate::document::{Document, Table};
use crate::energy::{Energy, Memory};
use crate::number::{bytes, count, joules, percent, seconds, times};
use bloctrain_shared::spec::field::FIELDS;

pub(crate) fn add(document: &mut Document, runs: &[Run], baseline: Option<&Run>, energy: &Energy) {
    let all: Vec<&Run> = runs.iter().chain(baseline).collect();
    let section = document.section("Side by side");
    let mut head = vec!["figure".to_owned()];
    head.extend(runs.iter().map(|run| run.title().to_owned()));
    head.extend(baseline.map(|run| format!("baseline: {}", run.title())));
    let mut table = Table { head, rows: Vec::new(), is_numeric: true };
    let mut row = |name: &str, figure: &dyn Fn(&Run) -> String| {
        table.row([name.to_owned()].into_iter().chain(all.iter().map(|run| figure(run))));
    };
    row("mode", &|run| if run.spec.run.end_to_end { "end to end" } else { "block by block" }.into());
    row("blocks", &|run| run.summary.blocks.len().to_string());
    row("test accuracy", &|run| percent(run.summary.accuracy.test));
    row("validation accuracy", &|run| percent(run.summary.accuracy.validation));
    row("synaptic operations per input", &|run| count(run.summary.inference.synops_per_sample));
    row("MACs per input", &|run| count(run.summary.inference.macs_per_sample));
    row("compute efficiency", &|run| times(run.summary.inference.compute_efficiency));
    row("energy per input, arithmetic only", &|run| joules(energy.of(cost::with_exits(run), Memory::Free)));
    row("energy per input, memory on the chip", &|run| joules(energy.of(cost::with_exits(run), Memory::Chip)));
    row("parameter overhead", &|run| format!("{:.3}x", run.summary.inference.parameter_overhead));
    row("samples trained on", &|run| count(Training::of(run).samples));
    row("seconds of training rounds", &|run| seconds(Training::of(run).seconds));
    row("peak memory of a training step", &|run| bytes(Training::of(run).peak_bytes));
    row("spike cache", &|run| bytes(run.summary.cache.bytes));
    section.table(table);
    if let Some(other) = all.iter().find(|run| run.dataset.digest != all[0].dataset.digest) {
        section.text(format!("Not on the same data: {} and {}.", all[0].dataset.name, other.dataset.name));
    }
    let curve = |run: &&Run| Series {
        name: run.title().to_owned(),
        points: run
            .curve
            .points
            .iter()
            .map(|at| (at.test.relative_compute * 100.0, 100.0 * at.test.accuracy))
            .collect(),
        marked: vec![run.curve.chosen],
        ..Series::default()
    };
    let chart = Chart {
        x: "mean compute per input, % of the run's own full network",
        y: "test accuracy, %",
        series: all.iter().map(curve).collect(),
    };
    section.picture(chart.to_svg(), "Accuracy against compute on test data; rings mark what the packages use.");
    if all.iter().any(|run| !run.history.is_empty()) {
        let course = |run: &&Run| {
            let lines = (1_u32..).zip(&run.history);
            let points = lines.map(|(number, line)| (f64::from(number), 100.0 * line.accuracy)).collect();
            Series { name: run.title().to_owned(), points, ..Series::default() }
        };
        let chart = Chart {
            x: "epoch, through all blocks",
            y: "training accuracy, %",
            series: all.iter().map(course).collect(),
        };
        section.picture(chart.to_svg(), "Training accuracy over each block's own classes, blocks one after another.");
    }
    differences(document, &all);
}

/// Fields of the specifications that are not the same in all runs.
fn differences(document: &mut Document, runs: &[&Run]) {
    let mut head = vec!["field".to_owned()];
    head.extend(runs.iter().map(|run| run.title().to_owned()));
    let mut table = Table { head, rows: Vec::new(), is_numeric: false };
    for field in FIELDS {
        let values: Vec<String> = runs
            .iter()
            .map(|run| run.spec.value(field.path).map_or_else(|| "not set".into(), |value| value.to_string()))
            .collect();
        if values.iter().any(|value| *value != values[0]) {
            table.row([field.path.to_owned()].into_iter().chain(values));
        }
    }
    if !table.rows.is_empty() {
        let section = document.section("What differs");
        section.text("Fields of the specifications that are not the same in all of these runs.");
        section.table(table);
    }
}
