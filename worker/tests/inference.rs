//! Inference: the same bits alone, in a batch, and in a batch that others have left; and what training computes.

use bloctrain_infer::{BlockParts, FrozenDetector, FrozenHead, Input, NamedTensors, Network, part_values};
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::exit::{Answer, ExitRule, Gate, answer};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::record::Records;
use bloctrain_shared::spec::network::HeadSpec;
use bloctrain_shared::spec::{Combine, LayerSpec, NeuronModel, Norm, RunSpec};
use bloctrain_shared::{ImageShape, seed};
use bloctrain_worker::kernel::{BodyInput, Emitted, Mode};
use bloctrain_worker::snn::block::{BlockConfig, BlockNet};
use bloctrain_worker::snn::detector::DetectorNet;
use bloctrain_worker::snn::param::to_host;
use bloctrain_worker::snn::pass::Pass;
use burn_flex::Flex;
use burn_tensor::activation::{sigmoid, softmax};
use burn_tensor::{Tensor, TensorData};
use rand::RngExt;

const IMAGE: ImageShape = ImageShape::new(3, 20, 20);
const SAMPLES: usize = 64;
const CLASSES: usize = 10;

fn images() -> Vec<f32> {
    let mut rng = seed::rng(1, "images", &[]);
    (0..SAMPLES * IMAGE.len()).map(|_| rng.random_range(-1.7..1.7)).collect()
}

fn input(values: &[f32]) -> BodyInput<Flex> {
    let sizes = [values.len() / IMAGE.len(), IMAGE.channels, IMAGE.height, IMAGE.width];
    BodyInput::Image(Tensor::from_data(TensorData::new(values.to_vec(), sizes), &Default::default()))
}

fn given(values: &[f32]) -> Input {
    Input::Images { samples: values.len() / IMAGE.len(), values: values.to_vec() }
}

/// Three blocks with random weights, whose norms have seen the images; the deeper ones know fewer classes.
fn network() -> Network {
    let mut spec = RunSpec::default();
    (spec.network.preset, spec.network.width) = (Some("resnet9".into()), Some(6));
    let classes = [LabelMap::all(CLASSES), LabelMap::new(vec![1, 3, 4, 8, 9]), LabelMap::new(vec![3, 8, 9])];
    let mut entering = input(&images());
    let mut parts = Vec::new();
    for (index, own) in classes.iter().enumerate() {
        let config = BlockConfig::new(&spec, IMAGE, index as u32 + 1, own.len()).expect("resolves");
        let mut net = BlockNet::<Flex>::new(&config, &Default::default());
        for _ in 0..40 {
            let mut pass = Pass::new(net.steps(), SAMPLES, Mode::Train { seed: 0 });
            net.body(entering.clone(), &mut pass);
            net.update_statistics(&pass);
        }
        entering = BodyInput::Spikes(
            net.body(entering, &mut Pass::new(net.steps(), SAMPLES, Mode::Eval)).into_spikes(SAMPLES),
        );
        let detector = DetectorNet::<Flex>::new(net.detector(), 1, index as u32, &Default::default());
        let tensors = |tensors| NamedTensors { tensors, ..NamedTensors::default() };
        parts.push(BlockParts {
            classes: own.clone(),
            hard: classes.get(index + 1).cloned().unwrap_or_default(),
            weights: tensors(net.store.export()),
            detector: (index < 2).then(|| tensors(detector.store.export())),
        });
    }
    Network::new(&spec, IMAGE, &parts).expect("fits")
}

/// A rule under which a third of the samples leave at each exit.
fn rule(records: &Records) -> ExitRule {
    let mut left: Vec<usize> = (0..SAMPLES).collect();
    let mut gates = Vec::new();
    for (block, leaving) in records.blocks.iter().zip([SAMPLES / 3, SAMPLES / 3]) {
        left.sort_by(|&a, &b| block.confidence(b).total_cmp(&block.confidence(a)));
        gates.push(Gate { tau: 2.0, gamma: block.confidence(left[leaving - 1]) });
        left.drain(..leaving);
    }
    ExitRule::new(Combine::Mixture, gates)
}

