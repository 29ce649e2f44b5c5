//! A block of a network with its classifier: the unit of training.

use super::head::Head;
use super::param::{Buffer, LoadError, Store};
use super::pass::Pass;
use crate::kernel::later::Later;
use crate::kernel::{
    BodyCall, BodyInput, BodyOutput, Call, ConvPrecision, Emitted, Mode, SpikingBackend, Statistic, Tap,
};
use bloctrain_infer::{NamedTensor, NamedTensors};
use bloctrain_shared::ImageShape;
use bloctrain_shared::graph::{AdaptivePool, BlockGraph, Body, Detector, Graph, GraphError, Running, ShapeError};
use bloctrain_shared::spec::{Precision, RunSpec};
use bloctrain_shared::spike::SpikeDims;
use burn_tensor::Tensor;
use std::collections::BTreeMap;

/// Share of a batch's statistics in the running ones, as in PyTorch.
pub const MOMENTUM: f32 = 0.1;

/// Output of a block.
#[derive(Debug)]
pub struct BlockOutput<B: SpikingBackend> {
    /// Spikes that leave the block.
    pub spikes: Emitted<B>,
    /// Logits `[R, B, classes]`; see [`Head::forward`].
    pub logits: Tensor<B, 3>,
    /// Logits of the auxiliary network, in training.
    pub auxiliary: Option<Tensor<B, 3>>,
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
    /// Factor of the gradient that the block gets from its own classifier, where it has an auxiliary network.
    pub exit_gradient: f64,
}

impl BlockConfig {
    /// Block `number` (from 1) of a run's network, with `classes` classes.
    ///
    /// # Errors
    /// When the spec's network does not resolve, names the layer that does not fit its input, or says that there is no
    /// such block.
    pub fn new(spec: &RunSpec, image: ImageShape, number: u32, classes: usize) -> Result<Self, GraphError> {
        let mut blocks = Graph::new(spec, image)?.blocks;
        let index = (number as usize).saturating_sub(1);
        if index >= blocks.len() {
            let problem = "the network has no such block".into();
            return Err(ShapeError { block: number as usize, layer: "block".into(), problem }.into());
        }
        Ok(Self {
            graph: blocks.swap_remove(index),
            index,
            classes,
            seed: spec.run.seed,
            precision: spec.train.precision,
            exit_gradient: spec.network.auxiliary.exit_gradient,
        })
    }
}

/// A block with its classifier.
#[derive(Debug, Clone)]
pub struct BlockNet<B: SpikingBackend> {
    /// Parameters and running statistics.
    pub store: Store<B>,
    graph: BlockGraph,
    head: Head,
    /// The classifier of the auxiliary network.
    auxiliary: Option<Head>,
    exit_gradient: f64,
    precision: ConvPrecision,
    /// Batch statistics that the device may still be working on, oldest first, with their share in the running ones.
    queued: Vec<(Later, f32)>,
}

impl<B: SpikingBackend> BlockNet<B> {
    /// A block with its initial values, which depend on the seed alone.
    pub fn new(config: &BlockConfig, device: &B::Device) -> Self {
        let graph = config.graph.clone();
        let mut store = Store::new(device, config.seed, config.index as u64);
        store.add(&graph.trained().parameters);
        store.add_running(&graph.trained().running);
        let head = Head::new(&mut store, graph.classifier(config.classes));
        let auxiliary = graph.auxiliary_classifier(config.classes).map(|classifier| Head::new(&mut store, classifier));
        let (exit_gradient, precision) = (config.exit_gradient, config.precision.into());
        Self { store, graph, head, auxiliary, exit_gradient, precision, queued: Vec::new() }
    }

