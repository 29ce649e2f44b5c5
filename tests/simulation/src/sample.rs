//! How many samples there are: the simulated data set's shards.

use bloctrain_shared::label::LabelMap;
use bloctrain_shared::plan::{SHARD_SAMPLES, Submission};
use bloctrain_shared::task::Split;

/// Samples of every shard of a split that belong to some classes; sample `i` has class `i % classes`.
pub(crate) fn sizes(submission: &Submission, split: Split, classes: &LabelMap) -> Vec<usize> {
    let dataset = &submission.dataset;
    let samples = match split {
        Split::Train => dataset.train,
        Split::Validation => dataset.validation,
        Split::Test => dataset.test,
    };
    let all = dataset.classes.len();
    let is_known = |sample: &usize| u16::try_from(sample % all).is_ok_and(|class| classes.contains(class));
    let shard = |first: usize| (first..(first + SHARD_SAMPLES).min(samples)).filter(is_known).count();
    (0..samples).step_by(SHARD_SAMPLES).map(shard).collect()
}
