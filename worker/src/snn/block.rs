//! A block of a network with its classifier: the unit of training.

use super::frozen::FrozenHead;
use super::head::Head;
use super::layer::{Builder, Running};
use super::param::Store;
use super::pass::Pass;
use crate::kernel::cpu::Kept;
use crate::kernel::later::Later;
use crate::kernel::plan::{self, Body};
use crate::kernel::pool::AdaptivePool;
use crate::kernel::{BodyCall, BodyInput, Emitted, Mode, SpikingBackend, Statistic};
use bloctrain_shared::ImageShape;
use bloctrain_shared::geometry::{ShapeError, trace};
use bloctrain_shared::spec::network::Network;
use bloctrain_shared::spec::{NeuronSpec, Precision, RunSpec};
use bloctrain_shared::spike::SpikeDims;
use burn::tensor::Tensor;

/// Share of a batch's statistics in the running ones, as in PyTorch.
pub const MOMENTUM: f32 = 0.1;

/// Output of a block.
#[derive(Debug)]
pub struct BlockOutput<B: SpikingBackend> {
    /// Spikes that leave the block.
    pub spikes: Emitted<B>,
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
    /// Numbers in which convolutions are computed.
    pub precision: Precision,
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
            precision: spec.train.precision,
        })
    }
}

/// Parameters of a block's own layers that do not change any more, with what calls share.
#[derive(Debug)]
pub struct FrozenBody<B: SpikingBackend> {
    flat: Tensor<B, 1>,
    kept: Kept,
}

/// A block with its classifier.
#[derive(Debug, Clone)]
pub struct BlockNet<B: SpikingBackend> {
    /// Parameters and running statistics.
    pub store: Store<B>,
    body: Body,
    running: Vec<Running>,
    /// Number of tensors that belong to the body; they come first.
    body_tensors: usize,
    head: Head,
    /// Batch statistics that the device may still be working on, oldest first.
    queued: Vec<Later>,
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
        let mut builder = Builder::new(&mut store, geometry.input, config.steps, config.network.norm, &config.neuron);
        block.layers.iter().enumerate().for_each(|(index, layer)| builder.layer(index, layer));
        let (mut body, running) = builder.finish();
        body.precision = match config.precision {
            Precision::Auto => plan::Precision::Auto,
            Precision::F32 => plan::Precision::F32,
        };
        let body_tensors = store.params.len();
        let head = Head::new(&mut store, config.network.head_of(config.index), geometry.output, config.classes, &config.neuron);
        Ok(Self { store, body, running, body_tensors, head, queued: Vec::new() })
    }

    /// Time steps T.
    pub fn steps(&self) -> usize {
        self.body.steps
    }

    /// Sizes of the spikes that leave the block.
    pub fn spike_dims(&self) -> SpikeDims {
        let ImageShape { channels, height, width } = self.output();
        SpikeDims { steps: self.steps(), channels, height, width }
    }

    /// Shape of the maps that leave the block.
    pub fn output(&self) -> ImageShape {
        self.body.shape(self.body.output())
    }

    /// Trainable values of the block's own layers, without the classifier.
    pub fn body_parameters(&self) -> usize {
        self.body.parameters
    }

    /// The block's own layers.
    pub fn layers(&self) -> &Body {
        &self.body
    }

    fn flat(&self) -> Tensor<B, 1> {
        Tensor::cat(self.store.params[..self.body_tensors].iter().map(|param| param.value.clone()).collect(), 0)
    }

    /// Parameters of the block's own layers as they are now, for [`Self::body_on`].
    pub fn frozen_body(&self) -> FrozenBody<B> {
        FrozenBody { flat: self.flat(), kept: Kept::default() }
    }

    /// Spikes of the block's own layers.
    pub fn body(&self, input: BodyInput<B>, pass: &mut Pass) -> Emitted<B> {
        self.emit(self.flat(), None, input, pass, None)
    }

    /// The same for whoever runs the block often and keeps its parameters.
    pub fn body_on(&self, frozen: &FrozenBody<B>, input: BodyInput<B>, pass: &mut Pass) -> Emitted<B> {
        self.emit(frozen.flat.clone(), Some(&frozen.kept), input, pass, None)
    }

    /// Spikes of the block's own layers; in training only the averages of a pooling, where there is one.
    fn emit(
        &self,
        params: Tensor<B, 1>,
        kept: Option<&Kept>,
        input: BodyInput<B>,
        pass: &mut Pass,
        average: Option<&AdaptivePool>,
    ) -> Emitted<B> {
        let values = |id: super::param::BufferId| self.store.buffers[id.0].values.clone();
        let running: Vec<Statistic> = match pass.mode {
            Mode::Eval => {
                let one = |at: &Running| Statistic { mean: values(at.mean), variance: values(at.variance) };
                self.running.iter().map(one).collect()
            }
            Mode::Train { .. } => Vec::new(),
        };
        let call = BodyCall {
            body: &self.body,
            mode: pass.mode,
            running: &running,
            measure: pass.rates.is_some(),
            count: pass.count.is_some(),
            average,
            kept,
        };
        let output = B::body(&call, params, input);
        pass.absorb(output.record);
        output.emitted
    }

    /// The classifier with its parameters as they are now, for inference.
    pub fn frozen_head(&self) -> FrozenHead {
        self.head.freeze(&self.store)
    }

    /// Logits of spikes; see [`Head::forward`].
    pub fn classify(&self, spikes: &Emitted<B>, pass: &mut Pass, per_step: bool) -> Tensor<B, 3> {
        self.head.forward(&self.store, pass, spikes, per_step)
    }

    /// The whole block.
    pub fn forward(&self, input: BodyInput<B>, pass: &mut Pass, per_step: bool) -> BlockOutput<B> {
        let average = self.head.sees_averages(per_step).filter(|_| pass.mode != Mode::Eval);
        let spikes = self.emit(self.flat(), None, input, pass, average);
        let logits = self.classify(&spikes, pass, per_step);
        BlockOutput { spikes, logits }
    }

    /// Moves the running statistics towards a pass's batch statistics; those that a device may still be working on wait
    /// for [`settle`](Self::settle).
    pub fn update_statistics(&mut self, pass: &Pass) {
        self.blend(&pass.statistics);
        self.queued.extend(pass.queued.clone());
    }

    /// Takes in all batch statistics that waited.
    pub fn settle(&mut self) {
        for later in std::mem::take(&mut self.queued) {
            let values = later.read();
            let mut next = values.as_slice();
            let mut take = |count: usize| {
                let (own, rest) = next.split_at(count);
                next = rest;
                own.to_vec()
            };
            let one = |&channels: &usize| Statistic { mean: take(channels), variance: take(channels) };
            let statistics: Vec<Statistic> = self.body.statistics.iter().map(one).collect();
            self.blend(&statistics);
        }
    }

    fn blend(&mut self, statistics: &[Statistic]) {
        let blend = |running: &mut Vec<f32>, new: &[f32]| {
            running.iter_mut().zip(new).for_each(|(running, new)| *running += MOMENTUM * (new - *running));
        };
        for (at, new) in self.running.iter().zip(statistics) {
            blend(&mut self.store.buffers[at.mean.0].values, &new.mean);
            blend(&mut self.store.buffers[at.variance.0].values, &new.variance);
        }
    }
}
