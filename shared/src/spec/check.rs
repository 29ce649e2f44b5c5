//! Values that parse but cannot work.

use super::field::FIELDS;
use super::resolve::ResolveError;
use super::{EncodingKind, RunSpec, TrainSpec};
use crate::ImageShape;
use crate::graph::{Graph, GraphError, ShapeError};
use crate::rounds::batch_count;

/// A specification that cannot be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// A value outside its range.
    #[error("`{key}` is {value}; it must {expected}")]
    Range {
        /// The key's dotted path.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
    /// A field that was written and that nothing reads.
    #[error("`{key}` is set, but nothing reads it here: it counts {when}; leave it out, or change that")]
    Unread {
        /// The key's dotted path.
        key: &'static str,
        /// When it would count.
        when: String,
    },
    /// The network does not resolve.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A layer cannot be built.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// More replicas than batches.
    #[error(
        "`train.replicas` is {replicas}, but an epoch of {samples} samples has {batches} batches of `train.batch` = \
        {batch}, and every replica needs one; use at most {batches} replicas, or a smaller batch"
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

impl From<GraphError> for CheckError {
    fn from(error: GraphError) -> Self {
        match error {
            GraphError::Resolve(error) => Self::Resolve(error),
            GraphError::Shape(error) => Self::Shape(error),
        }
    }
}

/// Refuses values outside their ranges, whatever the data.
///
/// # Errors
/// Names the first key that is out of range.
pub fn check(spec: &RunSpec) -> Result<(), CheckError> {
    let Some(wrong) = FIELDS.iter().find(|field| !(field.range.holds)(spec)) else { return Ok(()) };
    let value = spec.value(wrong.path).map_or_else(String::new, |value| value.to_string());
    Err(CheckError::Range { key: wrong.path, value, expected: wrong.range.text })
}

/// Refuses more replicas than the first block has batches in an epoch.
///
/// # Errors
/// Says how many there may be.
pub fn check_replicas(train: &TrainSpec, samples: usize) -> Result<(), CheckError> {
    let (replicas, batches) = (train.replicas, batch_count(samples, train));
    if replicas > 1 && replicas as usize > batches {
        return Err(CheckError::Replicas { replicas, batches, samples, batch: train.batch });
    }
    Ok(())
}

/// The spec's network on images of one shape, after [`check`].
///
/// # Errors
/// Names the key, the preset or the layer that cannot work.
pub fn check_on(spec: &RunSpec, image: ImageShape) -> Result<Graph, CheckError> {
    check(spec)?;
    Ok(Graph::new(spec, image)?)
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
            "data.cutout_size=0",
            "train.replicas=0",
            "train.replicas=1025",
            "train.outer_learning_rate=0",
            "train.outer_momentum=1",
            "exit.compute_budget=-1",
            "exit.min_share=2",
            "hard_inputs.fraction=0",
            "hard_inputs.floor=-0.1",
        ] {
            let spec = parse("", &[Override::parse(set).expect("a pair")]);
            let Ok(spec) = spec else { continue };
            let key = set.split('=').next().expect("a key");
            assert!(check(&spec).expect_err(set).to_string().contains(key), "{set}");
        }
        for (set, key) in [("hard_inputs.floor=0.7", "hard_inputs.floor"), ("detector.policy=mass", "detector.policy")]
        {
            let sets = ["hard_inputs.fraction=0.6", set].map(|set| Override::parse(set).expect("a pair"));
            let refused = check(&parse("", &sets).expect("a spec")).expect_err(set).to_string();
            assert!(refused.contains(&format!("`{key}`")) && refused.contains("hard_inputs.fraction"), "{refused}");
        }
    }
}
