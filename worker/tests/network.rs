//! Networks: gradients against a hand-written unrolled reference, counts and losses worked out by hand.

#![expect(clippy::disallowed_methods, reason = "what is expected is worked out apart from the program")]

use bloctrain_infer::NamedTensors;
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::graph::{Content, Graph};
use bloctrain_shared::spec::network::{AuxiliaryKind, AuxiliarySpec};
use bloctrain_shared::spec::resolve::ResolvedNetwork;
use bloctrain_shared::spec::{BlockSpec, HeadSpec, LayerSpec, Loss, NeuronSpec, Norm, Precision, RunSpec, TrainSpec};
use bloctrain_shared::{ImageShape, seed};
use bloctrain_worker::kernel::{BodyInput, Mode};
use bloctrain_worker::snn::block::{BlockConfig, BlockNet};
use bloctrain_worker::snn::loss::loss;
use bloctrain_worker::snn::optim::{self, Optimizer};
use bloctrain_worker::snn::param::to_host;
use bloctrain_worker::snn::pass::Pass;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use burn_tensor::{Tensor, TensorData};
use rand::RngExt;
use std::collections::BTreeMap;

fn config(layers: Vec<LayerSpec>, image: ImageShape, norm: Norm, steps: usize, classes: usize) -> BlockConfig {
    let head = HeadSpec { pool: 0, hidden: vec![] };
    let network = ResolvedNetwork {
        blocks: vec![BlockSpec { layers }],
        norm,
        classifier: head.clone(),
        head,
        auxiliary: AuxiliarySpec::default(),
    };
    let graph = Graph::lower(&network, &NeuronSpec::default(), steps, image, Content::Spikes).expect("fits");
    let graph = graph.blocks.into_iter().next().expect("one block");
    BlockConfig { graph, index: 0, classes, seed: 3, precision: Precision::Auto, exit_gradient: 1.0 }
}

fn random(count: usize, label: &str) -> Vec<f32> {
    let mut rng = seed::rng(1, label, &[]);
    (0..count).map(|_| rng.random_range(-1.0_f32..1.0)).collect()
}

