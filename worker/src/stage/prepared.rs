//! A data set made ready for a run: its validation split held out and everything cut into shards.

use crate::data::{Dataset, Split as Samples, split};
use bloctrain_shared::Digest;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::plan::{DatasetInfo, SHARD_SAMPLES};
use bloctrain_shared::spec::RunSpec;
use bloctrain_shared::task::Split;

/// A data set with its shards. What is in a shard follows from the data, the validation fraction and the seed alone.
#[derive(Debug)]
pub struct Prepared {
    /// Images and labels.
    pub dataset: Dataset,
    train: Vec<Vec<u32>>,
    validation: Vec<Vec<u32>>,
    test: Vec<Vec<u32>>,
}

impl Prepared {
    /// Holds out validation data and cuts all splits into shards.
    pub fn new(dataset: Dataset, spec: &RunSpec) -> Self {
        let seed = spec.run.seed;
        let (train, validation) = split::hold_out(dataset.train.labels(), spec.data.validation_fraction, seed);
        let test: Vec<u32> = (0..dataset.test.len()).map(|index| u32::try_from(index).unwrap_or(u32::MAX)).collect();
        Self {
            train: split::shards(&train, SHARD_SAMPLES, seed),
            validation: validation.chunks(SHARD_SAMPLES).map(<[u32]>::to_vec).collect(),
            test: test.chunks(SHARD_SAMPLES).map(<[u32]>::to_vec).collect(),
            dataset,
        }
    }

    /// What the plan has to know.
    pub fn info(&self) -> DatasetInfo {
        let count = |shards: &[Vec<u32>]| shards.iter().map(Vec::len).sum();
        DatasetInfo {
            name: self.dataset.name.clone(),
            digest: Digest::from_bytes(self.dataset.digest),
            classes: self.dataset.classes.clone(),
            shape: self.dataset.shape,
            train: count(&self.train),
            validation: count(&self.validation),
            test: count(&self.test),
        }
    }

    /// The images that a split's sample indices refer to: validation samples are held-out training images.
    pub fn samples(&self, split: Split) -> &Samples {
        match split {
            Split::Train | Split::Validation => &self.dataset.train,
            Split::Test => &self.dataset.test,
        }
    }

    /// Sample indices of every shard of a split.
    pub fn shards(&self, split: Split) -> &[Vec<u32>] {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }

    /// The same, with only the samples of some classes, in the same order.
    pub fn shards_of(&self, split: Split, classes: &LabelMap) -> Vec<Vec<u32>> {
        let samples = self.samples(split);
        let known = |id: &&u32| classes.contains(samples.label(**id as usize));
        self.shards(split).iter().map(|shard| shard.iter().filter(known).copied().collect()).collect()
    }
}
