//! A data set made ready for a run: its validation split held out and everything cut into shards.

use super::io::Io;
use bloctrain_data::{DataError, Dataset, Opened, Options, Split as Samples, split};
use bloctrain_data::{embedded, stored};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::plan::{DatasetInfo, SHARD_SAMPLES, Submission};
use bloctrain_shared::spec::RunSpec;
use bloctrain_shared::task::{Failure, Split};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

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
            digest: self.dataset.digest,
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

/// Reads the data set that a specification names.
///
/// # Errors
/// When it cannot be read.
pub fn open(spec: &RunSpec) -> Result<Opened, DataError> {
    let options = Options { size: spec.data.size };
    match &spec.data.dir {
        Some(folder) => bloctrain_data::open(Path::new(folder), &options),
        None => bloctrain_data::by_name(spec.data.name.as_deref().unwrap_or(embedded::NAME), &options),
    }
}

/// Data sets that are kept in memory.
const RESIDENT: usize = 2;

/// Data sets in memory, shared by the workers of a process.
#[derive(Debug, Clone, Default)]
pub struct Datasets {
    prepared: Arc<Mutex<Vec<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    info: DatasetInfo,
    seed: u64,
    data: Arc<Prepared>,
}

impl Datasets {
    /// Adds a data set that is already there.
    pub fn add(&self, prepared: Arc<Prepared>, spec: &RunSpec) {
        let entry = Entry { info: prepared.info(), seed: spec.run.seed, data: prepared };
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// The data set of a submission, read at first use: from where the specification says, if it is the one that was
    /// submitted, else from the store.
    ///
    /// # Errors
    /// [`Failure::Unable`] when this worker cannot get it.
    pub fn prepare(&self, submission: &Submission, io: &Io) -> Result<Arc<Prepared>, Failure> {
        let (info, seed) = (&submission.dataset, submission.spec.run.seed);
        let mut entries = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.iter().find(|entry| entry.info == *info && entry.seed == seed) {
            return Ok(Arc::clone(&entry.data));
        }
        let wanted = |dataset: Dataset| {
            let data = Arc::new(Prepared::new(dataset, &submission.spec));
            let fits = |found: &DatasetInfo| DatasetInfo { name: info.name.clone(), ..found.clone() } == *info;
            fits(&data.info()).then_some(data)
        };
        let local = open(&submission.spec);
        let data = match local.as_ref().ok().map(|opened| opened.dataset.clone()).and_then(wanted) {
            Some(data) => data,
            None => {
                let stored = io.block_on(stored::download(info.digest, io.artefacts()))?.and_then(wanted);
                stored.ok_or_else(|| lacking(submission, local.err()))?
            }
        };
        if entries.len() >= RESIDENT {
            entries.remove(0);
        }
        entries.push(Entry { info: info.clone(), seed, data: Arc::clone(&data) });
        Ok(data)
    }
}

/// Why a worker cannot take part: where it looked, and what it found.
fn lacking(submission: &Submission, error: Option<DataError>) -> Failure {
    let place = submission.spec.data.dir.as_deref().unwrap_or(embedded::NAME);
    let found = error.map_or_else(|| "those there are others".to_owned(), |error| error.to_string());
    let message = format!(
        "the data of the run ({}) are neither in {place} on this worker ({found}) nor in the store; submit the run \
        again with the data at hand",
        submission.dataset.name
    );
    Failure::Unable { message }
}