/// Two fully connected spiking layers and a readout, unrolled over time in f64, with gradients by the chain rule.
#[test]
fn bptt_of_two_layers_agrees_with_an_unrolled_reference() {
    let (steps, inputs, hidden, outputs, classes) = (5, 6, 7, 4, 3);
    let layers = vec![LayerSpec::linear(hidden), LayerSpec::linear(outputs)];
    let config = config(layers, ImageShape::new(inputs, 1, 1), Norm::None, steps, classes);
    let mut net = BlockNet::<Autodiff<Flex>>::new(&config, &Default::default());
    optim::track(&mut net.store.params);
    let x: Vec<f32> = random(steps * inputs, "x").iter().map(|value| f32::from(u8::from(*value > 0.0))).collect();
    let label = 1;
    let input = BodyInput::Spikes(Spikes::from_values(&x, 1, steps, ImageShape::new(inputs, 1, 1)));
    let mut pass = Pass::new(steps, 1, Mode::Train { seed: 0 });
    let logits = net.forward(input, &mut pass, false).logits;
    let grads = loss(Loss::Ce, logits, &[label], 0.0).backward();
    let grads: Vec<Vec<f32>> = optim::gradients(&net.store.params, &grads).into_iter().map(to_host).collect();
    let params: Vec<Vec<f64>> = net
        .store
        .params
        .iter()
        .map(|param| to_host(param.value.clone()).into_iter().map(f64::from).collect())
        .collect();

    let spec = NeuronSpec::default();
    let (leak, theta, width) = (f64::from(spec.leak), f64::from(spec.threshold), f64::from(spec.surrogate_width));
    let slope = |u: f64| 0.5 * width / (1.0 + (std::f64::consts::FRAC_PI_2 * width * (u - theta)).powi(2));
    let affine = |w: &[f64], b: &[f64], s: &[f64]| -> Vec<f64> {
        (0..b.len()).map(|o| b[o] + (0..s.len()).map(|i| w[o * s.len() + i] * s[i]).sum::<f64>()).collect()
    };
    // Forward, keeping membranes before the reset.
    let (mut v1, mut v2) = (vec![0.0; hidden], vec![0.0; outputs]);
    let (mut u1s, mut s1s, mut u2s, mut s2s) = (vec![], vec![], vec![], vec![]);
    let fire = |v: &mut Vec<f64>, drive: Vec<f64>| {
        let u: Vec<f64> = v.iter().zip(&drive).map(|(v, x)| leak * v + x).collect();
        let s: Vec<f64> = u.iter().map(|u| f64::from(u8::from(*u >= theta))).collect();
        *v = u.iter().zip(&s).map(|(u, s)| u - theta * s).collect();
        (u, s)
    };
    for step in 0..steps {
        let x: Vec<f64> = x[step * inputs..(step + 1) * inputs].iter().map(|&x| x.into()).collect();
        let (u1, s1) = fire(&mut v1, affine(&params[0], &params[1], &x));
        let (u2, s2) = fire(&mut v2, affine(&params[2], &params[3], &s1));
        u1s.push(u1);
        s1s.push(s1);
        u2s.push(u2);
        s2s.push(s2);
    }
    assert!(s2s.iter().flatten().any(|s| *s == 1.0), "the second layer has to fire for the test to mean something");
    let mean: Vec<f64> = (0..outputs).map(|o| s2s.iter().map(|s| s[o]).sum::<f64>() / steps as f64).collect();
    let logits = affine(&params[4], &params[5], &mean);
    let sum: f64 = logits.iter().map(|z| z.exp()).sum();
    let dz: Vec<f64> =
        logits.iter().enumerate().map(|(c, z)| z.exp() / sum - f64::from(u8::from(c == label))).collect();
    // Backward through time.
    let mut expected: Vec<Vec<f64>> = params.iter().map(|param| vec![0.0; param.len()]).collect();
    for c in 0..classes {
        expected[5][c] += dz[c];
        (0..outputs).for_each(|o| expected[4][c * outputs + o] += dz[c] * mean[o]);
    }
    let (mut dv1, mut dv2) = (vec![0.0; hidden], vec![0.0; outputs]);
    for step in (0..steps).rev() {
        let mut ds1 = vec![0.0; hidden];
        for o in 0..outputs {
            let ds = (0..classes).map(|c| dz[c] * params[4][c * outputs + o]).sum::<f64>() / steps as f64;
            let du = ds * slope(u2s[step][o]) + dv2[o]; // the reset is detached
            dv2[o] = leak * du;
            expected[3][o] += du;
            for h in 0..hidden {
                expected[2][o * hidden + h] += du * s1s[step][h];
                ds1[h] += du * params[2][o * hidden + h];
            }
        }
        for h in 0..hidden {
            let du = ds1[h] * slope(u1s[step][h]) + dv1[h];
            dv1[h] = leak * du;
            expected[1][h] += du;
            (0..inputs).for_each(|i| expected[0][h * inputs + i] += du * f64::from(x[step * inputs + i]));
        }
    }
    for (index, (ours, theirs)) in grads.iter().zip(&expected).enumerate() {
        for (a, b) in ours.iter().zip(theirs) {
            assert!((f64::from(*a) - b).abs() < 1e-5, "parameter {index}: {a} is not {b}");
        }
    }
}

/// One spike in the corner and one in the middle of a 3x3 map, 3x3 convolution to 2 channels, then a strided one.
#[test]
fn synaptic_operations_by_hand() {
    let layers = vec![LayerSpec::conv(2, 3, 1)];
    let config = config(layers, ImageShape::new(1, 3, 3), Norm::Batch, 2, 5);
    let net = BlockNet::<Flex>::new(&config, &Default::default());
    let mut x = vec![0.0_f32; 2 * 2 * 9]; // [T = 2, B = 2, 1, 3, 3]
    x[0] = 1.0; // step 0, sample 0, corner: reaches 4 positions
    x[18 + 4] = 1.0; // step 1, sample 0, middle: reaches 9
    let input = BodyInput::Spikes(Spikes::from_values(&x, 2, 2, ImageShape::new(1, 3, 3)));
    let mut pass = Pass::new(2, 2, Mode::Eval).with_count();
    let spikes = net.body(input, &mut pass);
    let body = pass.take_count();
    assert_eq!((body.synops, body.macs), (vec![26.0, 0.0], 0.0), "(4 + 9) positions times 2 channels");
    net.classify(&spikes, &mut pass, false);
    assert_eq!(pass.take_count().macs, 18.0 * 5.0, "averages over time are analogue: 18 features times 5 classes");
    let image = BodyInput::Image(Tensor::from_data(TensorData::new(vec![0.5; 9], [1, 1, 3, 3]), &Default::default()));
    let mut pass = Pass::new(2, 1, Mode::Eval).with_count();
    net.body(image, &mut pass);
    assert_eq!(pass.take_count().macs, 98.0, "49 pairs of positions times 2 channels, once for both steps");
}

