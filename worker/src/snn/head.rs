//! Classifiers on spikes: adaptive average pooling, spiking hidden layers, a linear readout.

use super::dense::{fully_connected, neurons};
use super::param::Store;
use super::pass::Pass;
use crate::kernel::{Emitted, SpikingBackend, pool};
use bloctrain_shared::graph::Classifier;
use burn_tensor::Tensor;

/// A classifier with the place of its parameters.
#[derive(Debug, Clone)]
pub struct Head {
    graph: Classifier,
    /// Index of its first parameter.
    first: usize,
}

impl Head {
    /// A classifier whose parameters are added to a store.
    pub fn new<B: SpikingBackend>(store: &mut Store<B>, graph: Classifier) -> Self {
        let first = store.add(&graph.parameters);
        Self { graph, first }
    }

    /// What it computes.
    pub fn graph(&self) -> &Classifier {
        &self.graph
    }

    /// Logits `[R, B, outputs]` of a body's spikes.
    ///
    /// R is T where `per_step` asks for it. Otherwise R is 1: the readout is linear, so it is applied to the average
    /// over time.
    pub fn forward<B: SpikingBackend>(
        &self,
        store: &Store<B>,
        pass: &mut Pass,
        spikes: &Emitted<B>,
        per_step: bool,
    ) -> Tensor<B, 3> {
        let (Classifier { pool, hidden, readout, .. }, at) = (&self.graph, (store, self.first));
        let batch = pass.batch;
        let mut binary = pool.is_identity();
        if let Some(pool) = self.graph.sees_averages(per_step) {
            let features = spikes.average(pool, pass.steps, store.device()).reshape([batch, pool.features()]);
            return fully_connected(at, readout, pass, features, false).unsqueeze_dim::<3>(0);
        }
        let x = pool::forward(pool, spikes.tensor(store.device()));
        let mut x = x.reshape([pass.steps * batch, pool.features()]);
        for layer in hidden {
            let drive = fully_connected(at, &layer.dense, pass, x, binary);
            x = neurons(at, layer, pass, drive);
            binary = true;
        }
        let features = x.dims()[1];
        if per_step {
            let logits = fully_connected(at, readout, pass, x, binary);
            let outputs = logits.dims()[1];
            return logits.reshape([pass.steps, batch, outputs]);
        }
        let mean = x.reshape([pass.steps, batch, features]).mean_dim(0).reshape([batch, features]);
        fully_connected(at, readout, pass, mean, false).unsqueeze_dim::<3>(0)
    }
}
