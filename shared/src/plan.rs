//! From what is asked to what will be done: pure, so any process derives the same plan.

use crate::spec::RunSpec;
use crate::spec::check::{CheckError, check_on, check_replicas};
use crate::split::Split;
use crate::{Digest, ImageShape};
use serde::{Deserialize, Serialize};

/// Version of everything that changes a number in the result. It is part of every run's identity and of cache keys.
pub const ARITHMETIC_VERSION: u32 = 6;

/// The backend of a submission whose first worker decides.
pub const ANY_BACKEND: &str = "any";

/// Backends that a worker may have.
pub const BACKENDS: [&str; 3] = ["cpu", "cuda", "wgpu"];

/// Samples of a shard, except the last.
pub const SHARD_SAMPLES: usize = 1024;

/// What the plan has to know about a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetInfo {
    /// Name for people.
    pub name: String,
    /// Digest of all images and labels.
    pub digest: Digest,
    /// Class names by global label.
    pub classes: Vec<String>,
    /// Shape of every image.
    pub shape: ImageShape,
    /// Training samples, without those held out.
    pub train: usize,
    /// Held-out training samples.
    pub validation: usize,
    /// Test samples.
    pub test: usize,
}

/// A run as it was submitted. Its digest is the run's identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// What was asked.
    pub spec: RunSpec,
    /// On which data.
    pub dataset: DatasetInfo,
    /// [`ARITHMETIC_VERSION`] of the submitter.
    pub arithmetic: u32,
    /// Backend that the run's workers must have (`cpu`, `cuda`, `wgpu`), or [`ANY_BACKEND`].
    pub backend: String,
}

impl Submission {
    /// The run's id: the same submission is the same run. The place of the data on disk is not part of it.
    pub fn run_id(&self) -> String {
        let mut identity = self.clone();
        identity.spec.data.dir = None;
        identity.spec.data.name = None;
        format!("r{}", Digest::of_json(&identity).short(12))
    }
}

/// Samples of one shard of a split of some samples.
pub fn shard_samples(samples: usize, shard: u32) -> usize {
    let before = (shard as usize).saturating_mul(SHARD_SAMPLES);
    samples.saturating_sub(before).min(SHARD_SAMPLES)
}

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The run's id.
    pub run: String,
    /// Number of blocks; 1 end to end.
    pub blocks: u32,
    /// Number of classes.
    pub classes: usize,
    /// Augmented views in the cache.
    pub views: u32,
    /// Shards of the training split.
    pub train_shards: u32,
    /// Shards of the validation split.
    pub validation_shards: u32,
    /// Shards of the test split.
    pub test_shards: u32,
    /// Epochs without improvement after which training stops; 0 never.
    pub patience: u32,
}

/// One part of an export stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportPart {
    /// Split of the shard.
    pub split: Split,
    /// Augmented view; 0 for validation data.
    pub view: u32,
    /// The shard.
    pub shard: u32,
}

impl Plan {
    /// The plan of a submission.
    ///
    /// # Errors
    /// When the spec cannot work on this data set.
    pub fn new(submission: &Submission) -> Result<Self, CheckError> {
        let dataset = &submission.dataset;
        let blocks = check_on(&submission.spec, dataset.shape)?.len();
        check_replicas(&submission.spec.train, dataset.train)?;
        let shards = |samples: usize| u32::try_from(samples.div_ceil(SHARD_SAMPLES)).unwrap_or(u32::MAX);
        Ok(Self {
            run: submission.run_id(),
            blocks: u32::try_from(blocks).unwrap_or(u32::MAX),
            classes: dataset.classes.len(),
            views: if submission.spec.data.augment.is_empty() { 1 } else { submission.spec.data.views },
            train_shards: shards(dataset.train),
            validation_shards: shards(dataset.validation),
            test_shards: shards(dataset.test),
            patience: submission.spec.train.patience,
        })
    }

    /// Number of parts of an export stage.
    pub fn export_count(&self) -> u32 {
        self.train_shards.saturating_mul(self.views).saturating_add(self.validation_shards)
    }