/// Two spikes in one window of an average pooling and one in another: each is added where its window's place is seen.
#[test]
fn averages_cost_what_their_spikes_cost() {
    let layers = vec![LayerSpec::avg_pool(2), LayerSpec::conv(2, 3, 1)];
    let shape = ImageShape::new(1, 6, 6);
    let config = config(layers, shape, Norm::Batch, 2, 5);
    let net = BlockNet::<Flex>::new(&config, &Default::default());
    let mut x = vec![0.0_f32; 2 * 36]; // [T = 2, B = 1, 1, 6, 6]
    (x[0], x[1]) = (1.0, 1.0); // step 0, the corner of the 3x3 map of averages: reaches 4 positions
    x[36 + 14] = 1.0; // step 1, its middle: reaches 9
    let input = BodyInput::Spikes(Spikes::from_values(&x, 1, 2, shape));
    let mut pass = Pass::new(2, 1, Mode::Eval).with_count();
    net.body(input, &mut pass);
    let body = pass.take_count();
    assert_eq!((body.synops, body.macs), (vec![34.0], 0.0), "(4 + 4 + 9) positions times 2 channels");
}

#[test]
fn losses_by_hand() {
    let logits = || {
        Tensor::<Flex, 3>::from_data(
            TensorData::new(vec![0.0_f32, 0.0, 2.0_f32.ln(), 0.0], [2, 1, 2]),
            &Default::default(),
        )
    };
    let value = |kind, smoothing| f64::from(to_host(loss(kind, logits(), &[0], smoothing))[0]);
    // Mean logits (ln 2 / 2, 0): p = sqrt 2 / (1 + sqrt 2). Per step: 1/2 and 2/3.
    let root = 2.0_f64.sqrt();
    assert!((value(Loss::Ce, 0.0) + (root / (1.0 + root)).ln()).abs() < 1e-6);
    assert!((value(Loss::Tet, 0.0) + 0.5 * (0.5_f64.ln() + (2.0_f64 / 3.0).ln())).abs() < 1e-6);
    let smooth = -(0.95 * (root / (1.0 + root)).ln() + 0.05 * (1.0 / (1.0 + root)).ln());
    assert!((value(Loss::Ce, 0.1) - smooth).abs() < 1e-6);
}

#[test]
fn one_optimiser_step_by_hand() {
    let tensor = |value: f32| Tensor::<Flex, 1>::from_data([value], &Default::default());
    let step = |optimizer, decay| {
        let spec = TrainSpec { optimizer, weight_decay: 0.1, momentum: 0.9, ..TrainSpec::default() };
        let mut optimizer = Optimizer::new(&spec, &[1], &Default::default());
        let once = optimizer.step(vec![(tensor(2.0), decay)], vec![tensor(0.5)], 0.1).remove(0);
        to_host(optimizer.step(vec![(once, decay)], vec![tensor(0.5)], 0.1).remove(0))[0]
    };
    use bloctrain_shared::spec::OptimizerKind::{Adamw, Sgd};
    // SGD: v = 0.7, p = 1.93; v = 0.63 + 0.5 + 0.193 = 1.323, p = 1.7977. Without decay: 1.95, then 1.95 - 0.095.
    assert!((step(Sgd, true) - 1.7977).abs() < 1e-5);
    assert!((step(Sgd, false) - 1.855).abs() < 1e-5);
    // AdamW: a constant gradient moves by the rate; decay multiplies by 0.99 first.
    assert!((step(Adamw, true) - ((2.0 * 0.99 - 0.1) * 0.99 - 0.1)).abs() < 1e-5);
    assert!((step(Adamw, false) - 1.8).abs() < 1e-5);
}

