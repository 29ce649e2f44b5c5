//! The sections of a report.

pub(crate) mod compare;
mod cost;
mod course;
mod quality;
mod sample;
mod setup;

use crate::Run;
use crate::document::Document;
use crate::energy::Energy;

/// All sections about one run.
pub(crate) fn add_all(document: &mut Document, run: &Run, baseline: Option<&Run>, energy: &Energy, prefix: &str) {
    setup::result(document.section(format!("{prefix}Result")), run);
    course::curves(document.section(format!("{prefix}Training")), run);
    course::blocks(document.section(format!("{prefix}Blocks")), run);
    quality::classes(document.section(format!("{prefix}Classes")), run);
    quality::confusion(document.section(format!("{prefix}Confusion")), run);
    quality::exits(document.section(format!("{prefix}Exits")), run);
    if let Some(samples) = &run.samples {
        sample::exits(document.section(format!("{prefix}Samples")), run, samples);
    }
    cost::inference(document.section(format!("{prefix}Cost of inference")), run, energy);
    cost::training(document.section(format!("{prefix}Cost of training")), run, baseline);
    setup::specification(document.section(format!("{prefix}Specification")), run);
}

/// What training a run took in all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Training {
    /// Samples trained on.
    pub(crate) samples: f64,
    /// Seconds of training rounds.
    pub(crate) seconds: f64,
    /// Largest live tensor memory of a step.
    pub(crate) peak_bytes: u64,
}

impl Training {
    pub(crate) fn of(run: &Run) -> Self {
        let blocks = &run.summary.blocks;
        let planned = |block: u32| {
            let own = blocks.iter().filter(|own| own.block == block);
            own.map(|own| own.train_samples as f64 * f64::from(own.epochs)).sum::<f64>()
        };
        Self {
            samples: blocks
                .iter()
                .map(|block| samples_of(run, block.block).unwrap_or_else(|| planned(block.block)))
                .sum(),
            seconds: blocks.iter().map(|block| block.train_seconds).sum(),
            peak_bytes: blocks.iter().map(|block| block.peak_memory_bytes).max().unwrap_or(0),
        }
    }
}

/// Samples that a block was trained on, by the history.
fn samples_of(run: &Run, block: u32) -> Option<f64> {
    let own = run.history.iter().filter(|line| line.block == block).map(|line| line.samples as f64);
    Some(own.sum::<f64>()).filter(|samples| *samples > 0.0)
}
