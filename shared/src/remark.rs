//! What a reader of a run's figures would misread without being told.

use crate::curve::CurveFigures;
use crate::spec::RunSpec;
use crate::summary::{BlockSummary, Summary};

/// Firing rate below which a block passes on next to nothing.
const SILENT: f64 = 1e-4;

/// By how much figures may differ because they were added in another order.
const ROUNDING: f64 = 1e-9;

/// How much above guessing an accuracy has to be to count as learned, as a part of guessing.
const LEARNED: f64 = 1.1;

/// Notes on the figures of a run of `planned` blocks over `classes` classes. `exits` is what the chosen exits do on
/// validation data.
pub fn notes(
    spec: &RunSpec,
    summary: &Summary,
    planned: usize,
    classes: usize,
    exits: Option<&CurveFigures>,
) -> Vec<String> {
    let silent = summary.blocks.iter().filter_map(silence);
    let unlearned = guessing(summary, classes);
    let dropped = (summary.blocks.len() < planned).then(|| {
        let last = summary.blocks.len();
        format!(
            "{last} of {planned} blocks were trained: after block {last} fewer than two classes were hard, so there \
            was nothing left to learn (hard_classes)"
        )
    });
    let exits = exits.into_iter().flat_map(|exits| [above_budget(spec, exits), below_share(spec, exits)]);
    silent.chain(unlearned).chain(dropped).chain(exits.flatten()).collect()
}

/// Exits that take more compute than they may.
fn above_budget(spec: &RunSpec, exits: &CurveFigures) -> Option<String> {
    let reached = exits.relative_compute;
    let budget = spec.exit.compute_budget.filter(|budget| reached > budget + ROUNDING)?;
    Some(format!(
        "exit.compute_budget = {budget} cannot be kept: the cheapest exits take {reached:.3} of the full network's \
        compute, and these are used"
    ))
}

/// A block that answers less than every block should.
fn below_share(spec: &RunSpec, exits: &CurveFigures) -> Option<String> {
    let least = exits.exit_fraction.iter().copied().reduce(f64::min)?;
    let wanted = spec.exit.min_share;
    let within = if spec.exit.compute_budget.is_some() { " within exit.compute_budget" } else { "" };
    (least < wanted - ROUNDING).then(|| {
        format!(
            "some block answers fewer inputs than exit.min_share = {wanted} says: no setting of the exits was found \
            that lets each have its share{within}"
        )
    })
}

/// A block that does not fire.
fn silence(block: &BlockSummary) -> Option<String> {
    let rate = block.firing_rate;
    (rate < SILENT).then(|| {
        let how =
            if rate > 0.0 { format!("hardly fires ({rate:.1e} of its neurons a step)") } else { "never fires".into() };
        format!(
            "block {} {how}: nothing can be learned from its spikes; lower neuron.threshold, or train longer or at \
            another train.learning_rate",
            block.block
        )
    })
}

/// Answers that are no better than guessing.
fn guessing(summary: &Summary, classes: usize) -> Option<String> {
    let (accuracy, chance) = (summary.accuracy.test, 1.0 / classes.max(1) as f64);
    (accuracy <= LEARNED * chance).then(|| {
        format!(
            "the test accuracy of {:.1} % is no better than guessing among {classes} classes: the network has not \
            learned",
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
        let exits = CurveFigures {
            accuracy: 0.8,
            relative_compute: 0.4,
            exit_fraction: vec![0.9, 0.1],
            calibration_error: 0.0,
        };
        let said = |spec: &RunSpec, summary: &Summary, planned| notes(spec, summary, planned, 10, Some(&exits));
        assert!(said(&spec, &summary(0.1, 0.8), 1).is_empty());
        let dead = said(&spec, &summary(0.0, 0.1), 1);
        assert!(dead[0].contains("block 1 never fires") && dead[0].contains("neuron.threshold"), "{dead:?}");
        assert!(dead[1].contains("guessing among 10 classes"), "{dead:?}");
        assert!(said(&spec, &summary(2e-5, 0.8), 1)[0].contains("hardly fires (2.0e-5"));
        assert!(said(&spec, &summary(0.1, 0.8), 3)[0].contains("1 of 3 blocks were trained"));
        spec.exit.compute_budget = Some(0.3);
        let above = said(&spec, &summary(0.1, 0.8), 1);
        assert!(
            above[0].contains("exit.compute_budget = 0.3 cannot be kept") && above[0].contains("0.400"),
            "{above:?}"
        );
        spec.exit.compute_budget = Some(0.5);
        assert!(said(&spec, &summary(0.1, 0.8), 1).is_empty());
        spec.exit.min_share = 0.1;
        assert!(said(&spec, &summary(0.1, 0.8), 1).is_empty());
        spec.exit.min_share = 0.2;
        assert!(said(&spec, &summary(0.1, 0.8), 1)[0].contains("exit.min_share = 0.2 says"));
    }
}
