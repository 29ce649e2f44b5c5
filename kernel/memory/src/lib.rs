//! How much memory a training step takes on the CPU, worked out before anything is allocated.
//!
//! The largest buffers of a step are known from the shapes: packed values between layers, which the backward pass
//! needs; one tile of 64 channels of a layer's outputs; the gradients of two layers; what the classifier keeps;
//! parameters, their gradients and the optimiser's moments. The estimate follows the order in which they come and go
//! and takes the largest sum. It is meant to be a little too high and never too low: the worker's test of its memory
//! holds it against measurements.

pub mod keep;
pub mod size;

use bloctrain_shared::ImageShape;
use bloctrain_shared::graph::{BlockGraph, Body, Branch, Classifier, Content, Graph, Node, Parameter, Spiking};
use bloctrain_shared::spec::{Loss, RunSpec};
use keep::{LayerOutputs, kept_layers, layer_outputs, tiles_together, worth_keeping};
use size::{PAD, PARTS, POINTS, WORD};

/// Bytes of an f32.
const FLOAT: usize = 4;
/// Copies of a layer's weights in one order of the kernels and as points of Winograd's kernels.
const WEIGHT_ORDER: usize = 5;
/// Copies of the classifier's activations that live at once, of values per step and sample.
const HEAD_ACTIVATIONS: usize = 4;
/// Copies of the classifier's weights and their gradients.
const HEAD_WEIGHTS: usize = 2;
/// Copies of all parameters as gradients and new values while the optimiser steps.
const OPTIMIZER_COPIES: usize = 2;
/// Scratch that each thread keeps.
const THREAD_SCRATCH: usize = 7 << 17;
/// Small things.
const FIXED: usize = 3 << 18;
/// Added to everything, in percent.
const MARGIN: usize = 6;

/// What a training step of one block takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// The block, from 1.
    pub block: u32,
    /// Bytes with the spec's micro-batch.
    pub bytes: u64,
    /// Bytes with a micro-batch of one sample.
    pub least: u64,
    /// The spec's micro-batch.
    pub micro_batch: usize,
}

/// Where training runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Threads that compute.
    pub threads: usize,
    /// Bytes that a step may take.
    pub available: u64,
}

/// A network that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "training block {block} takes about {}, which is {} more than the {} that there are; {advice}",
    mebibytes(*.needed), mebibytes(.needed - .available), mebibytes(*.available)
)]
pub struct TooLarge {
    /// The block, from 1.
    pub block: u32,
    /// Bytes that it takes.
    pub needed: u64,
    /// Bytes that there are.
    pub available: u64,
    /// What to do.
    pub advice: String,
}

/// Bytes in MiB, for people.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// What every block of a network takes with `threads` threads; the graph is that of the specification.
pub fn estimate(spec: &RunSpec, graph: &Graph, classes: usize, threads: usize) -> Vec<Estimate> {
    let micro_batch = micro_batch(spec);
    let one = |(number, block): (u32, &BlockGraph)| {
        let work = BlockWork::new(spec, block, classes);
        let bytes = |batch: usize| {
            work.bytes(batch) + (threads * THREAD_SCRATCH + threads.min(batch) * work.at_points()) as u64
        };
        Estimate { block: number, bytes: bytes(micro_batch), least: bytes(1), micro_batch }
    };
    (1..).zip(&graph.blocks).map(one).collect()
}

/// Refuses a block that takes more than the machine has.
///
/// # Errors
/// For the first one, with a micro-batch that would fit where there is one.
pub fn admit(spec: &RunSpec, graph: &Graph, classes: usize, machine: Machine) -> Result<Vec<Estimate>, TooLarge> {
    let Machine { threads, available } = machine;
    let estimates = estimate(spec, graph, classes, threads);
    let Some(large) = estimates.iter().find(|estimate| estimate.bytes > available) else { return Ok(estimates) };
    let mut smaller = spec.clone();
    let fits = |micro_batch: usize| {
        smaller.train.micro_batch = micro_batch;
        estimate(&smaller, graph, classes, threads).iter().all(|estimate| estimate.bytes <= available)
    };
    let advice = match largest_that(large.micro_batch.saturating_sub(1), fits) {
        Some(micro_batch) => {
            format!(
                "set train.micro_batch={micro_batch}, which changes only batch statistics, or take a narrower network"
            )
        }
        None if spec.run.end_to_end => {
            "not even train.micro_batch=1 fits; train block by block or take a narrower network".into()
        }
        None => "not even train.micro_batch=1 fits; cut the network into more blocks or take a narrower one".into(),
    };
    Err(TooLarge { block: large.block, needed: large.bytes, available, advice })
}

