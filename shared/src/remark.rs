//! What a reader of a run's figures would misread without being told.

use crate::spec::RunSpec;
use crate::summary::{BlockSummary, Summary};

/// Firing rate below which a block passes on next to nothing.
const SILENT: f64 = 1e-4;

/// How much above guessing an accuracy has to be to count as learned, as a part of guessing.
const LEARNED: f64 = 1.1;

/// Notes on the figures of a run of `planned` blocks over `classes` classes. `relative_compute` is that of the chosen exits on
/// validation data, as a fraction of the full network's.
pub fn notes(spec: &RunSpec, summary: &Summary, planned: usize, classes: usize, relative_compute: Option<f64>) -> Vec<String> {
    let silent = summary.blocks.iter().filter_map(silence);
    let unlearned = guessing(summary, classes);
    let dropped = (summary.blocks.len() < planned).then(|| {
        let last = summary.blocks.len();
        format!(
            "{last} of {planned} blocks were trained: after block {last} fewer than two classes were hard, so there was nothing left to learn (hard_classes)"
        )
    });
    let budget = spec.exit.compute_budget.zip(relative_compute).filter(|(budget, reached)| reached > budget);
    let above = budget.map(|(budget, reached)| {
        format!(
            "exit.compute_budget = {budget} cannot be kept: the cheapest exits take {reached:.3} of the full network's compute, and these are used"
        )
    });
    silent.chain(unlearned).chain(dropped).chain(above).collect()
}

/// A block that does not fire.
fn silence(block: &BlockSummary) -> Option<String> {
    let rate = block.firing_rate;
    (rate < SILENT).then(|| {
        let how = if rate > 0.0 { format!("hardly fires ({rate:.1e} of its neurons a step)") } else { "never fires".into() };
        format!(
            "block {} {how}: nothing can be learned from its spikes; lower neuron.threshold, or train longer or at another train.learning_rate",
            block.block
        )
    })
}

/// Answers that are no better than guessing.
fn guessing(summary: &Summary, classes: usize) -> Option<String> {
    let (accuracy, chance) = (summary.accuracy.test, 1.0 / classes.max(1) as f64);
    (accuracy <= LEARNED * chance).then(|| {
        format!(
            "the test accuracy of {:.1} % is no better than guessing among {classes} classes: the network has not learned",
            100.0 * accuracy
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Accuracy;

    fn summary(firing_rate: f64, test: f64) -> Summary {
        let block = BlockSummary { block: 1, firing_rate, ..BlockSummary::default() };
        Summary { blocks: vec![block], accuracy: Accuracy { test, validation: test }, ..Summary::default() }
    }

    #[test]
    fn what_would_be_misread_is_said_and_nothing_else() {
        let mut spec = RunSpec::default();
        let said = |spec: &RunSpec, summary: &Summary, planned| notes(spec, summary, planned, 10, Some(0.4));
        assert!(said(&spec, &summary(0.1, 0.8), 1).is_empty());
        let dead = said(&spec, &summary(0.0, 0.1), 1);
        assert!(dead[0].contains("block 1 never fires") && dead[0].contains("neuron.threshold"), "{dead:?}");
        assert!(dead[1].contains("guessing among 10 classes"), "{dead:?}");
        assert!(said(&spec, &summary(2e-5, 0.8), 1)[0].contains("hardly fires (2.0e-5"));
        assert!(said(&spec, &summary(0.1, 0.8), 3)[0].contains("1 of 3 blocks were trained"));
        spec.exit.compute_budget = Some(0.3);
        let above = said(&spec, &summary(0.1, 0.8), 1);
        assert!(above[0].contains("exit.compute_budget = 0.3 cannot be kept") && above[0].contains("0.400"), "{above:?}");
        spec.exit.compute_budget = Some(0.5);
        assert!(said(&spec, &summary(0.1, 0.8), 1).is_empty());
    }
}
