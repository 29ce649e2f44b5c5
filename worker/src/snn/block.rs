//! A block of a network with its classifier: the unit of training.

use super::head::Head;
use super::layer::Layer;
use super::param::Store;
use super::pass::{Flow, Pass};
use crate::kernel::SpikingBackend;
use bloctrain_shared::ImageShape;
use bloctrain_shared::geometry::{ShapeError, trace};
use bloctrain_shared::spec::network::Network;
use bloctrain_shared::spec::{NeuronSpec, RunSpec};
use bloctrain_shared::spike::SpikeDims;
use burn::tensor::Tensor;

/// Share of a batch's statistics in the running ones, as in PyTorch.
pub const MOMENTUM: f32 = 0.1;

/// Input of a block.
#[derive(Debug, Clone)]
pub enum BlockInput<B: SpikingBackend> {
    /// Images presented at every step, `[B, C, H, W]`.
    Image(Tensor<B, 4>),
    /// Spikes `[T, B, C, H, W]`.
    Spikes(Tensor<B, 5>),
}

impl<B: SpikingBackend> BlockInput<B> {
    /// Number of samples.
    pub fn batch(&self) -> usize {
        match self {
            Self::Image(x) => x.dims()[0],
            Self::Spikes(x) => x.dims()[1],
        }
    }
}

/// Output of a block.
#[derive(Debug)]
pub struct BlockOutput<B: SpikingBackend> {
    /// Spikes that leave the block, `[T * B, C, H, W]`.
    pub spikes: Tensor<B, 4>,
    /// Logits `[R, B, classes]`; see [`Head::forward`].
    pub logits: Tensor<B, 3>,
}

/// Which block of which network.
#[derive(Debug, Clone)]
pub struct BlockConfig {
    /// The network, joined into one block for end-to-end training.
    pub network: Network,
    /// Its neurons.
    pub neuron: NeuronSpec,
    /// Time steps.
    pub steps: usize,
    /// Shape of the images.
    pub image: ImageShape,
    /// Index of the block, from 0.
    pub index: usize,
    /// Number of classes that it tells apart.
    pub classes: usize,
    /// Seed of the initial values.
    pub seed: u64,
}

impl BlockConfig {
    /// Block `number` (from 1) of a run's network, with `classes` classes.
    ///
    /// # Errors
    /// When the spec's network does not resolve.
    pub fn new(
        spec: &RunSpec,
        image: ImageShape,
        number: u32,
        classes: usize,
    ) -> Result<Self, bloctrain_shared::spec::network::ResolveError> {
        let network = spec.network.resolve()?;
        let network = if spec.run.end_to_end { network.joined() } else { network };
        Ok(Self {
            network,
            neuron: spec.neuron.clone(),
            steps: spec.encoding.steps,
            image,
            index: (number as usize).saturating_sub(1),
            classes,
            seed: spec.run.seed,
        })
    }
}

/// A block with its classifier.
#[derive(Debug, Clone)]
pub struct BlockNet<B: SpikingBackend> {
    /// Parameters and running statistics.
    pub store: Store<B>,
    layers: Vec<Layer>,
    head: Head,
    steps: usize,
    output: ImageShape,
    body_parameters: usize,
}

impl<B: SpikingBackend> BlockNet<B> {
    /// A block with its initial values, which depend on the seed alone.
    ///
    /// # Errors
    /// Names the layer that does not fit its input.
    pub fn new(config: &BlockConfig, device: &B::Device) -> Result<Self, ShapeError> {
        let geometry = trace(&config.network, config.image)?;
        let missing =
            || ShapeError { block: config.index + 1, layer: "block".into(), problem: "the network has no such block".into() };
        let block = config.network.blocks.get(config.index).ok_or_else(missing)?;
        let geometry = geometry.get(config.index).ok_or_else(missing)?;
        let mut store = Store::new(device, config.seed, config.index as u64);
        let mut input = geometry.input;
        let mut layers = Vec::with_capacity(block.layers.len());
        for (index, (spec, output)) in block.layers.iter().zip(&geometry.layers).enumerate() {
            layers.push(Layer::new(&mut store, index, spec, input, config.network.norm, &config.neuron));
            input = *output;
        }
        let body_parameters = store.parameters();
        let head = Head::new(&mut store, config.network.head_of(config.index), input, config.classes, &config.neuron);
        Ok(Self { store, layers, head, steps: config.steps, output: geometry.output, body_parameters })
    }

    /// Time steps T.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Sizes of the spikes that leave the block.
    pub fn spike_dims(&self) -> SpikeDims {
        let ImageShape { channels, height, width } = self.output;
        SpikeDims { steps: self.steps, channels, height, width }
    }

    /// Shape of the maps that leave the block.
    pub fn output(&self) -> ImageShape {
        self.output
    }

    /// Trainable values of the block's own layers, without the classifier.
    pub fn body_parameters(&self) -> usize {
        self.body_parameters
    }

    /// Spikes `[T * B, C, H, W]` of the block's own layers.
    pub fn body(&self, input: BlockInput<B>, pass: &mut Pass) -> Tensor<B, 4> {
        let start = match input {
            BlockInput::Image(x) => Flow::Constant(x),
            BlockInput::Spikes(x) => {
                let [steps, batch, channels, height, width] = x.dims();
                Flow::Changing { x: x.reshape([steps * batch, channels, height, width]), binary: true }
            }
        };
        match self.layers.iter().fold(start, |flow, layer| layer.forward(&self.store, pass, flow)) {
            Flow::Changing { x, .. } | Flow::Constant(x) => x,
        }
    }

    /// Logits of spikes; see [`Head::forward`].
    pub fn classify(&self, spikes: Tensor<B, 4>, pass: &mut Pass, per_step: bool) -> Tensor<B, 3> {
        self.head.forward(&self.store, pass, spikes, per_step)
    }

    /// The whole block.
    pub fn forward(&self, input: BlockInput<B>, pass: &mut Pass, per_step: bool) -> BlockOutput<B> {
        let spikes = self.body(input, pass);
        let logits = self.classify(spikes.clone(), pass, per_step);
        BlockOutput { spikes, logits }
    }

    /// Moves the running statistics towards a pass's batch statistics.
    pub fn update_statistics(&mut self, pass: &Pass) {
        let blend = |running: &mut Vec<f32>, new: &[f32]| {
            running.iter_mut().zip(new).for_each(|(running, new)| *running += MOMENTUM * (new - *running));
        };
        for new in &pass.statistics {
            blend(&mut self.store.buffers[new.mean_id.0].values, &new.mean);
            blend(&mut self.store.buffers[new.variance_id.0].values, &new.variance);
        }
    }
}
