//! One code of an image in training, evaluation and prediction.

mod common;

use bloctrain_data::{Dataset, Split as Samples};
use bloctrain_infer::{BlockManifest, Manifest, NamedTensors, Package, Predictor, prefixed};
use bloctrain_shared::exit::{ExitRule, Gate, answer};
use bloctrain_shared::key;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::record::Records;
use bloctrain_shared::spec::Combine;
use bloctrain_shared::stage::{evaluate, train};
use bloctrain_shared::task::{FrozenBlock, Output, Source, Split, Stage, TaskId, Work};
use bloctrain_worker::model::test_records;
use common::{Bench, SHAPE, dataset, spec};

/// A data set of one test image, which is the sample that a file passes for.
fn alone(dataset: &Dataset, sample: usize) -> Dataset {
    let test = Samples::new(vec![dataset.test.label(sample)], dataset.test.image(sample).to_vec(), SHAPE.len());
    Dataset { test, ..dataset.clone() }
}

#[test]
fn files_are_answered_as_they_are_evaluated_under_every_encoding() {
    let folder = tempfile::tempdir().expect("a folder");
    let dataset = dataset();
    let files: Vec<std::path::PathBuf> = (0..dataset.test.len())
        .map(|sample| {
            let file = folder.path().join(format!("{sample}.png"));
            let (width, height) = (SHAPE.width as u32, SHAPE.height as u32);
            let image =
                image::GrayImage::from_raw(width, height, dataset.test.image(sample).to_vec()).expect("its size");
            image.save(&file).expect("written");
            file
        })
        .collect();
    for kind in ["direct", "poisson", "latency"] {
        let encoding = format!("encoding.kind={kind}");
        let layers = "network.block=[{ layers = [{ type = \"conv\", channels = 8, stride = 2 }] }]";
        let spec = spec(&[layers, "train.epochs=6", "train.warmup_epochs=0", "train.batch=16", &encoding]);
        let mut bench = Bench::new(&spec, dataset.clone());
        let classes = bench.classes.clone();
        let mut from = None;
        for round in 0..6 {
            let (classes, source) = (classes.clone(), Source::Images);
            let work =
                Work::Train(train::Work { round, replica: 0, classes, from, inherits: None, among: None, source });
            let trained =
                bench.run(TaskId { block: 1, stage: Stage::Train, part: round, replica: 0 }, work).expect("trains");
            let Output::Train(train::Output { checkpoint, .. }) = trained else { panic!("{trained:?}") };
            from = Some(checkpoint);
        }
        let weights = from.expect("a round").weights;

        // What a worker evaluates on the test data.
        let hard = LabelMap::default();
        let block = FrozenBlock {
            block: 1,
            classes: classes.clone(),
            hard: hard.clone(),
            weights: weights.clone(),
            detector: None,
        };
        let work = Work::Evaluate(evaluate::Work { split: Split::Test, shard: 0, blocks: vec![block] });
        let evaluated =
            bench.run(TaskId { block: 0, stage: Stage::Evaluate, part: 0, replica: 0 }, work).expect("evaluates");
        let Output::Evaluate(evaluate::Output { records }) = evaluated else { panic!("{evaluated:?}") };
        let evaluated: Records = serde_json::from_slice(&bench.get(&records)).expect("records");

        // What the package says about the same data, and about the files.
        let exit = ExitRule::new(Combine::Last, vec![Gate { tau: 0.0, gamma: 2.0 }]);
        let bytes = bench.get(&weights);
        let tensors = prefixed("block1", NamedTensors::decode(&bytes).expect("tensors")).collect();
        let manifest = Manifest {
            format: key::FORMAT_VERSION,
            run: "r".into(),
            spec,
            dataset: bench.submission.dataset.clone(),
            mean: dataset.mean.clone(),
            std: dataset.std.clone(),
            blocks: vec![BlockManifest { classes, hard, detector: false }],
            exit: exit.clone(),
            tensors: bloctrain_shared::Digest::of(b""),
        };
        let package = Package { manifest, tensors: NamedTensors { tensors, ..NamedTensors::default() } };
        let predictor = Predictor::new(&package).expect("fits");
        assert_eq!(test_records(&predictor, &dataset), evaluated, "{kind}");
        let answers = predictor.files(&files).expect("answers");
        for (sample, found) in answers.iter().enumerate() {
            let records = test_records(&predictor, &alone(&dataset, sample));
            assert_eq!(*found, answer(&records, 0, &exit, 3), "{kind}, file {sample}");
        }
        assert!(
            answers.iter().any(|found| found.class != answers[0].class),
            "{kind}: one answer to all files shows nothing"
        );
    }
}
