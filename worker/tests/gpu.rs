//! The GPU's kernels against the plain reference on the CPU: neurons, and bodies with their spikes, statistics, rates,
//! counts and gradients, for every kind of layer, odd sizes, all surrogates and resets.
//!
//! Runs on CUDA with the feature `cuda`, else on wgpu with the feature `wgpu`, for which Mesa's software Vulkan will
//! do. Without a device the tests say that they are skipped; with `BLOCTRAIN_REQUIRE_GPU` set they fail instead.

#![cfg(any(feature = "cuda", feature = "wgpu"))]

mod case;
mod leaving;

use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::graph::{AdaptivePool, Content, Graph, Node};
use bloctrain_shared::neuron::NeuronRule;
use bloctrain_shared::spec::network::AuxiliarySpec;
use bloctrain_shared::spec::resolve::ResolvedNetwork;
use bloctrain_shared::spec::{
    BlockSpec, HeadSpec, LayerSpec, NeuronModel, NeuronSpec, Norm, Reset, RunSpec, Surrogate,
};
use bloctrain_shared::{ImageShape, seed};
use bloctrain_worker::kernel::{
    BodyInput, BodyRecord, ConvPrecision, Moments, SpikingBackend, StepRule, Stepped, Tap, neuron, reference,
};
use bloctrain_worker::snn::block::BlockConfig;
use bloctrain_worker::snn::param::to_host;
use bloctrain_worker::snn::trainer::{MicroBatch, StepMetrics, Trainer, TrainingBackend};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use burn_tensor::backend::Backend;
use burn_tensor::{DType, Tensor};
use case::{Case, Kind, kind, tensor, uniform};
use rand::RngExt;
use std::io::Write;
use std::sync::LazyLock;

#[cfg(feature = "cuda")]
type Gpu = burn_cuda::Cuda;
#[cfg(not(feature = "cuda"))]
type Gpu = burn_wgpu::Wgpu;

/// Half precision of the device, and its element.
#[cfg(feature = "cuda")]
const HALF: (ConvPrecision, DType) = (ConvPrecision::Auto, DType::BF16);
#[cfg(not(feature = "cuda"))]
const HALF: (ConvPrecision, DType) = (ConvPrecision::F16, DType::F16);

/// Whether there is a device; says so once where there is none.
fn device_found() -> bool {
    static FOUND: LazyLock<bool> = LazyLock::new(|| {
        #[cfg(feature = "cuda")]
        if let Err(error) = bloctrain_worker::device::Device::Cuda(0).resolve() {
            let _ = writeln!(std::io::stderr(), "{error}");
        }
        let found = std::panic::catch_unwind(|| to_host(Tensor::<Gpu, 1>::ones([3], &Default::default())).len() == 3);
        let found = found.unwrap_or(false);
        assert!(
            found || std::env::var_os("BLOCTRAIN_REQUIRE_GPU").is_none(),
            "there is no device, and one is required"
        );
        if !found {
            // Not `eprintln!`, which a test that passes keeps to itself.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: there is no GPU and no software Vulkan; install mesa-vulkan-drivers"
            );
        }
        found
    });
    *FOUND
}

/// Largest difference, relative to the largest value.
fn error(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let scale = theirs.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max)
}

fn differing(ours: &[f32], theirs: &[f32]) -> usize {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).filter(|(a, b)| a != b).count()
}

#[test]
fn neurons_agree_with_the_reference() {
    if !device_found() {
        return;
    }
    for (index, spec) in rules().into_iter().enumerate() {
        let rule = NeuronRule::new(&spec);
        for (steps, sites) in [(1, 1), (4, 32 * 7), (5, 67), (33, 40), (65, 3)] {
            let mut rng = seed::rng(index as u64, "neuron", &[steps as u64, sites as u64]);
            let (x, weights) =
                (uniform(&mut rng, steps * sites, -0.6..1.4), uniform(&mut rng, steps * sites, -1.0..1.0));
            let case = format!("{:?} {:?} {} [{steps}, {sites}]", spec.surrogate, spec.reset, spec.detach_reset);
            let (spikes, grads) = neurons::<Autodiff<Gpu>>(&x, &weights, [steps, sites], rule);
            let (spikes2, grads2) = neurons::<Autodiff<Flex>>(&x, &weights, [steps, sites], rule);
            let flipped = differing(&spikes, &spikes2);
            assert!(flipped * 500 <= spikes.len(), "{case}: {flipped} of {} spikes differ", spikes.len());
            if flipped == 0 {
                let off = [error(&grads[0], &grads2[0]), error(&grads[1], &grads2[1])];
                assert!(off[0] < 2e-5 && off[1] < 2e-5, "{case}: gradients are off by {off:?}");
            }
        }
    }
}