    /// Takes as first values what the block before was trained with in this block's place; a classifier of other
    /// classes has another shape and stays as it is.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn inherit(&mut self, before: &NamedTensors) -> Result<(), LoadError> {
        let mut own = NamedTensors { tensors: self.store.export(), metadata: BTreeMap::new() };
        for handed_on in &before.tensors {
            let name = BlockGraph::inherited(&handed_on.name);
            let is_its = |own: &&mut NamedTensor| name.as_ref() == Some(&own.name) && own.shape == handed_on.shape;
            if let Some(own) = own.tensors.iter_mut().find(is_its) {
                own.values.clone_from(&handed_on.values);
            }
        }
        self.store.load(&own)
    }

    /// Time steps T.
    pub fn steps(&self) -> usize {
        self.graph.body.steps
    }

    /// Makes passes have so many time steps, as inputs have to have then. Parameters are the same for any number.
    pub fn set_steps(&mut self, steps: usize) {
        self.graph.set_steps(steps);
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

    /// Trainable values of the block and its classifier, without the auxiliary network, which no package has.
    pub fn parameters(&self) -> usize {
        let own = self.store.params.iter().filter(|param| !BlockGraph::is_auxiliary(&param.name));
        own.map(|param| param.shape.iter().product::<usize>()).sum()
    }

    /// Trainable values of the block's own layers, without classifiers and auxiliary network.
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

    /// Parameters of the block's own layers, or of those that are trained.
    fn flat(&self, body: &Body) -> Tensor<B, 1> {
        // The layers' parameters come first, and the block's own before the auxiliary ones.
        let own = &self.store.params[..body.parameters.len()];
        Tensor::cat(own.iter().map(|param| param.value.clone()).collect(), 0)
    }

    /// Running statistics of every norm of the block's own layers.
    fn running(&self) -> Vec<Statistic> {
        let (pairs, _) = self.store.buffers.as_chunks::<2>();
        let pairs = &pairs[..self.graph.body.running.len()];
        let one =
            |[mean, variance]: &[Buffer; 2]| Statistic { mean: mean.values.clone(), variance: variance.values.clone() };
        pairs.iter().map(one).collect()
    }

    /// The block's own layers with their parameters as they are now, for inference.
    pub fn frozen_body(&self) -> B::Frozen {
        B::freeze(&self.graph.body, self.flat(&self.graph.body), self.running(), self.precision)
    }

    /// Spikes of the block's own layers.
    pub fn body(&self, input: BodyInput<B>, pass: &mut Pass) -> Emitted<B> {
        self.run(&self.graph.body, None, input, pass, None).emitted
    }

    fn run(
        &self,
        body: &Body,
        tap: Option<Tap<'_>>,
        input: BodyInput<B>,
        pass: &mut Pass,
        average: Option<&AdaptivePool>,
    ) -> BodyOutput<B> {
        let running = if pass.mode.trains() { Vec::new() } else { self.running() };
        let (measure, count) = (pass.rates.is_some(), pass.count.is_some());
        let call = Call { body, mode: pass.mode, running: &running, measure, count, average, tap };
        let mut output = B::body(&BodyCall { call, precision: self.precision }, self.flat(body), input);
        pass.absorb(std::mem::take(&mut output.record));
        output
    }

    /// Logits of spikes; see [`Head::forward`].
    pub fn classify(&self, spikes: &Emitted<B>, pass: &mut Pass, per_step: bool) -> Tensor<B, 3> {
        self.head.forward(&self.store, pass, spikes, per_step)
    }

    /// The whole block, in training with its auxiliary network.
    pub fn forward(&self, input: BodyInput<B>, pass: &mut Pass, per_step: bool) -> BlockOutput<B> {
        let trains = pass.mode.trains();
        let average = self.head.graph().sees_averages(per_step).filter(|_| trains);
        let Some(auxiliary) = self.auxiliary.as_ref().filter(|_| trains) else {
            let spikes = self.run(&self.graph.body, None, input, pass, average).emitted;
            let logits = self.classify(&spikes, pass, per_step);
            return BlockOutput { spikes, logits, auxiliary: None };
        };
        let tap = Tap { value: self.graph.body.output(), average };
        let behind = auxiliary.graph().sees_averages(per_step);
        let output = self.run(self.graph.trained(), Some(tap), input, pass, behind);
        let spikes =
            output.tapped.expect("the block's own output was asked for").with_gradient_scaled(self.exit_gradient);
        let logits = self.classify(&spikes, pass, per_step);
        let behind = auxiliary.forward(&self.store, pass, &output.emitted, per_step);
        BlockOutput { spikes, logits, auxiliary: Some(behind) }
    }

    /// Moves the running statistics towards a pass's batch statistics; those that a device may still be working on wait
    /// for [`settle`](Self::settle).
    pub fn update_statistics(&mut self, pass: &Pass) {
        self.take_statistics(pass, MOMENTUM);
    }

    /// Makes the running statistics the mean of the batch statistics of some inputs.
    ///
    /// # Errors
    /// Whatever is there instead of an input.
    pub fn recount<E>(&mut self, inputs: impl Iterator<Item = Result<BodyInput<B>, E>>, seed: u64) -> Result<(), E> {
        for (number, input) in inputs.enumerate() {
            let input = input?;
            let mut pass = Pass::new(self.steps(), input.batch(), Mode::Train { seed });
            self.run(self.graph.trained(), None, input, &mut pass, None);
            self.take_statistics(&pass, 1.0 / (number + 1) as f32);
            self.settle();
        }
        Ok(())
    }

    fn take_statistics(&mut self, pass: &Pass, share: f32) {
        self.blend(&pass.statistics, share);
        self.queued.extend(pass.queued.clone().map(|later| (later, share)));
    }

    /// Takes in all batch statistics that waited.
    pub fn settle(&mut self) {
        for (later, share) in std::mem::take(&mut self.queued) {
            let values = later.read();
            let mut next = values.as_slice();
            let mut take = |count: usize| {
                let (own, rest) = next.split_at(count);
                next = rest;
                own.to_vec()
            };
            let one = |norm: &Running| Statistic { mean: take(norm.channels), variance: take(norm.channels) };
            let statistics: Vec<Statistic> = self.graph.trained().running.iter().map(one).collect();
            self.blend(&statistics, share);
        }
    }

    fn blend(&mut self, statistics: &[Statistic], share: f32) {
        let blend = |running: &mut Vec<f32>, new: &[f32]| {
            running.iter_mut().zip(new).for_each(|(running, new)| *running += share * (new - *running));
        };
        let (pairs, _) = self.store.buffers.as_chunks_mut::<2>();
        for ([mean, variance], new) in pairs.iter_mut().zip(statistics) {
            blend(&mut mean.values, &new.mean);
            blend(&mut variance.values, &new.variance);
        }
    }
}
