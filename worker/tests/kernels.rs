//! Bodies on the CPU against the plain reference: spikes, statistics, rates, counts and gradients, for every kind of
//! layer, odd sizes, all surrogates and resets, and for any number of threads.

mod case;
mod leaving;

use bloctrain_shared::graph::AdaptivePool;
use bloctrain_shared::spec::{LayerSpec, NeuronModel, NeuronSpec, Norm, Reset, Surrogate};
use bloctrain_worker::kernel::{BodyRecord, SpikingBackend, Tap, reference};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use case::{Case, Kind, kind};

type Train = Autodiff<Flex>;

/// Spikes that leave (or averages of them), record and gradients, by the CPU's own operation or by the reference.
fn train(
    case: &Case,
    by_reference: bool,
    average: Option<&AdaptivePool>,
    tap: Option<Tap<'_>>,
) -> (Vec<f32>, BodyRecord, Vec<f32>) {
    case.train::<Train>(average, tap, if by_reference { reference::body } else { Train::body })
}

/// Spikes and record with running statistics.
fn infer(case: &Case, by_reference: bool) -> (Vec<f32>, BodyRecord) {
    let (spikes, record) = case.infer::<Flex>(if by_reference { reference::body } else { Flex::body });
    (spikes.to_values(), record)
}

fn conv(channels: usize, kernel: usize, stride: usize) -> LayerSpec {
    LayerSpec::conv(channels, kernel, stride)
}

fn residual(channels: usize, stride: usize) -> LayerSpec {
    LayerSpec::residual(channels, stride)
}

