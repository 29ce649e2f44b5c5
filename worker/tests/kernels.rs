//! The CPU operations against the plain reference: values and gradients, on random shapes, for any number of threads.

use bloctrain_shared::spec::{Reset, Surrogate};
use bloctrain_worker::kernel::{BatchNormSaved, ConvRule, NeuronRule, SpikingBackend, reference};
use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use proptest::prelude::*;

type Primitive = burn::tensor::ops::FloatTensor<Flex>;

fn noise(count: usize, seed: u64) -> Vec<f32> {
    let step = |index: usize| (index as u64 + 1).wrapping_mul(seed.wrapping_mul(2) + 0x9e37_79b9_7f4a_7c15) >> 40;
    (0..count).map(|index| step(index) as f32 / f32::powi(2.0, 23) - 1.0).collect()
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Primitive {
    Tensor::<Flex, D>::from_data(TensorData::new(values, shape), &Default::default()).into_primitive().tensor()
}

fn host<const D: usize>(primitive: Primitive) -> Vec<f32> {
    Tensor::<Flex, D>::from_primitive(TensorPrimitive::Float(primitive)).into_data().into_vec().expect("floats")
}

fn close(ours: &[f32], theirs: &[f32], bound: f32) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(theirs) {
        prop_assert!((a - b).abs() <= bound * b.abs().max(1.0), "{} is not {}", a, b);
    }
    Ok(())
}

fn in_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn convolution(n in 1_usize..10, c in 1_usize..6, o in 1_usize..7, h in 3_usize..12, w in 3_usize..12, k in 0_usize..3, stride in 1_usize..4, spikes: bool, seed: u64) {
        let kernel = 2 * k + 1;
        let rule = ConvRule { stride, padding: k };
        let out = |size: usize| (size + 2 * k - kernel) / stride + 1;
        let values = noise(n * c * h * w, seed);
        let values = if spikes { values.iter().map(|value| f32::from(u8::from(*value > 0.5))).collect() } else { values };
        let x = || tensor(values.clone(), [n, c, h, w]);
        let weight = || tensor(noise(o * c * kernel * kernel, seed ^ 1), [o, c, kernel, kernel]);
        let grad = || tensor(noise(n * o * out(h) * out(w), seed ^ 2), [n, o, out(h), out(w)]);
        let all = |threads| in_threads(threads, || [
            host::<4>(Flex::convolve(x(), weight(), rule)),
            host::<4>(Flex::convolve_input_grad(x(), weight(), grad(), rule)),
            host::<4>(Flex::convolve_weight_grad(x(), weight(), grad(), rule)),
        ]);
        let ours = all(1);
        for threads in [2, 8] {
            prop_assert!(all(threads) == ours, "other bits with {} threads", threads);
        }
        close(&ours[0], &host::<4>(reference::conv2d::<Flex>(x(), weight(), rule)), 1e-4)?;
        close(&ours[1], &host::<4>(reference::conv2d_input_grad::<Flex>(x(), weight(), grad(), rule)), 1e-4)?;
        close(&ours[2], &host::<4>(reference::conv2d_weight_grad::<Flex>(x(), weight(), grad(), rule)), 1e-4)?;
    }

    #[test]
    fn batch_norm(n in 1_usize..6, c in 1_usize..7, h in 1_usize..9, w in 2_usize..9, seed: u64) {
        let x = || tensor(noise(n * c * h * w, seed), [n, c, h, w]);
        let (gamma, beta) = (|| tensor(noise(c, seed ^ 1), [c]), || tensor(noise(c, seed ^ 2), [c]));
        let grad = || tensor(noise(n * c * h * w, seed ^ 3), [n, c, h, w]);
        let [y, mean, variance] = Flex::batch_norm(x(), gamma(), beta(), 1e-5);
        let [y2, mean2, variance2] = reference::batch_norm::<Flex>(x(), gamma(), beta(), 1e-5);
        close(&host::<4>(y), &host::<4>(y2), 1e-3)?;
        close(&host::<1>(mean), &host::<1>(mean2), 1e-5)?;
        close(&host::<1>(variance), &host::<1>(variance2), 1e-5)?;
        // With the reference's statistics, so that a tiny variance does not blow up their rounding.
        let [_, mean, variance] = reference::batch_norm::<Flex>(x(), gamma(), beta(), 1e-5);
        let saved = || BatchNormSaved { x: x(), gamma: gamma(), mean: mean.clone(), variance: variance.clone(), epsilon: 1e-2 };
        let all = |threads| in_threads(threads, || Flex::batch_norm_grad(saved(), grad()).map(|grad| grad.to_contiguous()));
        let [x_grad, gamma_grad, beta_grad] = all(1);
        let [x_other, _, _] = all(2);
        let x_grad = host::<4>(x_grad);
        prop_assert!(host::<4>(x_other) == x_grad, "other bits with 2 threads");
        let [x_grad2, gamma_grad2, beta_grad2] = reference::batch_norm_grad::<Flex>(saved(), grad());
        close(&x_grad, &host::<4>(x_grad2), 1e-3)?;
        close(&host::<1>(gamma_grad), &host::<1>(gamma_grad2), 1e-3)?;
        close(&host::<1>(beta_grad), &host::<1>(beta_grad2), 1e-3)?;
    }

    #[test]
    fn neurons(steps in 1_usize..6, sites in prop_oneof![1_usize..40, Just(2500_usize)], which in 0_usize..16, leak in 0.0_f32..1.0, seed: u64) {
        let rule = NeuronRule {
            threshold: 0.5,
            reset: if which & 1 == 0 { Reset::Subtract } else { Reset::Zero },
            detach_reset: which & 2 == 0,
            surrogate: [Surrogate::Atan, Surrogate::FastSigmoid, Surrogate::Triangle, Surrogate::Rectangle][which >> 2],
            width: 1.5,
        };
        let x = || tensor(noise(steps * sites, seed), [steps, sites]);
        let leak = || tensor(vec![leak], [1]);
        let grad = || tensor(noise(steps * sites, seed ^ 1), [steps, sites]);
        let ours = host::<2>(Flex::neuron(x(), leak(), rule));
        prop_assert_eq!(&ours, &host::<2>(reference::neuron::<Flex>(x(), leak(), rule)));
        prop_assert!(in_threads(2, || host::<2>(Flex::neuron(x(), leak(), rule))) == ours);
        let [x_grad, leak_grad] = Flex::neuron_grad(x(), leak(), grad(), rule);
        let [x_grad2, leak_grad2] = reference::neuron_grad::<Flex>(x(), leak(), grad(), rule);
        close(&host::<2>(x_grad), &host::<2>(x_grad2), 1e-5)?;
        close(&host::<1>(leak_grad), &host::<1>(leak_grad2), 1e-3)?;
    }
}
