//! Every field of the specification: what it reaches is in keys, and what nothing reads changes nothing.

mod common;

use bloctrain_infer::NamedTensors;
use bloctrain_shared::spec::RunSpec;
use bloctrain_shared::spec::field::{EXAMPLES, FIELDS, Field, Reach};
use bloctrain_shared::stage::{export, train};
use bloctrain_shared::task::{ObjectRef, Output, Source, Split, Stage, TaskId, Work};
use bloctrain_shared::{Digest, key};
use bloctrain_store::cache;
use bloctrain_worker::snn::block::{BlockConfig, BlockNet};
use burn_flex::Flex;
use bytes::Bytes;
use common::{Bench, SHAPE, dataset, spec};

/// Weights of the first block of a specification, which have seen no training.
fn untrained(spec: &RunSpec) -> Bytes {
    let config = BlockConfig::new(spec, SHAPE, 1, 3).expect("resolves");
    let net = BlockNet::<Flex>::new(&config, &Default::default());
    Bytes::from(NamedTensors { tensors: net.store.export(), ..NamedTensors::default() }.encode().expect("encodes"))
}

/// The key and the packed spikes of view 1 of the training shard under a specification; none where the weights are of
/// another network.
fn exported(spec: &RunSpec, weights: &Bytes) -> Option<(String, Vec<u8>)> {
    let mut bench = Bench::new(spec, dataset());
    let weights = bench.put(&key::detector("r", 1, Digest::of(weights)), weights.clone());
    let (split, view, shard) = (Split::Train, 1, 0);
    let (classes, hard) = (bench.classes.clone(), bench.classes.clone());
    let (among, selection, source) = (None, None, Source::Images);
    let work = Work::Export(export::Work { split, view, shard, classes, hard, weights, among, selection, source });
    let id = TaskId { block: 1, stage: Stage::Export, part: 0, replica: 0 };
    let Ok(Output::Export(export::Output { shard, reused: false, .. })) = bench.run(id, work) else { return None };
    let read = bench.runtime.block_on(cache::read(&bench.store, &shard.object)).expect("a shard");
    Some((shard.object.key, read.packed))
}

/// For every field: the same spikes, or another key.
#[test]
fn a_field_that_changes_exported_spikes_changes_their_key() {
    let mut told_apart = 0;
    for example in EXAMPLES {
        let field = Field::of(example.path).expect("a field");
        // Every augmentation, so that what decides it shows.
        let base = [example.context, &["data.augment=[\"crop\", \"flip\"]"][..]].concat();
        let set = format!("{}={}", example.path, example.other);
        let changed = spec(&[base.as_slice(), &[set.as_str()]].concat());
        let base = spec(&base);
        let weights = untrained(&base);
        let before = exported(&base, &weights).expect("spikes");
        assert!(before.1.iter().any(|&byte| byte != 0), "{set}: something fires");
        let Some(after) = exported(&changed, &weights) else {
            // Another network: its weights are others, and their digest is in the key.
            assert!(untrained(&changed) != weights && field.reach >= Reach::Training, "{set}");
            continue;
        };
        assert!(before.0 != after.0 || before.1 == after.1, "{set} gives other spikes under the same key");
        // The samples held out are others; they are in the key.
        if field.reach < Reach::Spikes && field.path != "data.validation_fraction" {
            assert_eq!(before, after, "{set} makes cached spikes useless");
        }
        told_apart += usize::from(before.1 != after.1);
    }
    assert!(told_apart >= 6, "only {told_apart} fields changed the spikes: the test sees too little");
}

/// The weights that one round of the first block makes.
fn trained(sets: &[&str]) -> (ObjectRef, Digest) {
    let small = ["train.epochs=1", "train.warmup_epochs=0", "train.batch=32"];
    let sets = [&small[..], sets].concat();
    let mut bench = Bench::new(&spec(&sets), dataset());
    let classes = bench.classes.clone();
    let (from, inherits, among, source) = (None, None, None, Source::Images);
    let work = Work::Train(train::Work { round: 0, replica: 0, classes, from, inherits, among, source });
    match bench.run(TaskId { block: 1, stage: Stage::Train, part: 0, replica: 0 }, work) {
        Ok(Output::Train(train::Output { checkpoint, .. })) => (checkpoint.weights, bench.submission.chain()),
        other => panic!("{sets:?}: {other:?}"),
    }
}