fn cases() -> Vec<Case> {
    let [avg_pool, max_pool, linear] = [LayerSpec::avg_pool, LayerSpec::max_pool, LayerSpec::linear];
    let dropout = LayerSpec::dropout;
    let s = |channels, height, width| [channels, height, width];
    let mut cases = vec![
        Case::new("one channel", &[conv(1, 1, 1)], s(1, 1, 2), kind(1)),
        Case::new("odd sizes", &[conv(7, 3, 1), conv(5, 5, 2)], s(3, 7, 6), kind(2)),
        Case::new("wide", &[conv(70, 3, 1), conv(130, 3, 2)], s(65, 5, 9), kind(3)),
        Case::new("stride 3", &[conv(4, 3, 3), conv(6, 1, 2)], s(20, 11, 10), kind(4)),
        Case::new("residual", &[residual(17, 2), residual(9, 1)], s(6, 8, 7), kind(5)),
        Case::new("tiles of two widths go back together", &[residual(90, 2)], s(20, 16, 15), kind(24)),
        Case::new("image", &[conv(8, 3, 1), avg_pool(2), residual(12, 1)], s(3, 9, 8), Kind { rate: None, ..kind(6) }),
        Case::new("residual on an image", &[residual(8, 2)], s(2, 6, 6), Kind { rate: None, ..kind(7) }),
        Case::new("pools", &[conv(5, 3, 1), avg_pool(3), conv(6, 3, 1), max_pool(2)], s(4, 13, 12), kind(8)),
        Case::new("pool of a pool", &[avg_pool(2), max_pool(2), conv(5, 3, 1)], s(4, 8, 9), kind(9)),
        Case::new(
            "pooled image",
            &[max_pool(2), avg_pool(2), conv(5, 3, 1)],
            s(4, 8, 9),
            Kind { rate: None, ..kind(10) },
        ),
        Case::new(
            "dropout",
            &[conv(6, 3, 1), dropout(0.4), conv(4, 3, 1), dropout(0.2), avg_pool(2), conv(66, 3, 1)],
            s(3, 6, 6),
            kind(11),
        ),
        Case::new("dropout of an image", &[dropout(0.3), conv(4, 3, 1)], s(3, 6, 6), Kind { rate: None, ..kind(12) }),
        Case::new("linear", &[conv(67, 3, 1), linear(21), linear(5)], s(2, 4, 3), kind(13)),
        Case::new("linear on an image", &[linear(70), linear(33)], s(2, 4, 3), Kind { rate: None, ..kind(14) }),
        Case::new("bias", &[conv(9, 3, 1), residual(5, 2)], s(3, 6, 5), Kind { norm: Norm::None, ..kind(15) }),
        Case::new("tdBN", &[conv(9, 3, 1), residual(5, 2)], s(3, 6, 5), Kind { norm: Norm::Td, ..kind(16) }),
        Case::new("one step", &[conv(9, 3, 1), residual(5, 2)], s(3, 6, 5), Kind { steps: 1, ..kind(17) }),
        Case::new("many steps", &[conv(9, 3, 1), residual(5, 2)], s(3, 6, 5), Kind { steps: 16, batch: 2, ..kind(18) }),
        Case::new(
            "more samples than parts",
            &[conv(9, 3, 1), residual(5, 2)],
            s(3, 5, 5),
            Kind { batch: 19, ..kind(19) },
        ),
        Case::new("no spike", &[conv(9, 3, 1)], s(3, 6, 5), Kind { rate: Some(0.0), norm: Norm::None, ..kind(20) }),
        Case::new("many spikes", &[conv(64, 3, 1), conv(40, 3, 1)], s(20, 9, 10), Kind { rate: Some(0.5), ..kind(23) }),
        Case::new("all spikes", &[conv(9, 3, 1)], s(3, 6, 5), Kind { rate: Some(1.0), ..kind(21) }),
        Case::new(
            "large map",
            &[conv(3, 3, 1), max_pool(2), conv(4, 3, 2)],
            s(1, 40, 37),
            Kind { batch: 2, steps: 2, ..kind(22) },
        ),
    ];
    let mut which = 30;
    for surrogate in [Surrogate::Atan, Surrogate::FastSigmoid, Surrogate::Triangle, Surrogate::Rectangle] {
        for (reset, detach_reset) in
            [(Reset::Subtract, true), (Reset::Subtract, false), (Reset::Zero, true), (Reset::Zero, false)]
        {
            which += 1;
            let model = NeuronModel::ALL[which as usize % NeuronModel::ALL.len()];
            let neuron =
                NeuronSpec { model, leak: 0.7, threshold: 0.8, reset, detach_reset, surrogate, surrogate_width: 1.3 };
            let name = format!("{model:?} {surrogate:?} {reset:?} {detach_reset}");
            cases.push(Case::new(
                &name,
                &[conv(6, 3, 1), residual(10, 2)],
                s(4, 6, 6),
                Kind { neuron, steps: 5, ..kind(which) },
            ));
        }
    }
    cases
}

/// Largest difference, relative to the largest value.
fn error(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let scale = theirs.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max)
}

fn flat(record: &BodyRecord) -> Vec<f32> {
    record.statistics.iter().flat_map(|statistic| statistic.mean.iter().chain(&statistic.variance).copied()).collect()
}