/// Spikes, and the gradients of `sum(weights * spikes)` for the drive and the leak.
fn neurons<B: TrainingBackend>(
    x: &[f32],
    weights: &[f32],
    shape: [usize; 2],
    rule: NeuronRule,
) -> (Vec<f32>, [Vec<f32>; 2]) {
    let x = tensor::<B, 2>(x, shape).require_grad();
    let leak = tensor::<B, 1>(&[0.8], [1]).require_grad();
    let spikes = neuron(x.clone(), leak.clone(), rule);
    let grads = (spikes.clone() * tensor(weights, shape)).sum().backward();
    let [x, leak] = [x.grad(&grads).map(to_host), leak.grad(&grads).map(to_host)].map(|grad| grad.expect("tracked"));
    (to_host(spikes.inner()), [x, leak])
}

/// Every surrogate with every reset.
fn rules() -> Vec<NeuronSpec> {
    let mut rules = Vec::new();
    for surrogate in [Surrogate::Atan, Surrogate::FastSigmoid, Surrogate::Triangle, Surrogate::Rectangle] {
        for (reset, detach_reset) in
            [(Reset::Subtract, true), (Reset::Subtract, false), (Reset::Zero, true), (Reset::Zero, false)]
        {
            let model = NeuronModel::ALL[rules.len() % NeuronModel::ALL.len()];
            rules.push(NeuronSpec {
                model,
                leak: 0.7,
                threshold: 0.8,
                reset,
                detach_reset,
                surrogate,
                surrogate_width: 1.3,
            });
        }
    }
    rules
}

fn cases() -> Vec<Case> {
    let [avg_pool, max_pool, linear] = [LayerSpec::avg_pool, LayerSpec::max_pool, LayerSpec::linear];
    let dropout = LayerSpec::dropout;
    let (conv, residual) = (LayerSpec::conv, LayerSpec::residual);
    let image = |seed| Kind { rate: None, ..kind(seed) };
    let mut cases = vec![
        Case::new("one channel", &[conv(1, 1, 1)], [1, 1, 2], kind(1)),
        Case::new("odd sizes", &[conv(7, 3, 1), conv(5, 5, 2)], [3, 7, 6], kind(2)),
        Case::new("wide", &[conv(70, 3, 1), conv(130, 3, 2)], [65, 5, 9], kind(3)),
        Case::new("stride 3", &[conv(4, 3, 3), conv(6, 1, 2)], [20, 11, 10], kind(4)),
        Case::new("residual", &[residual(17, 2), residual(9, 1)], [6, 8, 7], kind(5)),
        Case::new("image", &[conv(8, 3, 1), avg_pool(2), residual(12, 1)], [3, 9, 8], image(6)),
        Case::new("residual on an image", &[residual(8, 2)], [2, 6, 6], image(7)),
        Case::new("pools", &[conv(5, 3, 1), avg_pool(3), conv(6, 3, 1), max_pool(2)], [4, 13, 12], kind(8)),
        Case::new("pool of a pool", &[avg_pool(2), max_pool(2), conv(5, 3, 1)], [4, 8, 9], kind(9)),
        Case::new("pooled image", &[max_pool(2), avg_pool(2), conv(5, 3, 1)], [4, 8, 9], image(10)),
        Case::new("average at the end", &[conv(40, 3, 1), avg_pool(2)], [4, 8, 9], kind(11)),
        Case::new(
            "dropout",
            &[conv(6, 3, 1), dropout(0.4), conv(4, 3, 1), dropout(0.2), avg_pool(2), conv(66, 3, 1)],
            [3, 6, 6],
            kind(12),
        ),
        Case::new("dropout of an image", &[dropout(0.3), conv(4, 3, 1), dropout(0.3)], [3, 6, 6], image(13)),
        Case::new("linear", &[conv(67, 3, 1), linear(21), linear(5)], [2, 4, 3], kind(14)),
        Case::new("linear on an image", &[linear(70), linear(33)], [2, 4, 3], image(15)),
        Case::new("bias", &[conv(9, 3, 1), residual(5, 2)], [3, 6, 5], Kind { norm: Norm::None, ..kind(16) }),
        Case::new("tdBN", &[conv(9, 3, 1), residual(5, 2)], [3, 6, 5], Kind { norm: Norm::Td, ..kind(17) }),
        Case::new("one step", &[conv(9, 3, 1), residual(5, 2)], [3, 6, 5], Kind { steps: 1, ..kind(18) }),
        Case::new("many steps", &[conv(9, 3, 1)], [3, 6, 5], Kind { steps: 40, batch: 2, ..kind(19) }),
        Case::new("no spike", &[conv(9, 3, 1)], [3, 6, 5], Kind { rate: Some(0.0), norm: Norm::None, ..kind(20) }),
        Case::new("all spikes", &[conv(9, 3, 1)], [3, 6, 5], Kind { rate: Some(1.0), ..kind(21) }),
        // Sizes that matrix units and wide loads like.
        Case::new("aligned", &[conv(32, 3, 1), residual(64, 2), conv(64, 1, 1)], [16, 16, 16], kind(23)),
        Case::new("large map", &[conv(3, 3, 1), conv(4, 3, 2)], [1, 40, 37], Kind { batch: 2, steps: 2, ..kind(22) }),
        // Sums over many parts.
        Case::new("large batch", &[conv(40, 3, 1)], [8, 28, 28], Kind { batch: 32, ..kind(24) }),
        Case::new("large batch of images", &[conv(16, 3, 2)], [1, 28, 28], Kind { batch: 32, ..image(25) }),
    ];
    for (index, neuron) in rules().into_iter().enumerate() {
        let name = format!("{:?} {:?} {:?} {}", neuron.model, neuron.surrogate, neuron.reset, neuron.detach_reset);
        let kind = Kind { neuron, steps: 5, ..kind(31 + index as u64) };
        cases.push(Case::new(&name, &[conv(6, 3, 1), residual(10, 2)], [4, 6, 6], kind));
    }
    cases
}