/// Where no one reads a field, another value gives the same weights: ids and chains may leave it out.
#[test]
fn a_field_that_nothing_reads_changes_no_weights() {
    const LINEAR: &str = "network.block=[{ layers = [{ type = \"linear\", features = 8 }] }]";
    let cases: [(&[&str], &str); 21] = [
        (&["data.augment=[\"flip\"]"], "data.cutout_size=0.5"),
        (&[], "data.views=2"),
        (&["run.end_to_end=true", "data.augment=[\"flip\"]"], "data.views=2"),
        (&[LINEAR], "network.norm=none"),
        (&["run.end_to_end=true"], "network.classifier={ pool = 2, hidden = [8] }"),
        (&[LINEAR, "network.head.pool=2"], "network.classifier={ pool = 3, hidden = [8] }"),
        (&["run.end_to_end=true"], "network.auxiliary.kind=conv"),
        (&[], "network.auxiliary.depth=2"),
        (&[], "network.auxiliary.exit_gradient=0.5"),
        (&["network.norm=none"], "train.recount=64"),
        (&["train.replicas=2"], "train.ema=0.9"),
        (&["neuron.model=if"], "neuron.leak=0.9"),
        (&["encoding.steps=1"], "neuron.leak=0.9"),
        (&["encoding.steps=1"], "train.start_steps=1"),
        (&["encoding.steps=1"], "neuron.reset=zero"),
        (&["encoding.steps=1"], "neuron.detach_reset=false"),
        (&["train.warmup_epochs=1"], "train.schedule=constant"),
        (&[], "train.momentum=0.1"),
        (&[], "train.outer_learning_rate=0.1"),
        (&[], "train.outer_momentum=0.1"),
        (&[LINEAR], "run.end_to_end=true"),
    ];
    let is_here = |field: &Field| {
        cases.iter().any(|(_, set)| set.strip_prefix(field.path).is_some_and(|rest| rest.starts_with(['=', '.'])))
    };
    let conditional = FIELDS.iter().filter(|field| field.reach >= Reach::Training && !field.counts.is_empty());
    // Who writes blocks out may give neither: it is refused.
    let free = conditional.filter(|field| !["network.preset", "network.width"].contains(&field.path));
    for field in free {
        let parent = field.path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let is_inside = cases.iter().any(|(_, set)| set.starts_with(&format!("{parent}=")));
        assert!(is_here(field) || is_inside, "no case for {}", field.path);
    }
    for (context, set) in cases {
        let (before, after) = (trained(context), trained(&[context, &[set]].concat()));
        assert_eq!(before.0.digest, after.0.digest, "{set} under {context:?}");
        assert_eq!(before.1, after.1, "{set} under {context:?}: another chain");
    }
    // What is read does change them.
    for set in ["train.momentum=0.1", "train.schedule=constant", "neuron.leak=0.9", "network.norm=none"] {
        let context = ["train.optimizer=sgd"];
        let (before, after) = (trained(&context), trained(&[&context[..], &[set]].concat()));
        assert!(before.0.digest != after.0.digest && before.1 != after.1, "{set}");
    }
}

/// Fields that reach training and do not show in the first round of the first block, and why.
const LATER: [(&str, &str); 8] = [
    ("data.views", "on images every epoch augments anew; views are of cached spikes"),
    ("train.precision", "processors have f32 alone"),
    ("train.gradient_clip", "gradients of this round may be small"),
    ("train.patience", "it decides when training ends"),
    ("train.replicas", "a round is one of several tasks then"),
    ("train.round_steps", "it decides where a round ends"),
    ("train.outer_learning_rate", "it belongs to the merge"),
    ("train.outer_momentum", "it belongs to the merge"),
];

/// A field that is in the specification and that nothing reads fails here.
#[test]
fn a_field_that_reaches_training_changes_weights() {
    let is_later = |path: &str| LATER.iter().any(|(later, _)| *later == path);
    for example in EXAMPLES.iter().filter(|example| !is_later(example.path)) {
        if Field::of(example.path).expect("a field").reach < Reach::Training {
            continue;
        }
        let needs: &[&str] = match example.path {
            "network.head.pool" | "network.head.hidden" => {
                &["network.block=[{ layers = [{ type = \"conv\", channels = 4 }] }]"]
            }
            "train.warmup_epochs" => &["train.warmup_epochs=1"],
            "train.batch" => &["train.batch=64"],
            // tdBN starts at the threshold.
            "network.norm" => &["neuron.threshold=0.8"],
            _ => &[],
        };
        let context = [example.context, needs].concat();
        let set = format!("{}={}", example.path, example.other);
        let (before, after) = (trained(&context), trained(&[&context[..], &[set.as_str()]].concat()));
        assert!(before.0.digest != after.0.digest, "{set} changes no weights: does anything read it?");
        assert!(before.1 != after.1, "{set}: the same chain");
    }
}
