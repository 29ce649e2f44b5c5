//! The hard class detector: a small network on a block's time-averaged spikes that says how likely an input is hard.

use super::dense::fully_connected;
use super::param::Store;
use super::pass::Pass;
use crate::kernel::{Emitted, SpikingBackend};
use bloctrain_shared::graph::Detector;
use burn_tensor::activation::relu;
use burn_tensor::{Tensor, TensorData};

/// A detector.
#[derive(Debug, Clone)]
pub struct DetectorNet<B: SpikingBackend> {
    /// Its parameters.
    pub store: Store<B>,
    graph: Detector,
}

impl<B: SpikingBackend> DetectorNet<B> {
    /// The detector of a block, with first values that depend on the seed and the block's number.
    pub fn new(graph: Detector, seed: u64, block: u32, device: &B::Device) -> Self {
        let mut store = Store::new(device, seed, 1000 + u64::from(block));
        store.add(&graph.parameters);
        Self { store, graph }
    }

    /// Features `[B, F]` of spikes: averages over time and over windows of the map.
    pub fn features(&self, spikes: &Emitted<B>, steps: usize) -> Tensor<B, 2> {
        let averages = spikes.average(&self.graph.pool, steps, self.store.device());
        let batch = averages.dims()[0];
        averages.reshape([batch, self.width()])
    }

    /// Number of features.
    pub fn width(&self) -> usize {
        self.graph.pool.features()
    }

    /// Logits `[B]` of "hard".
    pub fn logits(&self, features: Tensor<B, 2>, pass: &mut Pass) -> Tensor<B, 1> {
        let hidden = relu(fully_connected((&self.store, 0), &self.graph.hidden, pass, features, false));
        let rows = hidden.dims()[0];
        fully_connected((&self.store, 0), &self.graph.readout, pass, hidden, false).reshape([rows])
    }
}

/// Binary cross-entropy of logits `[B]`, each sample weighted: `-w (y log σ(z) + (1 - y) log σ(-z))`, averaged by
/// weight.
pub fn balanced_loss<B: SpikingBackend>(logits: Tensor<B, 1>, hard: &[bool], weights: [f32; 2]) -> Tensor<B, 1> {
    // As two classes whose logits are z and 0: the softmax of these is σ(z) and σ(-z).
    let of = |hard: bool| if hard { [weights[1], 0.0] } else { [0.0, weights[0]] };
    let target: Vec<f32> = hard.iter().flat_map(|&hard| of(hard)).collect();
    let total: f32 = target.iter().sum();
    let target = Tensor::from_data(TensorData::new(target, [hard.len(), 2]), &logits.device());
    let column: Tensor<B, 2> = logits.unsqueeze_dim(1);
    let pairs = Tensor::cat(vec![column.clone(), column.zeros_like()], 1);
    B::cross_entropy(pairs, target).div_scalar(total.max(f32::MIN_POSITIVE))
}
