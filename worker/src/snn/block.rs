//! A block of a network with its classifier: the unit of training.

use super::head::Head;
use super::param::{Buffer, Store};
use super::pass::Pass;
use crate::kernel::later::Later;
use crate::kernel::{self, BodyCall, BodyInput, Call, Emitted, Mode, SpikingBackend, Statistic};
use bloctrain_shared::ImageShape;
use bloctrain_shared::graph::{AdaptivePool, BlockGraph, Body, Detector, Graph, GraphError, Running, ShapeError};
use bloctrain_shared::spec::{Precision, RunSpec};
use bloctrain_shared::spike::SpikeDims;
use burn_tensor::Tensor;

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

/// A block in the making.
#[derive(Debug, Clone)]
pub struct BlockConfig {
    /// The block of the network's graph.
    pub graph: BlockGraph,
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
    /// When the spec's network does not resolve, names the layer that does not fit its input, or says that there is no such
    /// block.
    pub fn new(spec: &RunSpec, image: ImageShape, number: u32, classes: usize) -> Result<Self, GraphError> {
        let mut blocks = Graph::new(spec, image)?.blocks;
        let index = (number as usize).saturating_sub(1);
        if index >= blocks.len() {
            let problem = "the network has no such block".into();
            return Err(ShapeError { block: number as usize, layer: "block".into(), problem }.into());
        }
        let (seed, precision) = (spec.run.seed, spec.train.precision);
        Ok(Self { graph: blocks.swap_remove(index), index, classes, seed, precision })
    }
}

/// A block with its classifier.
#[derive(Debug, Clone)]
pub struct BlockNet<B: SpikingBackend> {
    /// Parameters and running statistics.
    pub store: Store<B>,
    graph: BlockGraph,
    head: Head,
    precision: kernel::ConvPrecision,
    /// Batch statistics that the device may still be working on, oldest first.
    queued: Vec<Later>,
}

impl<B: SpikingBackend> BlockNet<B> {
    /// A block with its initial values, which depend on the seed alone.
    pub fn new(config: &BlockConfig, device: &B::Device) -> Self {
        let graph = config.graph.clone();
        let mut store = Store::new(device, config.seed, config.index as u64);
        store.add(&graph.body.parameters);
        store.add_running(&graph.body.running);
        let head = Head::new(&mut store, graph.classifier(config.classes));
        Self { store, graph, head, precision: config.precision.into(), queued: Vec::new() }
    }

    /// Time steps T.
    pub fn steps(&self) -> usize {
        self.graph.body.steps
    }

    /// Sizes of the spikes that leave the block.
    pub fn spike_dims(&self) -> SpikeDims {
        let ImageShape { channels, height, width } = self.output();
        SpikeDims { steps: self.steps(), channels, height, width }
    }

    /// Shape of the maps that leave the block.
    pub fn output(&self) -> ImageShape {
        self.graph.output()
    }

    /// Trainable values of the block's own layers, without the classifier.
    pub fn body_parameters(&self) -> usize {
        self.graph.body.length()
    }

    /// The block's own layers.
    pub fn layers(&self) -> &Body {
        &self.graph.body
    }

    /// What a detector on the block computes.
    pub fn detector(&self) -> Detector {
        self.graph.detector()
    }

    fn flat(&self) -> Tensor<B, 1> {
        // The body's parameters come first.
        let own = &self.store.params[..self.graph.body.parameters.len()];
        Tensor::cat(own.iter().map(|param| param.value.clone()).collect(), 0)
    }

    /// Running statistics of every norm.
    fn running(&self) -> Vec<Statistic> {
        let (pairs, _) = self.store.buffers.as_chunks::<2>();
        let one = |[mean, variance]: &[Buffer; 2]| Statistic { mean: mean.values.clone(), variance: variance.values.clone() };
        pairs.iter().map(one).collect()
    }

    /// The block's own layers with their parameters as they are now, for inference.
    pub fn frozen_body(&self) -> B::Frozen {
        B::freeze(&self.graph.body, self.flat(), self.running(), self.precision)
    }

    /// Spikes of the block's own layers.
    pub fn body(&self, input: BodyInput<B>, pass: &mut Pass) -> Emitted<B> {
        self.emit(input, pass, None)
    }

    /// Spikes of the block's own layers; in training only the averages of a pooling, where there is one.
    fn emit(&self, input: BodyInput<B>, pass: &mut Pass, average: Option<&AdaptivePool>) -> Emitted<B> {
        let running = if pass.mode.trains() { Vec::new() } else { self.running() };
        let call = BodyCall {
            call: Call {
                body: &self.graph.body,
                mode: pass.mode,
                running: &running,
                measure: pass.rates.is_some(),
                count: pass.count.is_some(),
                average,
            },
            precision: self.precision,
        };
        let output = B::body(&call, self.flat(), input);
        pass.absorb(output.record);
        output.emitted
    }

    /// Logits of spikes; see [`Head::forward`].
    pub fn classify(&self, spikes: &Emitted<B>, pass: &mut Pass, per_step: bool) -> Tensor<B, 3> {
        self.head.forward(&self.store, pass, spikes, per_step)
    }

    /// The whole block.
    pub fn forward(&self, input: BodyInput<B>, pass: &mut Pass, per_step: bool) -> BlockOutput<B> {
        let average = self.head.graph().sees_averages(per_step).filter(|_| pass.mode != Mode::Eval);
        let spikes = self.emit(input, pass, average);
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
            let one = |norm: &Running| Statistic { mean: take(norm.channels), variance: take(norm.channels) };
            let statistics: Vec<Statistic> = self.graph.body.running.iter().map(one).collect();
            self.blend(&statistics);
        }
    }

    fn blend(&mut self, statistics: &[Statistic]) {
        let blend = |running: &mut Vec<f32>, new: &[f32]| {
            running.iter_mut().zip(new).for_each(|(running, new)| *running += MOMENTUM * (new - *running));
        };
        let (pairs, _) = self.store.buffers.as_chunks_mut::<2>();
        for ([mean, variance], new) in pairs.iter_mut().zip(statistics) {
            blend(&mut mean.values, &new.mean);
            blend(&mut variance.values, &new.variance);
        }
    }
}