#[test]
fn dropout_has_one_mask_for_all_steps_and_none_at_inference() {
    let layers = vec![LayerSpec::dropout(0.5), LayerSpec::linear(40)];
    let config = config(layers, ImageShape::new(30, 1, 1), Norm::None, 3, 2);
    let net = BlockNet::<Flex>::new(&config, &Default::default());
    let ones = || BodyInput::Spikes(Spikes::from_values(&[1.0; 90], 1, 3, ImageShape::new(30, 1, 1)));
    let run = |mode| net.body(ones(), &mut Pass::new(3, 1, mode)).into_spikes(1);
    assert_eq!(run(Mode::Train { seed: 4 }), run(Mode::Train { seed: 4 }));
    assert_ne!(run(Mode::Train { seed: 4 }), run(Mode::Train { seed: 5 }));
    assert_ne!(run(Mode::Train { seed: 4 }), run(Mode::Eval));
}

#[test]
fn a_block_starts_from_what_the_block_before_was_trained_with() {
    let mut spec = RunSpec::default();
    (spec.network.preset, spec.network.width) = (Some("resnet9".into()), Some(4));
    spec.network.auxiliary = AuxiliarySpec { kind: AuxiliaryKind::Next, ..AuxiliarySpec::default() };
    let net = |block: u32, classes: usize| {
        let config = BlockConfig::new(&spec, ImageShape::new(3, 32, 32), block, classes).expect("resolves");
        BlockNet::<Flex>::new(&config, &Default::default())
    };
    let mut before = net(1, 10);
    for buffer in &mut before.store.buffers {
        buffer.values = random(buffer.values.len(), &buffer.name);
    }
    let trained = NamedTensors { tensors: before.store.export(), metadata: BTreeMap::new() };
    for (classes, heads) in [(10, 2), (7, 0)] {
        let (seeded, mut next) = (net(2, classes).store.export(), net(2, classes));
        next.inherit(&trained).expect("it fits");
        let mut counts = [0; 3];
        for (now, seeded) in next.store.export().iter().zip(&seeded) {
            let handed_on = trained.get(&format!("auxiliary.1.{}", now.name)).filter(|from| from.shape == now.shape);
            let kind =
                if now.name.starts_with("layer") { 0 } else { 1 + usize::from(now.name.starts_with("auxiliary")) };
            assert_eq!(now.values, handed_on.unwrap_or(seeded).values, "{}", now.name);
            counts[kind] += usize::from(handed_on.is_some());
        }
        let own = next.layers().parameters.len() + 2 * next.layers().running.len();
        assert_eq!(counts, [own, heads, 0], "all of the block, its classifier where the classes are the same ones");
    }
}

#[test]
fn every_preset_builds_and_blocks_emit_binary_spikes() {
    for (preset, blocks) in [("resnet9", 3), ("resnet11", 4), ("resnet18", 4), ("vgg16", 5)] {
        let mut spec = RunSpec::default();
        spec.network.preset = Some(preset.into());
        spec.network.width = Some(4);
        let mut input = None;
        for block in 1..=blocks {
            let config = BlockConfig::new(&spec, ImageShape::new(3, 32, 32), block, 10).expect("resolves");
            let net = BlockNet::<Flex>::new(&config, &Default::default());
            let image = || {
                BodyInput::Image(Tensor::from_data(
                    TensorData::new(random(2 * 3072, "image"), [2, 3, 32, 32]),
                    &Default::default(),
                ))
            };
            let output =
                net.forward(input.take().unwrap_or_else(image), &mut Pass::new(4, 2, Mode::Train { seed: 1 }), false);
            assert_eq!(output.logits.dims(), [1, 2, 10]);
            let spikes = to_host(output.spikes.tensor(&Default::default()));
            assert!(spikes.iter().all(|&spike| spike == 0.0 || spike == 1.0), "{preset} block {block}");
            assert!(spikes.contains(&1.0), "{preset} block {block} is silent");
            input = Some(BodyInput::Spikes(output.spikes.into_spikes(2)));
        }
    }
}
