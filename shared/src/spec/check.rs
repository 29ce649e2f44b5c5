//! Values that parse but cannot work.

use super::network::ResolveError;
use super::train::MAX_REPLICAS;
use super::{EncodingKind, HardClassPolicy, RunSpec, TrainSpec};
use crate::geometry::{BlockGeometry, ImageShape, ShapeError, trace};
use crate::rounds::batch_count;

/// A specification that cannot be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// A value outside its range.
    #[error("`{key}` is {value}; {expected}")]
    Range {
        /// The key's dotted path.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The network does not resolve.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A layer cannot be built.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// More replicas than batches.
    #[error(
        "`train.replicas` is {replicas}, but an epoch of {samples} samples has {batches} batches of `train.batch` = {batch}, and every replica needs one; use at most {batches} replicas, or a smaller batch"
    )]
    Replicas {
        /// Replicas asked for.
        replicas: u32,
        /// Batches of an epoch.
        batches: usize,
        /// Training samples.
        samples: usize,
        /// Samples of a batch.
        batch: usize,
    },
}

/// Refuses values outside their ranges, whatever the data.
///
/// # Errors
/// Names the first key that is out of range.
pub fn check(spec: &RunSpec) -> Result<(), CheckError> {
    let train = &spec.train;
    let rules: [(&'static str, String, bool, &'static str); 26] = [
        (
            "data.validation_fraction",
            spec.data.validation_fraction.to_string(),
            spec.data.validation_fraction > 0.0 && spec.data.validation_fraction <= 0.5,
            "it must lie in (0, 0.5]",
        ),
        ("data.views", spec.data.views.to_string(), (1..=1024).contains(&spec.data.views), "it must lie in 1..=1024"),
        ("neuron.leak", spec.neuron.leak.to_string(), (0.0..=1.0).contains(&spec.neuron.leak), "it must lie in [0, 1]"),
        (
            "neuron.threshold",
            spec.neuron.threshold.to_string(),
            positive(f64::from(spec.neuron.threshold)),
            "it must be a number above 0",
        ),
        (
            "neuron.surrogate_width",
            spec.neuron.surrogate_width.to_string(),
            positive(f64::from(spec.neuron.surrogate_width)),
            "it must be a number above 0",
        ),
        ("encoding.steps", spec.encoding.steps.to_string(), (1..=4096).contains(&spec.encoding.steps), "it must lie in 1..=4096"),
        ("train.epochs", train.epochs.to_string(), train.epochs >= 1, "it must be at least 1"),
        ("train.batch", train.batch.to_string(), train.batch >= 1, "it must be at least 1"),
        (
            "train.micro_batch",
            train.micro_batch.to_string(),
            train.micro_batch <= train.batch,
            "it must be at most train.batch; 0 means train.batch",
        ),
        ("train.learning_rate", train.learning_rate.to_string(), positive(train.learning_rate), "it must be a number above 0"),
        (
            "train.warmup_epochs",
            train.warmup_epochs.to_string(),
            train.warmup_epochs <= train.epochs,
            "it must be at most train.epochs",
        ),
        ("train.momentum", train.momentum.to_string(), (0.0..1.0).contains(&train.momentum), "it must lie in [0, 1)"),
        (
            "train.weight_decay",
            train.weight_decay.to_string(),
            not_negative(train.weight_decay),
            "it must be a number of at least 0",
        ),
        (
            "train.label_smoothing",
            train.label_smoothing.to_string(),
            (0.0..1.0).contains(&train.label_smoothing),
            "it must lie in [0, 1)",
        ),
        (
            "train.gradient_clip",
            train.gradient_clip.to_string(),
            not_negative(train.gradient_clip),
            "it must be a number of at least 0; 0 switches clipping off",
        ),
        ("train.replicas", train.replicas.to_string(), (1..=MAX_REPLICAS).contains(&train.replicas), "it must lie in 1..=1024"),
        (
            "train.outer_learning_rate",
            train.outer_learning_rate.to_string(),
            positive(train.outer_learning_rate),
            "it must be a number above 0",
        ),
        (
            "train.outer_momentum",
            train.outer_momentum.to_string(),
            (0.0..1.0).contains(&train.outer_momentum),
            "it must lie in [0, 1)",
        ),
        (
            "hard_classes.threshold",
            spec.hard_classes.threshold.to_string(),
            (0.0..=1.0).contains(&spec.hard_classes.threshold),
            "it must lie in [0, 1]",
        ),
        (
            "hard_classes.k",
            spec.hard_classes.k.to_string(),
            spec.hard_classes.policy != HardClassPolicy::BottomK || spec.hard_classes.k >= 1,
            "it must be at least 1",
        ),
        (
            "hard_classes.fraction",
            spec.hard_classes.fraction.to_string(),
            spec.hard_classes.fraction > 0.0 && spec.hard_classes.fraction <= 1.0,
            "it must lie in (0, 1]",
        ),
        ("detector.epochs", spec.detector.epochs.to_string(), spec.detector.epochs >= 1, "it must be at least 1"),
        (
            "exit.max_accuracy_drop",
            spec.exit.max_accuracy_drop.to_string(),
            (0.0..=1.0).contains(&spec.exit.max_accuracy_drop),
            "it must lie in [0, 1]",
        ),
        (
            "exit.compute_budget",
            format!("{:?}", spec.exit.compute_budget),
            spec.exit.compute_budget.is_none_or(positive),
            "it must be a number above 0, as a fraction of the full network's compute",
        ),
        ("run.priority", spec.run.priority.to_string(), spec.run.priority >= 1, "it must be at least 1"),
        (
            "data.dir",
            format!("{:?}", spec.data.dir),
            spec.data.dir.is_none() || spec.data.name.is_none(),
            "give either data.dir or data.name, not both",
        ),
    ];
    if let Some((key, value, _, expected)) = rules.into_iter().find(|(_, _, holds, _)| !holds) {
        return Err(CheckError::Range { key, value, expected });
    }
    Ok(())
}