fn flat(record: &BodyRecord) -> Vec<f32> {
    if let Some(queued) = &record.queued {
        return queued.read();
    }
    record.statistics.iter().flat_map(|statistic| statistic.mean.iter().chain(&statistic.variance).copied()).collect()
}

fn rates(record: &BodyRecord) -> Vec<f32> {
    record.rates.iter().map(|&rate| rate as f32).collect()
}

/// What is wrong with a case; empty where nothing is. `None` where a spike near the threshold makes all that follows
/// differ.
fn disagreements(case: &Case, pool: Option<&AdaptivePool>, tap: Option<Tap<'_>>) -> Option<Vec<String>> {
    let (spikes, record, grads) = case.train::<Autodiff<Gpu>>(pool, tap, Autodiff::<Gpu>::body);
    let (spikes2, record2, grads2) = case.train::<Autodiff<Flex>>(pool, tap, reference::body);
    if error(&spikes, &spikes2) > 1e-6 {
        // A membrane within rounding of the threshold fires in one and not in the other.
        let flipped = differing(&spikes, &spikes2);
        return (flipped * 200 > spikes.len()).then(|| vec![format!("{flipped} of {} spikes differ", spikes.len())]);
    }
    let found = [
        ("statistics", error(&flat(&record), &flat(&record2)), 1e-5),
        ("rates", error(&rates(&record), &rates(&record2)), 1e-6),
        ("gradients", error(&grads, &grads2), 3e-5),
    ];
    let mut wrong: Vec<String> = found
        .iter()
        .filter(|(_, off, most)| off.is_nan() || off >= most)
        .map(|(what, off, _)| format!("{what} are off by {off}"))
        .collect();
    if record.count != record2.count {
        wrong.push("other counts of operations".into());
    }
    Some(wrong)
}

#[test]
fn training_agrees_with_the_reference() {
    if !device_found() {
        return;
    }
    let cases = cases();
    let (mut near_the_threshold, mut wrong) = (0, Vec::new());
    for case in &cases {
        for side in [None, Some(0), Some(2)] {
            let pool = side.map(|side| case.pool(side));
            match disagreements(case, pool.as_ref(), None) {
                None => near_the_threshold += 1,
                Some(found) => wrong.extend(found.iter().map(|one| format!("{}, averages {side:?}: {one}", case.name))),
            }
        }
        let Some(value) = leaving::tapped(&case.body) else { continue };
        let (inner, last) = (AdaptivePool::new(case.body.shape(value), 2), case.pool(2));
        for (average, inner) in [(Some(&last), Some(&inner)), (None, None)] {
            let found = disagreements(case, average, Some(Tap { value, average: inner })).unwrap_or_default();
            wrong.extend(found.iter().map(|one| format!("{}, with a tap: {one}", case.name)));
        }
    }
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
    assert!(near_the_threshold * 5 < 2 * cases.len(), "{near_the_threshold} cases could not be compared");
}