    /// A part of an export stage: view 0 of the training shards, validation, then the other views.
    pub fn export_part(&self, part: u32) -> ExportPart {
        let (train, validation) = (self.train_shards, self.validation_shards);
        match part.checked_sub(train) {
            None => ExportPart { split: Split::Train, view: 0, shard: part },
            Some(shard) if shard < validation => ExportPart { split: Split::Validation, view: 0, shard },
            Some(later) => {
                let (later, shards) = (later - validation, train.max(1));
                ExportPart { split: Split::Train, view: 1 + later / shards, shard: later % shards }
            }
        }
    }

    /// The number of a part: [`export_part`](Self::export_part) the other way.
    pub fn export_index(&self, part: ExportPart) -> u32 {
        match (part.split, part.view) {
            (Split::Train, 0) => part.shard,
            (Split::Train, view) => self.train_shards.saturating_mul(view) + self.validation_shards + part.shard,
            _ => self.train_shards + part.shard,
        }
    }

    /// Parts of the evaluate stage: validation shards, then test shards.
    pub fn evaluate_parts(&self) -> Vec<(Split, u32)> {
        let parts = |split, shards| (0..shards).map(move |shard| (split, shard));
        parts(Split::Validation, self.validation_shards).chain(parts(Split::Test, self.test_shards)).collect()
    }

    /// The view that an epoch trains on.
    pub fn view(&self, epoch: u32) -> u32 {
        epoch % self.views.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use rand::Rng;

    fn submission() -> Submission {
        let classes = (0..10).map(|class| class.to_string()).collect();
        let dataset = DatasetInfo {
            name: "d".into(),
            digest: Digest::of(b""),
            classes,
            shape: ImageShape::new(1, 28, 28),
            train: 2049,
            validation: 100,
            test: 1024,
        };
        Submission { spec: RunSpec::default(), dataset, arithmetic: ARITHMETIC_VERSION, backend: "cpu".into() }
    }

    #[test]
    fn shards_cover_the_data_and_parts_are_in_order() {
        let mut submission = submission();
        submission.spec.data.augment = vec![crate::spec::Augment::Flip];
        submission.spec.data.views = 2;
        let plan = Plan::new(&submission).expect("fits");
        assert_eq!((plan.blocks, plan.train_shards, plan.validation_shards, plan.test_shards), (3, 3, 1, 1));
        let parts: Vec<ExportPart> = (0..plan.export_count()).map(|part| plan.export_part(part)).collect();
        assert_eq!(parts.len(), 7);
        assert!((0..).zip(&parts).all(|(number, part)| plan.export_index(*part) == number));
        assert_eq!((parts[3].split, parts[4].view, parts[4].shard), (Split::Validation, 1, 0));
        assert_eq!([0, 1, 2, 3].map(|shard| shard_samples(2049, shard)), [1024, 1024, 1, 0]);
    }

    #[test]
    fn a_submission_and_its_id_survive_json_to_the_last_bit() {
        let mut submission = submission();
        for number in 1..2_000_u64 {
            // Every bit pattern of the fraction is as likely as another.
            let bits = seed::rng(number, "fraction", &[]).next_u64() >> 12;
            submission.spec.hard_classes.fraction = f64::from_bits(1.0_f64.to_bits() | bits) - 1.0;
            let text = serde_json::to_vec(&submission).expect("plain data");
            let read: Submission = serde_json::from_slice(&text).expect("the same");
            assert_eq!((&read, read.run_id()), (&submission, submission.run_id()));
        }
    }

    #[test]
    fn the_run_id_follows_the_content_not_the_place() {
        let (mut a, b) = (submission(), submission());
        a.spec.data.dir = Some("/elsewhere".into());
        assert_eq!(a.run_id(), b.run_id());
        a.spec.run.seed = 2;
        assert_ne!(a.run_id(), b.run_id());
        let mut outer = b.clone();
        outer.spec.train.outer_momentum = 0.5;
        assert_ne!(outer.run_id(), b.run_id());
    }

    #[test]
    fn every_replica_needs_a_batch() {
        let mut submission = submission();
        submission.spec.train.replicas = 32;
        assert!(Plan::new(&submission).is_ok(), "2049 samples are 32 batches of 64, one with a sample more");
        submission.spec.train.replicas = 33;
        let refused = Plan::new(&submission).expect_err("too many").to_string();
        assert!(refused.contains("`train.replicas` is 33") && refused.contains("at most 32"), "{refused}");
    }
}