fn positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn not_negative(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

/// Refuses more replicas than the first block has batches in an epoch.
///
/// # Errors
/// Says how many there may be.
pub fn check_replicas(train: &TrainSpec, samples: usize) -> Result<(), CheckError> {
    let (replicas, batches) = (train.replicas, batch_count(samples, train.batch));
    if replicas > 1 && replicas as usize > batches {
        return Err(CheckError::Replicas { replicas, batches, samples, batch: train.batch });
    }
    Ok(())
}

/// The shapes of the spec's network on images of one shape, after [`check`].
///
/// # Errors
/// Names the key, the preset or the layer that cannot work.
pub fn check_on(spec: &RunSpec, image: ImageShape) -> Result<Vec<BlockGeometry>, CheckError> {
    check(spec)?;
    let network = spec.network.resolve()?;
    let network = if spec.run.end_to_end { network.joined() } else { network };
    Ok(trace(&network, image)?)
}

/// Whether the first layer sees numbers rather than spikes.
pub fn input_is_analogue(kind: EncodingKind) -> bool {
    kind == EncodingKind::Direct
}

#[cfg(test)]
mod tests {
    use super::super::{Override, parse};
    use super::*;

    #[test]
    fn the_default_spec_passes_and_each_wrong_value_names_its_key() {
        assert_eq!(check(&RunSpec::default()), Ok(()));
        for set in [
            "train.epochs=0",
            "neuron.leak=2.0",
            "neuron.threshold=nan",
            "data.validation_fraction=0",
            "train.replicas=0",
            "train.replicas=1025",
            "train.outer_learning_rate=0",
            "train.outer_momentum=1",
            "exit.compute_budget=-1",
        ] {
            let spec = parse("", &[Override::parse(set).expect("a pair")]);
            let Ok(spec) = spec else { continue };
            let key = set.split('=').next().expect("a key");
            assert!(check(&spec).expect_err(set).to_string().contains(key), "{set}");
        }
    }
}