fn micro_batch(spec: &RunSpec) -> usize {
    if spec.train.micro_batch == 0 { spec.train.batch } else { spec.train.micro_batch }
}

/// The largest number from 1 to `most` for which `holds`, which holds for all below one that it holds for.
fn largest_that(most: usize, mut holds: impl FnMut(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = high - (high - low) / 2;
        if holds(middle) { low = middle } else { high = middle - 1 }
    }
    (low > 0).then_some(low)
}

/// Bytes of a value between layers, for one sample: bits, or f32 where they are the same at every step.
fn value_bytes(shape: ImageShape, content: Content, steps: usize) -> usize {
    match content.digits() {
        None => FLOAT * shape.len(),
        Some(digits) => digits * steps * shape.area() * shape.channels.div_ceil(WORD) * 8,
    }
}

/// What a classifier's memory depends on.
struct HeadWork {
    /// Its parameters.
    parameters: usize,
    /// Its values for one sample: those over all steps, or averages.
    values: usize,
    /// Values that go from the layers to it for one sample.
    entering: usize,
}

impl HeadWork {
    fn new(head: &Classifier, steps: usize, per_step: bool) -> Self {
        let (output, features) = (head.pool.input().len(), head.pool.features());
        let averages = head.sees_averages(per_step).is_some();
        // Where nothing is pooled, features are the output itself, and fewer copies are made.
        let copied = if features == output { features * 2 / 3 } else { features };
        let hidden: usize = head.hidden.iter().map(|layer| layer.dense.outputs).sum();
        Self {
            parameters: head.parameters.iter().map(Parameter::len).sum(),
            values: steps * hidden + if averages { 2 * features } else { steps * (output + copied) },
            entering: if averages { features } else { steps * output },
        }
    }
}

/// One block with everything that its memory depends on.
struct BlockWork<'a> {
    /// The layers that are trained.
    body: &'a Body,
    /// The block's own output, where others follow it in training.
    tapped: Option<usize>,
    /// What the numbers of each value are.
    contents: Vec<Content>,
    /// Bytes of each node's outputs that wait for the backward pass, for one sample.
    kept: Vec<usize>,
    /// Parameters of the classifiers.
    head_parameters: usize,
    /// Values of the classifiers for one sample: those over all steps, or averages.
    head_values: usize,
    /// Values that go to the classifiers for one sample.
    entering: usize,
    /// Copies of all parameters that live throughout: values, moments, averages.
    copies: usize,
    /// Samples of a step.
    batch: usize,
}

impl<'a> BlockWork<'a> {
    fn new(spec: &RunSpec, block: &'a BlockGraph, classes: usize) -> Self {
        let body = block.trained();
        let per_step = spec.train.loss == Loss::Tet;
        let heads: Vec<HeadWork> = [Some(block.classifier(classes)), block.auxiliary_classifier(classes)]
            .iter()
            .flatten()
            .map(|head| HeadWork::new(head, body.steps, per_step))
            .collect();
        let sum = |of: fn(&HeadWork) -> usize| heads.iter().map(of).sum();
        let contents = body.contents(block.enters, true);
        let layers = layer_outputs(body, &contents);
        let bytes = |(layer, kept): (&LayerOutputs, bool)| if kept { FLOAT * layer.values * layer.worth } else { 0 };
        let kept = layers.iter().zip(kept_layers(&layers)).map(bytes).collect();
        let tapped = block.body.output();
        Self {
            body,
            tapped: (tapped != body.output()).then_some(tapped),
            contents,
            kept,
            head_parameters: sum(|head| head.parameters),
            head_values: sum(|head| head.values),
            entering: sum(|head| head.entering),
            copies: spec.train.parameter_copies(),
            batch: spec.train.batch,
        }
    }

