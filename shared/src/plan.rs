//! From what is asked to what will be done: pure, so any process derives the same plan.

use crate::spec::RunSpec;
use crate::spec::check::{CheckError, check_on, check_replicas};
use crate::spec::field::Reach;
use crate::spec::identity::Identity;
use crate::split::Split;
use crate::{Digest, ImageShape};
use serde::{Deserialize, Serialize};

/// Version of everything that changes a number in the result. It is part of every run's identity and of cache keys.
pub const ARITHMETIC_VERSION: u32 = 8;

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

/// What makes submissions the same.
#[derive(Serialize)]
struct Same<'a> {
    spec: Identity,
    dataset: &'a DatasetInfo,
    arithmetic: u32,
    backend: &'a str,
}

impl Submission {
    /// The run's id: the same submission is the same run, however its specification is written
    /// ([`identity`](crate::spec::identity)). The place of the data on disk is not part of it.
    pub fn run_id(&self) -> String {
        let Self { spec, dataset, arithmetic, backend } = self;
        let same = Same { spec: spec.identity(Reach::Label), dataset, arithmetic: *arithmetic, backend };
        format!("r{}", Digest::of_json(&same).short(12))
    }

    /// Everything that the training of its first block depends on, and of the others apart from what the blocks before
    /// them made: runs with the same one can share blocks. Backends are compared where a run came to have one.
    pub fn chain(&self) -> Digest {
        let Self { spec, dataset, arithmetic, backend: _ } = self;
        let dataset = DatasetInfo { name: String::new(), ..dataset.clone() };
        let spec = spec.identity(Reach::Training);
        Digest::of_json(&Same { spec, dataset: &dataset, arithmetic: *arithmetic, backend: "" })
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
    /// Augmented views in the cache; 0 where every epoch has a view of its own, which is not cached.
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
        let blocks = check_on(&submission.spec, dataset.shape)?.blocks.len();
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

    /// A plan of nothing, for a submission that cannot be planned.
    pub fn none(submission: &Submission) -> Self {
        let (run, classes) = (submission.run_id(), submission.dataset.classes.len());
        let (blocks, views, patience) = (1, 1, submission.spec.train.patience);
        Self { run, blocks, classes, views, train_shards: 0, validation_shards: 0, test_shards: 0, patience }
    }

    /// Number of parts of an export stage.
    pub fn export_count(&self) -> u32 {
        self.train_shards.saturating_mul(self.views).saturating_add(self.validation_shards)
    }

    /// A part of an export stage: view 0 of the training shards, validation, then the other views.
    pub fn export_part(&self, part: u32) -> ExportPart {
        let (train, validation) = (self.first_view(), self.validation_shards);
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
            _ => self.first_view() + part.shard,
        }
    }

    /// Parts of the first training view.
    fn first_view(&self) -> u32 {
        if self.views == 0 { 0 } else { self.train_shards }
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
    use crate::spec::field::{EXAMPLES, Example, Field};
    use crate::spec::{Override, parse};
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
        submission.spec.data.views = 0;
        let plan = Plan::new(&submission).expect("fits");
        let parts: Vec<ExportPart> = (0..plan.export_count()).map(|part| plan.export_part(part)).collect();
        assert_eq!(parts, [ExportPart { split: Split::Validation, view: 0, shard: 0 }], "no view is cached");
        assert_eq!(plan.export_index(parts[0]), 0);
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
        assert_eq!(outer.run_id(), b.run_id(), "nothing reads it");
        (outer.spec.train.replicas, a.spec) = (2, b.spec.clone());
        a.spec.train.replicas = 2;
        assert_ne!(outer.run_id(), a.run_id());
    }

    fn with(sets: &[&str]) -> Submission {
        let sets: Vec<Override> = sets.iter().map(|set| Override::parse(set).expect("a pair")).collect();
        Submission { spec: parse("", &sets).expect("valid"), ..submission() }
    }

    #[test]
    fn every_field_written_at_its_default_is_the_same_run_and_another_value_another_run() {
        for Example { path, context, default, other } in EXAMPLES {
            let field = Field::of(path).expect("a field");
            let given = |set: &str| with(&[context, &[set][..]].concat());
            let base = with(context);
            if let Some(default) = default {
                let written = given(&format!("{path}={default}"));
                assert_eq!(written.run_id(), base.run_id(), "{path}={default}");
                assert_eq!(written.chain(), base.chain(), "{path}={default}");
            }
            let changed = given(&format!("{path}={other}"));
            assert!(field.is_read(&changed.spec), "{path} counts in its example");
            assert_ne!(changed.spec, base.spec, "{path}");
            assert_eq!(changed.run_id() != base.run_id(), field.reach >= Reach::Label, "{path}={other}");
            assert_eq!(changed.chain() != base.chain(), field.reach >= Reach::Training, "{path}={other}");
            let spikes = |submission: &Submission| submission.spec.identity(Reach::Spikes);
            assert_eq!(spikes(&changed) != spikes(&base), field.reach == Reach::Spikes, "{path}={other}");
        }
    }