#[test]
fn inference_agrees_with_the_reference() {
    if !device_found() {
        return;
    }
    for case in &cases() {
        let ((spikes, record), (spikes2, record2)) =
            (case.infer::<Gpu>(Gpu::body), case.infer::<Flex>(reference::body));
        let flipped = differing(&spikes.to_values(), &spikes2.to_values());
        assert!(flipped * 200 <= spikes.to_values().len(), "{}: {flipped} spikes differ", case.name);
        assert!(flipped > 0 || record.count == record2.count, "{}: operations", case.name);
    }
}

#[test]
fn spikes_travel_as_bits() {
    if !device_found() {
        return;
    }
    let mut rng = seed::rng(1, "travel", &[]);
    for (batch, steps, channels, height, width) in
        [(1, 1, 1, 1, 1), (3, 2, 31, 5, 4), (2, 34, 33, 3, 1), (2, 3, 130, 2, 7)]
    {
        for rate in [0.0, 0.5, 1.0] {
            let shape = ImageShape::new(channels, height, width);
            let values: Vec<f32> =
                (0..batch * steps * shape.len()).map(|_| f32::from(u8::from(rng.random::<f32>() < rate))).collect();
            let spikes = Spikes::from_values(&values, batch, steps, shape);
            let there = Gpu::spikes_from_host(&spikes, &Default::default());
            assert_eq!(to_host(there.clone()), values);
            assert_eq!(Gpu::spikes_to_host(there, batch), spikes);
        }
    }
}

