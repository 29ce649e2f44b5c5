//! The neuron against SpikingJelly 2.0 and snnTorch 1.0: spikes, membranes and gradients.
//!
//! The vectors are made by `scripts/make_golden_vectors.py`.

use bloctrain_shared::neuron::{NeuronModel, NeuronRule, Reset, Surrogate};
use bloctrain_worker::kernel::{self, SpikingBackend, reference};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use burn_tensor::{Tensor, TensorData};
use serde::Deserialize;

type Device = <Flex as burn_tensor::backend::BackendTypes>::Device;

#[derive(Deserialize)]
struct Golden {
    steps: usize,
    sites: usize,
    x: Vec<f32>,
    g: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    model: NeuronModel,
    leak: f32,
    threshold: f32,
    reset: Reset,
    detach_reset: bool,
    surrogate: Surrogate,
    surrogate_width: f32,
    spikes: String,
    membranes: Vec<f32>,
    x_grad: Vec<f32>,
    leak_grad: Option<f32>,
}

impl Case {
    fn rule(&self) -> NeuronRule {
        NeuronRule {
            threshold: self.threshold,
            reset: self.reset,
            detach_reset: self.detach_reset,
            surrogate: self.surrogate,
            width: self.surrogate_width,
        }
    }

    fn name(&self, file: &str) -> String {
        format!("{file} {:?} {:?} {:?} detached {}", self.model, self.surrogate, self.reset, self.detach_reset)
    }
}

fn host<B: burn_tensor::backend::Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().into_vec().expect("floats")
}

/// Largest difference, relative where the value is above 1.
fn error(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max)
}

fn check(file: &str, text: &str) {
    let golden: Golden = serde_json::from_str(text).expect("the vectors are JSON");
    let device = Device::default();
    let shape = [golden.steps, golden.sites];
    let matrix = |values: &[f32]| TensorData::new(values.to_vec(), shape);
    let mut worst = 0.0_f32;
    for case in &golden.cases {
        let name = case.name(file);
        let expected: Vec<f32> = case.spikes.bytes().map(|digit| f32::from(digit - b'0')).collect();
        let plain: Tensor<Flex, 2> = Tensor::from_data(matrix(&golden.x), &device);
        let leak: Tensor<Flex, 1> = Tensor::from_data([case.leak], &device);
        worst =
            worst.max(error(&host(reference::membranes(plain.clone(), leak.clone(), case.rule())), &case.membranes));
        let by_reference = reference::neuron_grad::<Flex>(
            plain.into_primitive().tensor(),
            leak.into_primitive().tensor(),
            Tensor::<Flex, 2>::from_data(matrix(&golden.g), &device).into_primitive().tensor(),
            case.rule(),
        );
        let [x_grad, leak_grad] = by_reference.map(burn_tensor::TensorPrimitive::Float);
        let x_grad = host(Tensor::<Flex, 2>::from_primitive(x_grad));
        let leak_grad = host(Tensor::<Flex, 1>::from_primitive(leak_grad))[0];
        let (spikes, fast_x_grad, fast_leak_grad) = differentiate::<Flex>(&golden, case);
        assert_eq!(spikes, expected, "{name}: spikes");
        for (ours, which) in [(&x_grad, "reference"), (&fast_x_grad, "fast")] {
            let error = error(ours, &case.x_grad);
            assert!(error < 1e-5, "{name}: {which} input gradient is off by {error}");
            worst = worst.max(error);
        }
        if let Some(theirs) = case.leak_grad {
            let error = error(&[leak_grad, fast_leak_grad], &[theirs, theirs]);
            assert!(error < 1e-5, "{name}: leak gradient is off by {error}");
            worst = worst.max(error);
        }
    }
    assert!(worst < 1e-5, "{file}: worst error {worst}");
    println!("{file}: {} cases, worst error {worst:e}", golden.cases.len());
}

/// Spikes and gradients of `sum(g * spikes)` through autodiff, for the input and the leak.
fn differentiate<B: SpikingBackend>(golden: &Golden, case: &Case) -> (Vec<f32>, Vec<f32>, f32) {
    let device = B::Device::default();
    let matrix = |values: &[f32]| TensorData::new(values.to_vec(), [golden.steps, golden.sites]);
    let x = Tensor::<Autodiff<B>, 2>::from_data(matrix(&golden.x), &device).require_grad();
    let leak = Tensor::<Autodiff<B>, 1>::from_data([case.leak], &device).require_grad();
    let spikes = kernel::neuron(x.clone(), leak.clone(), case.rule());
    let g = Tensor::from_data(matrix(&golden.g), &device);
    let grads = (spikes.clone() * g).sum().backward();
    let x_grad = host(x.grad(&grads).expect("tracked"));
    let leak_grad = host(leak.grad(&grads).expect("tracked"))[0];
    (host(spikes.inner()), x_grad, leak_grad)
}

#[test]
fn lif_agrees_with_spikingjelly() {
    check("spikingjelly lif", include_str!("golden/spikingjelly_lif.json"));
}

#[test]
fn if_agrees_with_spikingjelly() {
    check("spikingjelly if", include_str!("golden/spikingjelly_if.json"));
}

#[test]
fn plif_agrees_with_spikingjelly() {
    check("spikingjelly plif", include_str!("golden/spikingjelly_plif.json"));
}

#[test]
fn a_learned_leak_agrees_with_snntorch() {
    check("snntorch leaky", include_str!("golden/snntorch_leaky.json"));
}