    /// Bytes of a step with a micro-batch of `batch` samples.
    fn bytes(&self, batch: usize) -> u64 {
        let parameters = self.body.length() + self.head_parameters;
        // Gradients of the micro-batches before are added up.
        let sums = if batch < self.batch { FLOAT * parameters } else { 0 };
        let state = self.copies * FLOAT * parameters + sums;
        let value = |value: usize| value_bytes(self.body.shape(value), self.contents[value], self.body.steps);
        let tape: usize = (0..self.body.output()).map(|read| batch * value(read)).sum();
        let body = FLOAT * self.body.length();
        let head = HEAD_ACTIVATIONS * FLOAT * batch * self.head_values + HEAD_WEIGHTS * FLOAT * self.head_parameters;
        let (mut forward, mut kept) = (0, 0);
        for (node, own) in self.body.nodes.iter().zip(&self.kept) {
            forward = forward.max(kept + self.outputs(node, false, 0, batch).iter().sum::<usize>());
            kept += own * batch;
        }
        let step = [
            body + tape + forward.max(kept + head),
            // The gradients of the classifier's weights wait while the body goes back.
            2 * body + tape + FLOAT * self.head_parameters + self.backward(batch),
            OPTIMIZER_COPIES * FLOAT * parameters,
        ];
        let bytes = state + step.into_iter().max().unwrap_or(0);
        (bytes + bytes * MARGIN / 100 + FIXED) as u64
    }

    /// Largest buffers of the backward pass through the nodes.
    fn backward(&self, batch: usize) -> usize {
        let last = self.body.output();
        let mut gradients = vec![0; last + 1];
        for value in self.tapped.into_iter().chain([last]) {
            gradients[value] = self.gradient(value, batch);
        }
        // The gradient comes as the classifier gives it, and goes when it is in the order of the kernels.
        let entering = FLOAT * batch * self.entering;
        let mut kept = self.kept.iter().sum::<usize>() * batch;
        let mut largest = gradients.iter().sum::<usize>() + entering + kept;
        for (index, node) in self.body.nodes.iter().enumerate().rev() {
            let mut own = self.outputs(node, self.kept[index] > 0, PARTS.min(batch), batch);
            // Outputs that were computed again are let go of branch by branch, the last one first, if they are of one
            // tile or the others were kept.
            let lets_go = node.output().channels <= WORD || self.kept[index] > 0;
            for &source in node.sources().iter().rev() {
                if self.learns(source) {
                    gradients[source] = self.gradient(source, batch);
                }
                largest = largest.max(gradients.iter().sum::<usize>() + own.iter().sum::<usize>() + kept);
                if lets_go {
                    own.pop();
                }
            }
            gradients[index + 1] = 0;
            kept -= self.kept[index] * batch;
        }
        largest
    }

    /// Whether a value comes from neurons, so that its gradient is wanted.
    fn learns(&self, value: usize) -> bool {
        value.checked_sub(1).is_some_and(|node| {
            let node = &self.body.nodes[node];
            matches!(node, Node::Spiking(_)) || node.sources().into_iter().any(|source| self.learns(source))
        })
    }

    fn gradient(&self, value: usize, batch: usize) -> usize {
        let shape = self.body.shape(value);
        FLOAT * batch * self.body.steps * shape.area() * padded(shape.channels)
    }

