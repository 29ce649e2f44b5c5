//! What a network costs, with nothing left out that is known, and with what is not known named.

use super::{Training, samples_of};
use crate::Run;
use crate::document::{Section, Table};
use crate::energy::{Energy, Memory, SOURCE};
use crate::number::{bytes, count, joules, percent, seconds, times};
use bloctrain_shared::compute::Operations;

/// Computation per input with exits.
pub(super) fn with_exits(run: &Run) -> Operations {
    let inference = &run.summary.inference;
    Operations { macs: inference.macs_per_sample, synops: inference.synops_per_sample }
}

pub(super) fn inference(section: &mut Section, run: &Run, energy: &Energy) {
    let mut table = Table::numbers(&[
        "per input",
        "synaptic operations",
        "MACs",
        "energy, arithmetic only",
        "with memory on the chip",
        "with external memory",
    ]);
    let mut row = |name: &str, operations: Operations| {
        let of = |memory| joules(energy.of(operations, memory));
        table.row([
            name.to_owned(),
            count(operations.synops),
            count(operations.macs),
            of(Memory::Free),
            of(Memory::Chip),
            of(Memory::External),
        ]);
    };
    row("with exits, as the package answers", with_exits(run));
    if let Some(figures) = &run.figures {
        row("the full network, without exits", figures.full_compute);
        row("the same layers without spikes, in one pass", Operations { macs: figures.dense_macs, synops: 0.0 });
        for (block, figures) in run.summary.blocks.iter().zip(&figures.blocks) {
            row(&format!("layers of block {}", block.block), figures.body);
            row(&format!("classifier and detector of block {}", block.block), figures.exit);
        }
    }
    section.table(table);
    if run.figures.is_none() {
        section.text("The program that trained this run kept no counts of the full network.");
    }
    section.text(
        "Operations were counted over the test data. A synaptic operation is an addition of a weight because of a \
        spike; layers on values that are not spikes cost multiply-accumulates (MACs). Not counted: norms, neurons \
        (each updates its membrane in every step), pooling, biases, encoding. Rows of blocks are means over all test \
        inputs, as if each reached them.",
    );
    section.text(
        "Energy is worked out from these counts and published constants; nothing was measured, and no chip is meant. \
        Memory traffic is counted without any reuse of weights or membranes, the same for all rows: hardware that \
        keeps them close does better, most of all for layers without spikes. So the first column of energies is the \
        one that flatters spikes, and the others are what it leaves out.",
    );
    let mut table = Table::words(&["constant", "value", "unit", "of"]);
    for (name, value, unit, about) in energy.constants() {
        table.row([name.to_owned(), value.to_string(), unit.to_owned(), about.to_owned()]);
    }
    section.table(table);
    section.text(format!("Constants: {SOURCE}. Others: bloctrain report RUN --energy synop=0.1,mac=1.5"));
    parameters(section, run);
}

fn parameters(section: &mut Section, run: &Run) {
    let overhead = format!("{:.3}x", run.summary.inference.parameter_overhead);
    let Some(figures) = &run.figures else {
        section.text(format!("All parameters are {overhead} those of the same network trained end to end."));
        return;
    };
    let detectors: usize = figures.blocks.iter().map(|block| block.detector_parameters).sum();
    section.text(format!(
        "Parameters: {} in all, {} of them in detectors; {overhead} the {} of the same network trained end to end.",
        count(figures.parameters as f64),
        count(detectors as f64),
        count(figures.end_to_end_parameters as f64),
    ));
}

pub(super) fn training(section: &mut Section, run: &Run, baseline: Option<&Run>) {
    let own = Training::of(run);
    let mut table = Table::words(&["figure", "value"]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("samples trained on", count(own.samples));
    row("seconds of training rounds", seconds(own.seconds));
    row("seconds of all work", seconds(run.summary.wall_seconds));
    row("peak memory of a training step", bytes(own.peak_bytes));
    let cache = run.summary.cache;
    row("spike cache", bytes(cache.bytes));
    if cache.bytes > 0 {
        row("its spikes, one bit each, before compression", bytes(cache.uncompressed_bytes));
    }
    section.table(table);
    saved(section, run);
    views(section, run);
    let Some(baseline) = baseline else {
        section.text("No end-to-end baseline was named: bloctrain report RUN --baseline OTHER shows one beside this.");
        return;
    };
    let (whole, kind) =
        (Training::of(baseline), if baseline.spec.run.end_to_end { "end to end" } else { "block by block" });
    let ratio = |own: f64, other: f64| if other > 0.0 { times(own / other) } else { String::new() };
    section.text(format!(
        "Against {} ({kind}): {} of its training samples, {} of its training seconds, {} of its peak memory.",
        baseline.title(),
        ratio(own.samples, whole.samples),
        ratio(own.seconds, whole.seconds),
        ratio(own.peak_bytes as f64, whole.peak_bytes as f64),
    ));
}

/// Samples and seconds that training on hard classes or inputs only saved.
fn saved(section: &mut Section, run: &Run) {
    let blocks = &run.summary.blocks;
    let Some(first) = blocks.first() else { return };
    let (mut samples, mut whole, mut saved_seconds) = (0.0, 0.0, 0.0);
    for block in blocks.iter().skip(1) {
        let all = first.train_samples as f64 * f64::from(block.epochs);
        let own = samples_of(run, block.block).unwrap_or(block.train_samples as f64 * f64::from(block.epochs));
        let left_out = (all - own).max(0.0);
        samples += left_out;
        whole += all;
        saved_seconds += if own > 0.0 { left_out * block.train_seconds / own } else { 0.0 };
    }
    if whole > 0.0 {
        section.text(format!(
            "Selection: blocks after the first left out {} of {} samples ({}), because they were not hard. At each \
            block's own pace that is about {}: an estimate, since nothing was trained on them.",
            count(samples),
            count(whole),
            percent(samples / whole),
            seconds(saved_seconds),
        ));
    }
}

/// What augmented views cost.
fn views(section: &mut Section, run: &Run) {
    let data = &run.spec.data;
    if run.spec.run.end_to_end || run.summary.blocks.len() < 2 {
        return;
    }
    let (views, cache) = (data.views, run.summary.cache.bytes);
    if data.augment.is_empty() || views == 1 {
        section.text("Views: the cache holds every sample once.");
    } else if views == 0 {
        section.text(
            "Views: every epoch of every block sees a view of its own, computed through the frozen blocks \
        each time instead of being kept.",
        );
    } else {
        section.text(format!(
            "Views: the cache holds {views} augmented versions of every training sample, about {} each; that is what \
            augmentation adds to it.",
            bytes(cache / u64::from(views)),
        ));
    }
}