#[test]
fn training_agrees_with_the_reference() {
    let mut near_the_threshold = 0;
    let cases = cases();
    for case in &cases {
        let (spikes, record, grads) = train(case, false, None, None);
        let (spikes2, record2, grads2) = train(case, true, None, None);
        let flipped = spikes.iter().zip(&spikes2).filter(|(a, b)| a != b).count();
        if flipped > 0 {
            // A membrane within rounding of the threshold fires in one and not in the other; what follows differs.
            assert!(flipped * 500 <= spikes.len(), "{}: {flipped} of {} spikes differ", case.name, spikes.len());
            near_the_threshold += 1;
            continue;
        }
        assert!(error(&flat(&record), &flat(&record2)) < 1e-5, "{}: statistics", case.name);
        let rates: Vec<f32> = record.rates.iter().map(|&rate| rate as f32).collect();
        let rates2: Vec<f32> = record2.rates.iter().map(|&rate| rate as f32).collect();
        assert!(error(&rates, &rates2) < 1e-6, "{}: rates {rates:?} {rates2:?}", case.name);
        assert_eq!(record.count, record2.count, "{}: operations", case.name);
        let off = error(&grads, &grads2);
        assert!(off < 2e-5, "{}: gradients are off by {off}", case.name);
        for side in [0, 1, 2, 3] {
            let pool = case.pool(side);
            let (averages, _, grads) = train(case, false, Some(&pool), None);
            let (averages2, _, grads2) = train(case, true, Some(&pool), None);
            assert!(error(&averages, &averages2) < 1e-6, "{}: averages of side {side}", case.name);
            let off = error(&grads, &grads2);
            assert!(off < 2e-5, "{}: gradients by averages of side {side} are off by {off}", case.name);
        }
        // Spikes of an inner node leave too, and bring a gradient of their own back.
        let Some(value) = leaving::tapped(&case.body) else { continue };
        let (inner, last) = (AdaptivePool::new(case.body.shape(value), 2), case.pool(2));
        for (average, inner) in [(Some(&last), Some(&inner)), (Some(&last), None), (None, Some(&inner)), (None, None)] {
            let tap = Some(Tap { value, average: inner });
            let (left, _, grads) = train(case, false, average, tap);
            let (left2, _, grads2) = train(case, true, average, tap);
            assert!(error(&left, &left2) < 1e-6, "{}: what leaves with a tap", case.name);
            let off = error(&grads, &grads2);
            assert!(off < 2e-5, "{}: gradients with a tap are off by {off}", case.name);
        }
    }
    assert!(near_the_threshold * 5 < cases.len(), "{near_the_threshold} cases could not be compared");
}

#[test]
fn inference_agrees_with_the_reference() {
    for case in &cases() {
        let ((spikes, record), (spikes2, record2)) = (infer(case, false), infer(case, true));
        let flipped = spikes.iter().zip(&spikes2).filter(|(a, b)| a != b).count();
        assert!(flipped * 500 <= spikes.len(), "{}: {flipped} of {} spikes differ", case.name, spikes.len());
        assert!(flipped > 0 || record.count == record2.count, "{}: operations", case.name);
    }
}

#[test]
fn every_number_of_threads_gives_the_same_bits() {
    for case in &cases() {
        let in_threads = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| (train(case, false, None, None), infer(case, false)))
        };
        let one = in_threads(1);
        for threads in [2, 5, 8, 8] {
            assert!(in_threads(threads) == one, "{}: other bits with {threads} threads", case.name);
        }
    }
}

/// The kernels in their lesser forms give the bits of the best one: this test runs itself again with each.
#[test]
fn every_vector_width_gives_the_same_bits() {
    let digest = |case: &Case| {
        let (spikes, _, grads) = train(case, false, None, None);
        let bits = spikes
            .iter()
            .chain(&grads)
            .fold(17_u64, |hash, value| (hash ^ u64::from(value.to_bits())).wrapping_mul(0x100_0000_01b3));
        format!("{} {bits:016x}", case.name)
    };
    let ours: Vec<String> = cases().iter().map(digest).collect();
    if std::env::var_os("BLOCTRAIN_PRINT_DIGESTS").is_some() {
        ours.iter().for_each(|line| println!("case {line}"));
        return;
    }
    // Not on ARM, where an emulator could not start this program again: scripts/arm-kernels compares NEON with these.
    let lesser: &[&str] = if cfg!(target_arch = "x86_64") { &["avx2", "portable"] } else { &[] };
    for form in lesser {
        let program = std::env::current_exe().expect("this test");
        let output = std::process::Command::new(program)
            .args(["--exact", "every_vector_width_gives_the_same_bits", "--nocapture"])
            .env("BLOCTRAIN_SIMD", form)
            .env("BLOCTRAIN_PRINT_DIGESTS", "1")
            .output()
            .expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let theirs: Vec<&str> =
            text.lines().filter_map(|line| line.split_once("case ").map(|(_, case)| case)).collect();
        assert_eq!(theirs, ours, "{form}");
    }
}