    /// The largest weight gradient that a thread sums at the points of Winograd's kernels.
    fn at_points(&self) -> usize {
        let one = |spiking: &Spiking| {
            let width = padded(spiking.output.channels.min(WORD));
            let own = |branch: &Branch| {
                let inputs = branch.conv.input.channels;
                let fits = branch.conv.taps() == 9 && !self.contents[branch.source].is_constant() && inputs <= WORD;
                if fits { FLOAT * POINTS * inputs * width } else { 0 }
            };
            spiking.branches.iter().map(own).max().unwrap_or(0)
        };
        let spiking = |node: &'a Node| match node {
            Node::Spiking(spiking) => Some(spiking),
            Node::Pool(_) | Node::Dropout { .. } => None,
        };
        self.body.nodes.iter().filter_map(spiking).map(one).max().unwrap_or(0)
    }

    /// For each branch of a spiking node one tile of its outputs before its neurons, and its weights with `parts` sums
    /// of their gradients; `kept` says that outputs which are worth it are there already.
    fn outputs(&self, node: &Node, kept: bool, parts: usize, batch: usize) -> Vec<usize> {
        let Node::Spiking(spiking) = node else { return Vec::new() };
        let shape = spiking.output;
        let width = padded(shape.channels.min(WORD));
        let one = |branch: &Branch| {
            let (conv, constant) = (branch.conv, self.contents[branch.source].is_constant());
            let frames = if constant { 1 } else { self.body.steps };
            let kept = kept && !constant && worth_keeping(conv.inputs());
            let positions = batch * frames * shape.area();
            let tiles = shape.channels.div_ceil(WORD);
            let together = if kept { tiles_together(conv.inputs(), positions).min(tiles) } else { 1 };
            let tile = if kept { 0 } else { positions * width };
            let weights = conv.taps() * padded(conv.input.channels) * width;
            // Rows, where outputs are computed, and transposed for the backward pass.
            let orders = if parts == 0 || kept { WEIGHT_ORDER } else { WEIGHT_ORDER + 1 };
            FLOAT * (tile + (parts * together + orders) * weights)
        };
        spiking.branches.iter().map(one).collect()
    }
}

fn padded(channels: usize) -> usize {
    channels.next_multiple_of(PAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloctrain_shared::spec::NetworkSpec;

    fn resnet9(width: usize) -> RunSpec {
        let network = NetworkSpec { preset: Some("resnet9".into()), width: Some(width), ..NetworkSpec::default() };
        RunSpec { network, ..RunSpec::default() }
    }

    fn graph(spec: &RunSpec) -> Graph {
        Graph::new(spec, ImageShape::new(3, 32, 32)).expect("fits")
    }

    fn machine(available: u64) -> Machine {
        Machine { threads: 2, available }
    }

    #[test]
    fn packed_values_by_hand() {
        let shape = ImageShape::new(65, 2, 3);
        assert_eq!(
            value_bytes(shape, Content::Counts { digits: 3, unit: 0.25 }, 4),
            3 * 4 * 6 * 2 * 8,
            "two words for 65 channels"
        );
        assert_eq!(value_bytes(shape, Content::Fractions, 4), 4 * 65 * 6, "an image is there once");
    }

    #[test]
    fn blocks_take_less_than_the_whole_and_more_samples_take_more() {
        let mut spec = resnet9(32);
        let blocks = estimate(&spec, &graph(&spec), 10, 2);
        spec.run.end_to_end = true;
        let whole = estimate(&spec, &graph(&spec), 10, 2);
        assert_eq!((blocks.len(), whole.len()), (3, 1));
        assert!(
            blocks.iter().all(|block| block.bytes < whole[0].bytes && block.least < block.bytes),
            "{blocks:?} {whole:?}"
        );
    }

    #[test]
    fn what_does_not_fit_is_told_what_would() {
        let spec = resnet9(32);
        let graph = graph(&spec);
        let needed = estimate(&spec, &graph, 10, 2).iter().map(|estimate| estimate.bytes).max().expect("blocks");
        assert!(admit(&spec, &graph, 10, machine(needed)).is_ok());
        let refused = admit(&spec, &graph, 10, machine(needed - (4 << 20))).expect_err("too large");
        let text = refused.to_string();
        assert!(text.contains("4.0 MiB more") && text.contains("train.micro_batch="), "{text}");
        let micro_batch = text.split("micro_batch=").nth(1).and_then(|rest| rest.split(',').next()).expect("a number");
        let mut smaller = spec.clone();
        smaller.train.micro_batch = micro_batch.parse().expect("a number");
        assert!(admit(&smaller, &graph, 10, machine(needed - (4 << 20))).is_ok());
        let hopeless = admit(&spec, &graph, 10, machine(1 << 20)).expect_err("too large").to_string();
        assert!(hopeless.contains("not even train.micro_batch=1"), "{hopeless}");
    }

    #[test]
    fn the_largest_number_is_found() {
        for limit in 0..9 {
            assert_eq!(largest_that(7, |number| number <= limit), (limit > 0).then_some(limit.min(7)));
        }
    }
}