    #[test]
    fn what_is_filled_in_may_be_written_out() {
        let base = submission();
        let same = |other: &Submission| assert_eq!(other.run_id(), base.run_id());
        same(&with(&["train.micro_batch=64"]));
        same(&with(&["network.preset=small", "network.width=16", "network.head={ pool = 4, hidden = [64] }"]));
        let written = RunSpec::default().completed();
        assert!(written.network.preset.is_none() && written.network.block.len() == 3);
        same(&Submission { spec: written, ..submission() });
        let replicas = with(&["train.replicas=2"]);
        assert_eq!(with(&["train.replicas=2", "train.round_steps=8"]).run_id(), replicas.run_id());
        assert_ne!(with(&["train.replicas=2", "train.round_steps=9"]).run_id(), replicas.run_id());
        assert_ne!(with(&["train.micro_batch=32"]).run_id(), base.run_id());
    }

    #[test]
    fn a_field_that_nothing_reads_makes_no_other_run() {
        let alone = with(&["run.end_to_end=true"]);
        let more =
            ["hard_classes.policy=all", "detector.policy=top1", "exit.combine=last", "network.classifier.pool=2"];
        assert_eq!(with(&[&["run.end_to_end=true"], &more[..]].concat()).run_id(), alone.run_id());
        assert_ne!(with(&more).run_id(), submission().run_id());
    }

    /// What ids, chains and keys of the cache were when this was written: a change here orphans what is stored.
    /// Renaming a field or a variant in the code changes none, as the names in files are written beside them.
    #[test]
    fn ids_and_keys_are_what_they_were() {
        let values: Vec<String> =
            EXAMPLES.iter().map(|example| format!("{}={}", example.path, example.other)).collect();
        let context =
            |path: &str| EXAMPLES.iter().find(|example| example.path == path).map_or(&[][..], |found| found.context);
        let choices =
            CHOICES.iter().flat_map(|(path, names)| names.iter().map(move |name| format!("{path}=\"{name}\"")));
        let mut lines = vec![line("", &submission())];
        for set in values.into_iter().chain(choices) {
            let path = set.split('=').next().unwrap_or_default();
            lines.push(line(&set, &with(&[context(path), &[set.as_str()]].concat())));
        }
        let found = lines.join("\n") + "\n";
        let place = concat!(env!("CARGO_MANIFEST_DIR"), "/src/golden/keys.txt");
        if std::env::var_os("BLOCTRAIN_RENEW").is_some() {
            std::fs::write(place, &found).expect("written");
        }
        let known = std::fs::read_to_string(place).expect("text");
        for (found, known) in found.lines().zip(known.lines()) {
            assert_eq!(found, known);
        }
        assert_eq!(found.lines().count(), known.lines().count());
    }

    fn line(set: &str, submission: &Submission) -> String {
        let (run, chain, spikes) = (submission.run_id(), submission.chain(), submission.spec.identity(Reach::Spikes));
        format!("{set} | {run} | {} | {spikes}", chain.short(12))
    }

    /// Names of all choices, as they are in files.
    const CHOICES: &[(&str, &[&str])] = &[
        ("network.norm", &["batch", "td", "none"]),
        ("neuron.model", &["lif", "if", "plif"]),
        ("neuron.reset", &["subtract", "zero"]),
        ("neuron.surrogate", &["atan", "fast-sigmoid", "triangle", "rectangle"]),
        ("encoding.kind", &["direct", "poisson", "latency"]),
        ("train.precision", &["auto", "f32"]),
        ("train.optimizer", &["sgd", "adamw"]),
        ("train.schedule", &["constant", "step", "cosine"]),
        ("train.loss", &["ce", "tet"]),
        ("hard_classes.policy", &["threshold", "bottom-k", "bottom-fraction", "all"]),
        ("detector.policy", &["learned", "top1", "entropy", "confidence"]),
        ("exit.combine", &["last", "mixture"]),
    ];

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
