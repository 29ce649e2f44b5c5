//! Classifiers on spikes: adaptive average pooling, spiking hidden layers, a linear readout.

use super::frozen::FrozenHead;
use super::layer::{LinearUnit, NeuronUnit};
use super::param::Store;
use super::pass::Pass;
use crate::kernel::pool::AdaptivePool;
use crate::kernel::{Emitted, SpikingBackend};
use bloctrain_shared::ImageShape;
use bloctrain_shared::spec::{HeadSpec, NeuronSpec};
use burn::tensor::Tensor;

/// A classifier.
#[derive(Debug, Clone)]
pub struct Head {
    pool: AdaptivePool,
    hidden: Vec<(LinearUnit, NeuronUnit)>,
    readout: LinearUnit,
}

impl Head {
    /// A classifier of `outputs` classes on `input`.
    pub fn new<B: SpikingBackend>(
        store: &mut Store<B>,
        spec: &HeadSpec,
        input: ImageShape,
        outputs: usize,
        neuron: &NeuronSpec,
    ) -> Self {
        let pool = AdaptivePool::new(input, spec.pool);
        let mut features = pool.features();
        let mut hidden = Vec::new();
        for (index, &size) in spec.hidden.iter().enumerate() {
            let name = format!("head.hidden{}", index + 1);
            hidden.push((LinearUnit::new(store, &name, features, size), NeuronUnit::new(store, &name, neuron)));
            features = size;
        }
        let readout = LinearUnit::new(store, "head.readout", features, outputs);
        Self { pool, hidden, readout }
    }

    /// The same with its parameters as they are now, for inference.
    pub fn freeze<B: SpikingBackend>(&self, store: &Store<B>) -> FrozenHead {
        let hidden = self.hidden.iter().map(|(linear, neuron)| (linear.freeze(store), neuron.freeze(store))).collect();
        FrozenHead::new(&self.pool, hidden, self.readout.freeze(store))
    }

    /// The pooling whose averages over windows and time are all that the classifier sees of the spikes, if they are.
    pub fn sees_averages(&self, per_step: bool) -> Option<&AdaptivePool> {
        (self.hidden.is_empty() && !per_step).then_some(&self.pool)
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
        let batch = pass.batch;
        let mut binary = self.pool.is_identity();
        if let Some(pool) = self.sees_averages(per_step) {
            let features = spikes.average(pool, pass.steps, store.device()).reshape([batch, pool.features()]);
            return self.readout.forward(store, pass, features, false).unsqueeze_dim::<3>(0);
        }
        let x = self.pool.forward(spikes.tensor(store.device()));
        let mut x = x.reshape([pass.steps * batch, self.pool.features()]);
        for (linear, neuron) in &self.hidden {
            let drive = linear.forward(store, pass, x, binary);
            x = neuron.forward(store, pass, drive);
            binary = true;
        }
        let features = x.dims()[1];
        if per_step {
            let logits = self.readout.forward(store, pass, x, binary);
            let outputs = logits.dims()[1];
            return logits.reshape([pass.steps, batch, outputs]);
        }
        let mean = x.reshape([pass.steps, batch, features]).mean_dim(0).reshape([batch, features]);
        self.readout.forward(store, pass, mean, false).unsqueeze_dim::<3>(0)
    }
}
