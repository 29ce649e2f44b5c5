//! The course of training.

use super::samples_of;
use crate::Run;
use crate::chart::{Chart, Series};
use crate::document::{Section, Table};
use crate::number::{bytes, count, percent, seconds};
use bloctrain_shared::history::HistoryLine;

/// One line for every block.
fn series(run: &Run, figure: impl Fn(&HistoryLine) -> Option<f64>) -> Vec<Series> {
    let of = |block: u32| {
        let own = run.history.iter().filter(|line| line.block == block);
        let points = own.filter_map(|line| Some((f64::from(line.epoch), figure(line)?))).collect();
        Series { name: format!("block {block}"), points, ..Series::default() }
    };
    run.summary.blocks.iter().map(|block| of(block.block)).filter(|series| !series.points.is_empty()).collect()
}

pub(super) fn curves(section: &mut Section, run: &Run) {
    if run.history.is_empty() {
        section.text("The course of training is not known: the program that trained this run kept none.");
        return;
    }
    let mut add = |y: &str, series: Vec<Series>, caption: &str| {
        if !series.is_empty() {
            section.picture(Chart { x: "epoch of the block", y, series }.to_svg(), caption);
        }
    };
    add("training loss", series(run, |line| Some(line.loss)), "Mean loss of every epoch.");
    let mut accuracy = series(run, |line| Some(100.0 * line.accuracy));
    accuracy.extend(
        series(run, |line| line.validation_accuracy.map(|accuracy| 100.0 * accuracy))
            .into_iter()
            .map(|series| Series { name: format!("{}, validation", series.name), is_dashed: true, ..series }),
    );
    add(
        "accuracy, %",
        accuracy,
        "Training accuracy of every epoch over the block's own classes; dashed: validation, where it was measured.",
    );
    add(
        "firing rate, %",
        series(run, |line| Some(100.0 * line.firing_rate)),
        "Mean firing rate over the spiking layers.",
    );
    add(
        "images per second",
        series(run, |line| Some(line.images_per_second)),
        "Images per second of training, by one worker.",
    );
}

pub(super) fn blocks(section: &mut Section, run: &Run) {
    let mut table = Table::numbers(&[
        "block",
        "classes",
        "hard",
        "accuracy",
        "exits",
        "epochs",
        "samples an epoch",
        "samples trained",
        "seconds",
        "waiting",
        "peak memory",
        "firing rate",
        "parameters",
    ]);
    for block in &run.summary.blocks {
        let trained = samples_of(run, block.block).unwrap_or(block.train_samples as f64 * f64::from(block.epochs));
        table.row([
            block.block.to_string(),
            block.classes.to_string(),
            block.hard_classes.len().to_string(),
            percent(block.accuracy),
            percent(block.exit_fraction),
            block.epochs.to_string(),
            count(block.train_samples as f64),
            count(trained),
            seconds(block.train_seconds),
            percent(block.waiting_fraction),
            bytes(block.peak_memory_bytes),
            percent(block.firing_rate),
            count(block.parameters as f64),
        ]);
    }
    section.table(table);
    section.text(
        "Accuracy is that of validation over the block's own classes, exits are shares of the test inputs. \
    Peak memory is the largest live tensor memory of a training step.",
    );
    rates(section, run);
}

/// Firing rates of every layer in the last epoch of its block.
fn rates(section: &mut Section, run: &Run) {
    let last = |block: u32| run.history.iter().rev().find(|line| line.block == block)?.firing_rates.as_ref();
    let rates: Vec<(u32, &Vec<f64>)> =
        run.summary.blocks.iter().filter_map(|block| Some((block.block, last(block.block)?))).collect();
    if rates.is_empty() {
        return;
    }
    let mut table = Table::numbers(&["spiking layer", "block", "firing rate in the last epoch"]);
    let layers = rates.iter().flat_map(|(block, rates)| rates.iter().map(move |rate| (*block, *rate)));
    for (number, (block, rate)) in (1_u32..).zip(layers) {
        table.row([number.to_string(), block.to_string(), percent(rate)]);
    }
    section.table(table);
}