/// Convolutions in half precision: the wiring, on devices that have it. Spikes differ where membranes are near the
/// threshold.
#[test]
fn half_precision_stays_near() {
    if !device_found() {
        return;
    }
    if !Gpu::supports_dtype(&Default::default(), HALF.1) {
        // Not `eprintln!`, which a test that passes keeps to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: the device has no half precision");
        return;
    }
    let mut wrong = Vec::new();
    for mut case in cases().into_iter().take(23) {
        let full = case.train::<Autodiff<Gpu>>(None, None, Autodiff::<Gpu>::body);
        case.precision = HALF.0;
        let half = case.train::<Autodiff<Gpu>>(None, None, Autodiff::<Gpu>::body);
        // In deep bodies a spike more or less in one layer moves all that follow.
        let layers = case.body.nodes.iter().filter(|node| matches!(node, Node::Spiking(_))).count();
        let flipped = differing(&half.0, &full.0);
        if flipped * 20 > layers * half.0.len() {
            wrong.push(format!("{}: {flipped} of {} spikes differ", case.name, half.0.len()));
        }
        let off = error(&flat(&half.1), &flat(&full.1));
        if off.is_nan() || off >= 0.1 {
            wrong.push(format!("{}: statistics are off by {off}", case.name));
        }
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let (ours, theirs) = (&half.2, &full.2);
        let alike = product(ours, theirs) / (product(ours, ours) * product(theirs, theirs)).sqrt().max(1e-12);
        let nothing = theirs.iter().all(|&value| value == 0.0);
        let least = if layers == 1 { 0.98 } else { 0.6 };
        if !(alike > least || nothing) {
            wrong.push(format!("{}: gradients point elsewhere, cosine {alike}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn optimisers_step_as_the_reference() {
    if !device_found() {
        return;
    }
    let rules = [
        StepRule::Sgd { momentum: 0.9, decay: 0.01, rate: 0.1 },
        StepRule::Adamw { betas: [0.9, 0.999], keep: 0.999, rate: 0.01, share: 1.3, epsilon: 1e-8 },
    ];
    fn step<B: SpikingBackend>(rule: &StepRule, [value, grad, first, second]: [&[f32]; 4]) -> Vec<f32> {
        let [value, grad, first, second] = [value, grad, first, second].map(|x| tensor::<B, 1>(x, [x.len()]));
        let second = matches!(rule, StepRule::Adamw { .. }).then_some(second);
        let Stepped { parameter, moments } = B::optimize(rule, value, grad, Moments { first, second });
        let second = moments.second.map(to_host).unwrap_or_default();
        [to_host(parameter), to_host(moments.first), second].concat()
    }
    for length in [1, 255, 257, 5000] {
        let mut rng = seed::rng(2, "optimise", &[length as u64]);
        let [value, grad, first] = [(); 3].map(|()| uniform(&mut rng, length, -1.0..1.0));
        let second = uniform(&mut rng, length, 0.0..1.0);
        for rule in &rules {
            let [ours, theirs] = [step::<Gpu>, step::<Flex>].map(|step| step(rule, [&value, &grad, &first, &second]));
            assert!(error(&ours, &theirs) < 1e-6, "{rule:?}, {length} values: off by {}", error(&ours, &theirs));
        }
    }
}

/// Launches the kernels in every form that a run can ask for, and looks at no result: `scripts/cuda-kernels` runs this
/// on a driver without a GPU, to compile all of them.
#[test]
#[ignore = "shows only that every kernel compiles and launches; scripts/cuda-kernels runs it"]
fn every_form_of_every_kernel_launches() {
    if !device_found() {
        return;
    }
    let rules = rules();
    for (index, spec) in rules.iter().enumerate() {
        // Of the steps only how loops are written out and how many words a neuron has makes a difference.
        let all: &[usize] = if index == 0 { &[1, 2, 4, 8, 16, 17, 33, 65] } else { &[4] };
        for &steps in all {
            let x = vec![0.5; steps * 64];
            neurons::<Autodiff<Gpu>>(&x, &x, [steps, 64], NeuronRule::new(spec));
        }
    }
    let layers = [LayerSpec::conv(40, 3, 1), LayerSpec::residual(33, 2)];
    let by_steps =
        [1, 2, 4, 8, 16, 17, 33, 65].map(|steps| Case::new("steps", &layers, [3, 6, 6], Kind { steps, ..kind(1) }));
    // Products have many forms, by the sizes of matrices: in half precision, those of sizes that are met in practice.
    let all: Vec<Case> = cases().into_iter().chain(by_steps.clone()).collect();
    let of_a_net = cases().into_iter().filter(|case| case.name == "aligned" || case.name == "pools");
    let some: Vec<Case> = of_a_net.chain(by_steps).collect();
    let half = (ConvPrecision::F16, DType::F16);
    for ((precision, dtype), cases) in [((ConvPrecision::F32, DType::F32), all), (HALF, some.clone()), (half, some)] {
        if !Gpu::supports_dtype(&Default::default(), dtype) {
            continue;
        }
        for mut case in cases {
            case.precision = precision;
            for pool in [None, Some(case.pool(2))] {
                case.train::<Autodiff<Gpu>>(pool.as_ref(), None, Autodiff::<Gpu>::body);
            }
            case.infer::<Gpu>(Gpu::body);
        }
    }
}

/// The only block of a network on images, for 4 classes.
fn config(network: &ResolvedNetwork, steps: usize, image: ImageShape) -> BlockConfig {
    let graph = Graph::lower(network, &NeuronSpec::default(), steps, image, Content::Fractions).expect("fits");
    let graph = graph.blocks.into_iter().next().expect("one block");
    BlockConfig {
        graph,
        index: 0,
        classes: 4,
        seed: 3,
        precision: bloctrain_shared::spec::Precision::F32,
        exit_gradient: 1.0,
    }
}

/// A block in training: loss, accuracy and running statistics, which arrive later than on the CPU.
fn trained<B: TrainingBackend>(hidden: Vec<usize>) -> (StepMetrics, Vec<f32>) {
    let mut spec = RunSpec::default();
    spec.train.gradient_clip = 0.5;
    let image = ImageShape::new(1, 8, 8);
    let head = HeadSpec { pool: 0, hidden };
    let layers = vec![LayerSpec::residual(8, 2), LayerSpec::residual(5, 2)];
    let (blocks, classifier, auxiliary) = (vec![BlockSpec { layers }], head.clone(), AuxiliarySpec::default());
    let network = ResolvedNetwork { blocks, norm: Norm::Batch, classifier, head, auxiliary };
    let config = config(&network, 3, image);
    let mut trainer = Trainer::<B>::new(&config, &spec.train, &Default::default());
    let mut sum = StepMetrics::default();
    for step in 0..4_u64 {
        let values = uniform(&mut seed::rng(7, "images", &[step]), 6 * 64, -1.5..1.5);
        let input = BodyInput::Image(tensor(&values, [6, 1, 8, 8]));
        let batch = MicroBatch { input, labels: vec![0, 1, 2, 3, 0, 1], mixed: Vec::new() };
        let found = trainer.step(std::iter::once(Ok::<_, ()>(batch)), 6, 1e-3, step, step == 3).expect("a batch");
        sum.loss_sum += found.loss_sum;
        sum.samples += found.samples;
        sum.working_bytes = found.working_bytes;
    }
    trainer.settle(&mut sum);
    (sum, trainer.net.store.buffers.iter().flat_map(|buffer| buffer.values.clone()).collect())
}

#[test]
fn training_a_block_goes_as_on_the_cpu() {
    if !device_found() {
        return;
    }
    for hidden in [vec![], vec![9]] {
        let (ours, statistics) = trained::<Autodiff<Gpu>>(hidden.clone());
        let (theirs, statistics2) = trained::<Autodiff<Flex>>(hidden);
        assert_eq!((ours.samples, theirs.samples), (24, 24));
        let off = (ours.loss_sum - theirs.loss_sum).abs() / theirs.loss_sum;
        assert!(off < 0.01, "losses {} and {}", ours.loss_sum, theirs.loss_sum);
        assert!(error(&statistics, &statistics2) < 0.02, "running statistics");
        assert!(ours.working_bytes > 0, "the device's memory was not looked at");
    }
}

/// A whole block's gradients, with its classifier: body and head together, over some steps.
#[test]
fn a_block_learns_as_on_the_cpu() {
    if !device_found() {
        return;
    }
    let ours = learned::<Autodiff<Gpu>>();
    let theirs = learned::<Autodiff<Flex>>();
    let off: Vec<(f64, f64)> = ours.iter().zip(&theirs).map(|(a, b)| (*a, *b)).collect();
    assert!(off.iter().all(|(a, b)| (a - b).abs() < 0.05 * b), "losses on the device and on the CPU: {off:?}");
    assert!(theirs[theirs.len() - 1] < 0.8 * theirs[0], "it learns nothing on the CPU: {theirs:?}");
}

/// Losses of the steps of a block that learns to tell bright from dark halves.
fn learned<B: TrainingBackend>() -> Vec<f64> {
    let image = ImageShape::new(1, 12, 12);
    let head = HeadSpec { pool: 4, hidden: vec![] };
    let conv = |channels, stride| LayerSpec::conv(channels, 3, stride);
    let blocks = vec![BlockSpec { layers: vec![conv(16, 2), conv(16, 1)] }];
    let network = ResolvedNetwork {
        blocks,
        norm: Norm::Batch,
        classifier: head.clone(),
        head,
        auxiliary: AuxiliarySpec::default(),
    };
    let config = config(&network, 4, image);
    let mut trainer = Trainer::<B>::new(&config, &RunSpec::default().train, &Default::default());
    let mut losses = Vec::new();
    for step in 0..12_u64 {
        let mut rng = seed::rng(7, "halves", &[step]);
        let labels: Vec<usize> = (0..32).map(|sample| sample % 4).collect();
        let values: Vec<f32> = labels
            .iter()
            .flat_map(|label| (0..144).map(move |at| (at / 12 < 6, at % 12 < 6, *label)).collect::<Vec<_>>())
            .map(|(top, left, label)| {
                let bright = [top, !top, left, !left][label];
                rng.random_range(-1.0_f32..1.0) + if bright { 0.7 } else { -0.7 }
            })
            .collect();
        let batch = MicroBatch { input: BodyInput::Image(tensor(&values, [32, 1, 12, 12])), labels, mixed: Vec::new() };
        let mut found = trainer.step(std::iter::once(Ok::<_, ()>(batch)), 32, 1e-3, step, false).expect("a batch");
        trainer.settle(&mut found);
        losses.push(found.loss_sum / 32.0);
    }
    losses
}

#[test]
fn a_step_takes_the_same_bits_every_time() {
    if !device_found() {
        return;
    }
    for case in cases().iter().take(6) {
        let run = || case.train::<Autodiff<Gpu>>(None, None, Autodiff::<Gpu>::body);
        let ((spikes, record, grads), (spikes2, record2, grads2)) = (run(), run());
        assert!(spikes == spikes2 && record == record2 && grads == grads2, "{}: other bits", case.name);
    }
}