#[test]
fn answers_do_not_depend_on_the_batch() {
    let (net, images) = (network(), images());
    let records = net.records(given(&images), &[0; SAMPLES], &[0; SAMPLES]);
    let rule = rule(&records);
    let in_batches = |size: usize| -> Vec<Answer> {
        images.chunks(size * IMAGE.len()).flat_map(|images| net.answers(given(images), &rule, CLASSES)).collect()
    };
    let alone = in_batches(1);
    for block in 0..3 {
        assert!(alone.iter().any(|answer| answer.exit == block), "no sample leaves at block {block}");
    }
    assert_eq!(in_batches(7), alone);
    assert_eq!(in_batches(64), alone);
    let of_records: Vec<Answer> = (0..SAMPLES).map(|sample| answer(&records, sample, &rule, CLASSES)).collect();
    assert_eq!(of_records, alone, "evaluation, which runs every block on every sample, says otherwise");
}

#[test]
fn records_do_not_depend_on_the_batch() {
    let (net, images) = (network(), images());
    let whole = net.records(given(&images), &[0; SAMPLES], &[0; SAMPLES]);
    let mut joined = Records::default();
    for images in images.chunks(7 * IMAGE.len()) {
        let samples = images.len() / IMAGE.len();
        joined.join(net.records(given(images), &vec![0; samples], &vec![0; samples])).expect("one network");
    }
    assert_eq!(joined, whole);
}

/// Classifier and detector of one block, frozen, against the tensors that are trained.
fn frozen_agrees(head: HeadSpec, shape: ImageShape, rate: f32, plif: bool) {
    let (steps, batch) = (3, 5);
    let mut spec = RunSpec::default();
    if plif {
        spec.neuron.model = NeuronModel::Plif;
    }
    spec.encoding.steps = steps;
    spec.network.block =
        vec![bloctrain_shared::spec::BlockSpec { layers: vec![LayerSpec::conv(shape.channels, 3, 1)] }];
    (spec.network.norm, spec.network.head) = (Norm::Batch, Some(head.clone()));
    let config = BlockConfig::new(&spec, shape, 1, 7).expect("resolves");
    let net = BlockNet::<Flex>::new(&config, &Default::default());
    let mut rng = seed::rng(2, "spikes", &[]);
    let values: Vec<f32> =
        (0..steps * batch * shape.len()).map(|_| f32::from(u8::from(rng.random::<f32>() < rate))).collect();
    let spikes = Spikes::from_values(&values, batch, steps, shape);
    let mut pass = Pass::new(steps, batch, Mode::Eval).with_count();
    let emitted = Emitted::Spikes(spikes.clone());
    let logits = net.classify(&emitted, &mut pass, false);
    let expected = to_host(softmax(logits.reshape([batch, 7]), 1));
    let count = pass.take_count();
    let tensors = |tensors| NamedTensors { tensors, ..NamedTensors::default() };
    let classifier = config.graph.classifier(7);
    let values = part_values(&classifier.parameters, &tensors(net.store.export())).expect("its own");
    let frozen = FrozenHead::new(&classifier, &values);
    assert_eq!(frozen.macs(steps), count.macs, "{head:?}");
    for (sample, expected) in expected.chunks(7).enumerate() {
        let (found, synops) = frozen.probabilities(&spikes, sample);
        let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close, "{head:?} on {shape}: {found:?} is not {expected:?}");
        assert_eq!(synops, count.synops[sample], "{head:?}");
    }
    let detector = DetectorNet::<Flex>::new(net.detector(), 1, 1, &Default::default());
    let expected = to_host(sigmoid(detector.logits(detector.features(&emitted, steps), &mut pass)));
    let values = part_values(&net.detector().parameters, &tensors(detector.store.export())).expect("its own");
    let frozen = FrozenDetector::new(&net.detector(), &values);
    assert_eq!(frozen.macs(), pass.take_count().macs);
    for (sample, expected) in expected.into_iter().enumerate() {
        let found = frozen.probability(&spikes, sample);
        assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
    }
}

#[test]
fn frozen_classifiers_compute_what_training_computes() {
    let head = |pool: usize, hidden: &[usize]| HeadSpec { pool, hidden: hidden.to_vec() };
    for rate in [0.0, 0.2, 1.0] {
        frozen_agrees(head(4, &[]), ImageShape::new(5, 8, 8), rate, false);
        frozen_agrees(head(4, &[]), ImageShape::new(70, 7, 9), rate, false);
        frozen_agrees(head(0, &[33]), ImageShape::new(9, 3, 2), rate, true);
        frozen_agrees(head(4, &[16]), ImageShape::new(65, 4, 4), rate, false);
        frozen_agrees(head(2, &[12, 20]), ImageShape::new(6, 5, 5), rate, false);
    }
}
