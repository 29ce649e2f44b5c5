//! Classifiers on spikes: adaptive average pooling, spiking hidden layers, a linear readout.

use super::frozen::FrozenHead;
use super::layer::{LinearUnit, NeuronUnit};
use super::param::Store;
use super::pass::Pass;
use crate::kernel::{Emitted, SpikingBackend};
use bloctrain_shared::ImageShape;
use bloctrain_shared::spec::{HeadSpec, NeuronSpec};
use burn::tensor::{Tensor, TensorData};

/// Adaptive average pooling of a map to at most `side` x `side`, as one constant matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    input: ImageShape,
    side: (usize, usize),
}

impl Pool {
    /// Pooling of `input`; a side of 0 keeps the map as it is.
    pub fn new(input: ImageShape, side: usize) -> Self {
        let limit = |size: usize| if side == 0 { size } else { size.min(side) };
        Self { input, side: (limit(input.height), limit(input.width)) }
    }

    /// Whether pooling changes nothing.
    pub fn is_identity(&self) -> bool {
        self.side == (self.input.height, self.input.width)
    }

    /// Channels, rows and columns of what is pooled.
    pub fn input(&self) -> ImageShape {
        self.input
    }

    /// Number of features after pooling.
    pub fn features(&self) -> usize {
        self.input.channels * self.side.0 * self.side.1
    }

    /// Positions `[H * W]` of every window of one channel, row by row: window i of n covers
    /// `floor(i size / n) .. ceil((i + 1) size / n)`, as in PyTorch.
    pub fn windows(&self) -> Vec<Vec<usize>> {
        let window = |index: usize, parts: usize, size: usize| (index * size / parts)..((index + 1) * size).div_ceil(parts);
        let ImageShape { height, width, .. } = self.input;
        let (rows, columns) = self.side;
        let mut windows = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            for column in 0..columns {
                let at = |y: usize| window(column, columns, width).map(move |x| y * width + x);
                windows.push(window(row, rows, height).flat_map(at).collect());
            }
        }
        windows
    }

    /// Weights `[H * W, h * w]`.
    fn matrix(&self) -> Vec<f32> {
        let windows = self.windows();
        let mut matrix = vec![0.0; self.input.area() * windows.len()];
        for (part, positions) in windows.iter().enumerate() {
            positions.iter().for_each(|position| matrix[position * windows.len() + part] = 1.0 / positions.len() as f32);
        }
        matrix
    }

    /// Pools `x [N, C, H, W]` to `[N, features]`.
    pub fn forward<B: SpikingBackend>(&self, x: Tensor<B, 4>) -> Tensor<B, 2> {
        let [frames, channels, _, _] = x.dims();
        if self.is_identity() {
            return x.reshape([frames, self.features()]);
        }
        let parts = self.side.0 * self.side.1;
        let matrix: Tensor<B, 2> = Tensor::from_data(TensorData::new(self.matrix(), [self.input.area(), parts]), &x.device());
        x.reshape([frames * channels, self.input.area()]).matmul(matrix).reshape([frames, self.features()])
    }
}

/// A classifier.
#[derive(Debug, Clone)]
pub struct Head {
    pool: Pool,
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
        let pool = Pool::new(input, spec.pool);
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

    /// Whether the average over time is all that the classifier sees of the spikes.
    pub fn needs_only_the_mean(&self, per_step: bool) -> bool {
        self.hidden.is_empty() && !per_step
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
        if self.needs_only_the_mean(per_step) {
            let features = self.pool.forward(spikes.mean(pass.steps, store.device()));
            return self.readout.forward(store, pass, features, false).unsqueeze_dim::<3>(0);
        }
        let mut x = self.pool.forward(spikes.tensor(store.device()));
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
