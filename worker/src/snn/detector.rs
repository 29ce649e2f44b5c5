//! The hard class detector: a small network on a block's time-averaged spikes that says how likely an input is hard.

use super::frozen::FrozenDetector;
use super::layer::LinearUnit;
use super::param::Store;
use super::pass::Pass;
use crate::kernel::pool::AdaptivePool;
use crate::kernel::{Emitted, SpikingBackend};
use bloctrain_shared::ImageShape;
use burn::tensor::activation::{log_sigmoid, relu};
use burn::tensor::{Tensor, TensorData};

/// Side of the pooled map that the detector sees.
const SIDE: usize = 4;

/// Hidden units.
const HIDDEN: usize = 64;

/// A detector.
#[derive(Debug, Clone)]
pub struct DetectorNet<B: SpikingBackend> {
    /// Its parameters.
    pub store: Store<B>,
    pool: AdaptivePool,
    hidden: LinearUnit,
    readout: LinearUnit,
}

impl<B: SpikingBackend> DetectorNet<B> {
    /// A detector on maps of one shape.
    pub fn new(input: ImageShape, seed: u64, block: u32, device: &B::Device) -> Self {
        let mut store = Store::new(device, seed, 1000 + u64::from(block));
        let pool = AdaptivePool::new(input, SIDE);
        let hidden = LinearUnit::new(&mut store, "hidden", pool.features(), HIDDEN);
        let readout = LinearUnit::new(&mut store, "readout", HIDDEN, 1);
        Self { store, pool, hidden, readout }
    }

    /// Features `[B, F]` of spikes: averages over time and over windows of the map.
    pub fn features(&self, spikes: &Emitted<B>, steps: usize) -> Tensor<B, 2> {
        let averages = spikes.average(&self.pool, steps, self.store.device());
        let batch = averages.dims()[0];
        averages.reshape([batch, self.width()])
    }

    /// Number of features.
    pub fn width(&self) -> usize {
        self.pool.features()
    }

    /// Logits `[B]` of "hard".
    pub fn logits(&self, features: Tensor<B, 2>, pass: &mut Pass) -> Tensor<B, 1> {
        let hidden = relu(self.hidden.forward(&self.store, pass, features, false));
        let rows = hidden.dims()[0];
        self.readout.forward(&self.store, pass, hidden, false).reshape([rows])
    }

    /// The same with its parameters as they are now, for inference.
    pub fn freeze(&self) -> FrozenDetector {
        FrozenDetector::new(&self.pool, self.hidden.freeze(&self.store), self.readout.freeze(&self.store))
    }
}

/// Binary cross-entropy of logits `[B]`, each sample weighted: `-w (y log σ(z) + (1 - y) log σ(-z))`, averaged by weight.
pub fn balanced_loss<B: SpikingBackend>(logits: Tensor<B, 1>, hard: &[bool], weights: [f32; 2]) -> Tensor<B, 1> {
    let weight = |hard: bool| weights[usize::from(hard)];
    let column = |values: Vec<f32>| Tensor::<B, 1>::from_data(TensorData::new(values, [hard.len()]), &logits.device());
    let positive = column(hard.iter().map(|&hard| if hard { weight(true) } else { 0.0 }).collect());
    let negative = column(hard.iter().map(|&hard| if hard { 0.0 } else { weight(false) }).collect());
    let total: f32 = hard.iter().map(|&hard| weight(hard)).sum();
    let sum = (positive * log_sigmoid(logits.clone()) + negative * log_sigmoid(logits.clone().neg())).sum();
    sum.neg().div_scalar(total.max(f32::MIN_POSITIVE))
}
