//! How much memory a training step takes on the CPU, worked out before anything is allocated.
//!
//! The largest buffers of a step are known from the shapes: packed values between layers, which the backward pass needs;
//! one tile of 64 channels of a layer's outputs; the gradients of two layers; what the classifier keeps; parameters, their
//! gradients and the optimiser's moments. The estimate follows the order in which they come and go and takes the largest
//! sum. It is meant to be a little too high and never too low: `worker/tests/memory.rs` holds it against measurements.

use crate::geometry::{ImageShape, conv_positions, layer_output};
use crate::spec::network::{BlockSpec, HeadSpec, LayerSpec, Network};
use crate::spec::{EncodingKind, NeuronModel, OptimizerKind, RunSpec};

/// Bytes of an f32.
const FLOAT: usize = 4;
/// Channels that are worked on at once, and that share a word of packed spikes.
const TILE: usize = 64;
/// Channels of a tile are padded to whole vectors of this many.
const PAD: usize = 16;
/// Partial sums of a weight gradient.
const PARTS: usize = 8;
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
/// Points of Winograd's kernels, at which weight gradients are summed for up to 64 inputs.
const POINTS: usize = 36;
/// Small things.
const FIXED: usize = 3 << 18;
/// Added to everything, in percent.
const MARGIN: usize = 6;

/// Inputs of an output from which on keeping it for the backward pass is faster than computing it again.
const WORTH_KEEPING: usize = 256;

/// Whether keeping outputs, each a sum over `inputs` weights, is faster than computing them again.
pub fn worth_keeping(inputs: usize) -> bool {
    inputs >= WORTH_KEEPING
}

/// Most outputs that are kept, as a share of the largest layer's: both layers of a residual pair that halves its map.
const MOST_KEPT: (usize, usize) = (5, 4);

/// Outputs of a spiking layer before its neurons, in values for one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerOutputs {
    /// Those of one branch.
    pub values: usize,
    /// Branches that are [worth keeping](worth_keeping).
    pub worth: usize,
}

/// Which layers of a body, given in order, keep what is worth it for the backward pass: the last ones, as long as they
/// keep no more than a share of the largest layer's outputs. So memory grows with the largest layer, not with depth.
pub fn kept_layers(layers: &[LayerOutputs]) -> Vec<bool> {
    let largest = layers.iter().map(|layer| layer.values).max().unwrap_or(0);
    let mut left = largest * MOST_KEPT.0 / MOST_KEPT.1;
    let mut kept: Vec<bool> = layers
        .iter()
        .rev()
        .map(|layer| {
            let fits = layer.values * layer.worth <= left;
            left = if fits { left - layer.values * layer.worth } else { 0 };
            fits && layer.worth > 0
        })
        .collect();
    kept.reverse();
    kept
}

/// Weights of the tiles that go back together: so many stay in a core's second cache.
const BACK_TOGETHER: usize = 160 << 10;

/// Tiles of 64 outputs, each a sum over `inputs` weights, that go back through a layer together where outputs are kept.
pub fn tiles_together(inputs: usize) -> usize {
    (BACK_TOGETHER / (inputs * TILE)).max(1)
}

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

/// What every block of a network takes with `threads` threads; `spec` and network were checked. End to end there is one
/// block.
pub fn estimate(spec: &RunSpec, network: &Network, image: ImageShape, classes: usize, threads: usize) -> Vec<Estimate> {
    let joined = if spec.run.end_to_end { network.joined() } else { network.clone() };
    let micro_batch = micro_batch(spec);
    let mut input = image;
    let mut estimates = Vec::with_capacity(joined.blocks.len());
    for (index, block) in joined.blocks.iter().enumerate() {
        let images = index == 0 && spec.encoding.kind == EncodingKind::Direct;
        let work = BlockWork::new(spec, block, joined.head_of(index), input, images, classes);
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let bytes = |batch: usize| work.bytes(batch) + (threads * THREAD_SCRATCH + threads.min(batch) * work.at_points()) as u64;
        let (bytes, least) = (bytes(micro_batch), bytes(1));
        estimates.push(Estimate { block: number, bytes, least, micro_batch });
        input = work.output();
    }
    estimates
}

/// Refuses a block that takes more than the machine has.
///
/// # Errors
/// For the first one, with a micro-batch that would fit where there is one.
pub fn admit(
    spec: &RunSpec,
    network: &Network,
    image: ImageShape,
    classes: usize,
    machine: Machine,
) -> Result<Vec<Estimate>, TooLarge> {
    let Machine { threads, available } = machine;
    let estimates = estimate(spec, network, image, classes, threads);
    let Some(large) = estimates.iter().find(|estimate| estimate.bytes > available) else { return Ok(estimates) };
    let mut smaller = spec.clone();
    let fits = |micro_batch: usize| {
        smaller.train.micro_batch = micro_batch;
        estimate(&smaller, network, image, classes, threads).iter().all(|estimate| estimate.bytes <= available)
    };
    let advice = match largest_that(large.micro_batch.saturating_sub(1), fits) {
        Some(micro_batch) => {
            format!("set train.micro_batch={micro_batch}, which changes only batch statistics, or take a narrower network")
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

/// A value between layers.
#[derive(Debug, Clone, Copy)]
struct Value {
    shape: ImageShape,
    /// Bits of one number; none for images, which are f32 and the same at every step.
    planes: Option<usize>,
}

impl Value {
    fn bytes(&self, steps: usize) -> usize {
        match self.planes {
            None => FLOAT * self.shape.len(),
            Some(planes) => planes * steps * self.shape.area() * self.shape.channels.div_ceil(TILE) * 8,
        }
    }
}

/// One operation: what it reads and what comes out.
#[derive(Debug, Clone)]
struct Node {
    /// Index of each value that it reads, with the taps of its kernel; no taps for pooling and dropout.
    sources: Vec<(usize, usize)>,
    output: usize,
    spiking: bool,
}

/// One block with everything that its memory depends on.
struct BlockWork {
    steps: usize,
    values: Vec<Value>,
    nodes: Vec<Node>,
    /// Parameters of the body.
    parameters: usize,
    /// Parameters of the classifier.
    head_parameters: usize,
    /// Values of the classifier for one sample: those over all steps, or averages.
    head_values: usize,
    /// Values that go from the block to the classifier for one sample.
    entering: usize,
    /// Copies of all parameters that live throughout: values and moments.
    copies: usize,
    /// Samples of a step.
    batch: usize,
}

impl BlockWork {
    fn new(spec: &RunSpec, block: &BlockSpec, head: &HeadSpec, input: ImageShape, images: bool, classes: usize) -> Self {
        let steps = spec.encoding.steps;
        let mut work = Self {
            steps,
            values: vec![Value { shape: input, planes: (!images).then_some(1) }],
            nodes: Vec::new(),
            parameters: 0,
            head_parameters: 0,
            head_values: 0,
            entering: 0,
            copies: if spec.train.optimizer == OptimizerKind::Adamw { 3 } else { 2 },
            batch: spec.train.batch,
        };
        let leaks = usize::from(spec.neuron.model == NeuronModel::Plif);
        block.layers.iter().for_each(|layer| work.layer(layer, leaks));
        let side = |size: usize| if head.pool == 0 { size } else { size.min(head.pool) };
        let output = work.output();
        let mut features = output.channels * side(output.height) * side(output.width);
        let averages = head.hidden.is_empty() && spec.train.loss == crate::spec::Loss::Ce;
        work.entering = if averages { features } else { steps * output.len() };
        // Where nothing is pooled, features are the output itself, and fewer copies are made.
        let copied = if features == output.len() { features * 2 / 3 } else { features };
        work.head_values = if averages { 2 * features } else { steps * (output.len() + copied) };
        for &hidden in &head.hidden {
            work.head_parameters += (features + 1) * hidden + leaks;
            work.head_values += steps * hidden;
            features = hidden;
        }
        work.head_parameters += (features + 1) * classes;
        work
    }

    fn output(&self) -> ImageShape {
        self.values[self.values.len() - 1].shape
    }

    fn layer(&mut self, layer: &LayerSpec, leaks: usize) {
        let source = self.values.len() - 1;
        let Value { shape: input, planes } = self.values[source];
        let Ok(output) = layer_output(layer, input) else { return };
        match *layer {
            LayerSpec::Conv { kernel, .. } => self.spiking(vec![(source, kernel * kernel)], output, leaks),
            LayerSpec::Residual { channels, .. } => {
                let inner = ImageShape::new(channels, conv_positions(input.height, 3, 1), conv_positions(input.width, 3, 1));
                self.spiking(vec![(source, 9)], inner, leaks);
                self.spiking(vec![(source + 1, 9), (source, 1)], output, leaks);
            }
            LayerSpec::Linear { .. } => self.spiking(vec![(source, input.area())], output, leaks),
            LayerSpec::AvgPool { size } => {
                let most = planes.map(|planes| ((1_usize << planes) - 1) * size * size);
                self.push(source, output, most.map(|most| (usize::BITS - most.leading_zeros()) as usize));
            }
            LayerSpec::MaxPool { .. } | LayerSpec::Dropout { .. } => self.push(source, output, planes),
        }
    }

    fn push(&mut self, source: usize, shape: ImageShape, planes: Option<usize>) {
        self.values.push(Value { shape, planes });
        self.nodes.push(Node { sources: vec![(source, 0)], output: self.values.len() - 1, spiking: false });
    }

    fn spiking(&mut self, sources: Vec<(usize, usize)>, shape: ImageShape, leaks: usize) {
        for &(source, taps) in &sources {
            self.parameters += (self.values[source].shape.channels * taps + 2) * shape.channels;
        }
        self.parameters += leaks;
        self.values.push(Value { shape, planes: Some(1) });
        self.nodes.push(Node { sources, output: self.values.len() - 1, spiking: true });
    }

    /// Bytes of a step with a micro-batch of `batch` samples.
    fn bytes(&self, batch: usize) -> u64 {
        let parameters = self.parameters + self.head_parameters;
        // Gradients of the micro-batches before are added up.
        let sums = if batch < self.batch { FLOAT * parameters } else { 0 };
        let state = self.copies * FLOAT * parameters + sums;
        let tape: usize = self.values[..self.values.len() - 1].iter().map(|value| batch * value.bytes(self.steps)).sum();
        let body = FLOAT * self.parameters;
        let head = HEAD_ACTIVATIONS * FLOAT * batch * self.head_values + HEAD_WEIGHTS * FLOAT * self.head_parameters;
        let (mut forward, mut kept) = (0, 0);
        for (node, own) in self.nodes.iter().zip(self.kept()) {
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

    /// Largest buffers of the way back through the nodes.
    fn backward(&self, batch: usize) -> usize {
        let last = self.values.len() - 1;
        let mut gradients = vec![0; self.values.len()];
        gradients[last] = self.gradient(last, batch);
        // The gradient comes as the classifier gives it, and is put in the order of the kernels.
        let entering = FLOAT * batch * self.entering;
        let of_nodes = self.kept();
        let mut kept = of_nodes.iter().sum::<usize>() * batch;
        let mut largest = gradients[last] + entering + kept;
        for (node, of_node) in self.nodes.iter().zip(of_nodes).rev() {
            let mut own = self.outputs(node, of_node > 0, PARTS.min(batch), batch);
            // Outputs that were computed again are let go of branch by branch, the last one first, if they are of one tile.
            let lets_go = self.values[node.output].shape.channels <= TILE;
            for &(source, _) in node.sources.iter().rev() {
                if self.learns(source) {
                    gradients[source] = self.gradient(source, batch);
                }
                largest = largest.max(entering + gradients.iter().sum::<usize>() + own.iter().sum::<usize>() + kept);
                if lets_go {
                    own.pop();
                }
            }
            gradients[node.output] = 0;
            kept -= of_node * batch;
        }
        largest
    }

    /// Whether a value comes from neurons, so that its gradient is wanted.
    fn learns(&self, value: usize) -> bool {
        value.checked_sub(1).is_some_and(|node| {
            let node = &self.nodes[node];
            node.spiking || node.sources.iter().any(|&(source, _)| self.learns(source))
        })
    }

    fn gradient(&self, value: usize, batch: usize) -> usize {
        let shape = self.values[value].shape;
        FLOAT * batch * self.steps * shape.area() * padded(shape.channels)
    }

    /// The largest weight gradient that a thread sums at the points of Winograd's kernels.
    fn at_points(&self) -> usize {
        let one = |node: &Node| {
            let width = padded(self.values[node.output].shape.channels.min(TILE));
            let own = |&(source, taps): &(usize, usize)| {
                let Value { shape, planes } = self.values[source];
                let fits = taps == 9 && planes.is_some() && shape.channels <= TILE;
                if fits { FLOAT * POINTS * shape.channels * width } else { 0 }
            };
            node.sources.iter().map(own).max().unwrap_or(0)
        };
        self.nodes.iter().map(one).max().unwrap_or(0)
    }

    /// A node's outputs; of one that is not spiking, none.
    fn layer_outputs(&self, node: &Node) -> LayerOutputs {
        if !node.spiking {
            return LayerOutputs { values: 0, worth: 0 };
        }
        let shape = self.values[node.output].shape;
        let worth = |&&(source, taps): &&(usize, usize)| {
            let Value { shape, planes } = self.values[source];
            planes.is_some() && worth_keeping(taps * shape.channels)
        };
        let values = self.steps * shape.area() * padded(shape.channels);
        LayerOutputs { values, worth: node.sources.iter().filter(worth).count() }
    }

    /// Bytes of each node's outputs that wait for the way back, for one sample.
    fn kept(&self) -> Vec<usize> {
        let layers: Vec<LayerOutputs> = self.nodes.iter().map(|node| self.layer_outputs(node)).collect();
        let bytes = |(layer, kept): (&LayerOutputs, bool)| if kept { FLOAT * layer.values * layer.worth } else { 0 };
        layers.iter().zip(kept_layers(&layers)).map(bytes).collect()
    }

    /// For each branch of a spiking node one tile of its outputs before its neurons, and its weights with `parts` sums of
    /// their gradients; `kept` says that outputs which are worth it are there already.
    fn outputs(&self, node: &Node, kept: bool, parts: usize, batch: usize) -> Vec<usize> {
        if !node.spiking {
            return Vec::new();
        }
        let shape = self.values[node.output].shape;
        let width = padded(shape.channels.min(TILE));
        let one = |&(source, taps): &(usize, usize)| {
            let Value { shape: input, planes } = self.values[source];
            let frames = if planes.is_none() { 1 } else { self.steps };
            let inputs = taps * input.channels;
            let kept = kept && planes.is_some() && worth_keeping(inputs);
            let together = if kept { tiles_together(inputs).min(shape.channels.div_ceil(TILE)) } else { 1 };
            let tile = if kept { 0 } else { batch * frames * shape.area() * width };
            let weights = taps * padded(input.channels) * width;
            // Rows, where outputs are computed, and turned for the way back.
            let orders = if parts == 0 || kept { WEIGHT_ORDER } else { WEIGHT_ORDER + 1 };
            FLOAT * (tile + (parts * together + orders) * weights)
        };
        node.sources.iter().map(one).collect()
    }
}

fn padded(channels: usize) -> usize {
    channels.next_multiple_of(PAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::NetworkSpec;

    fn resnet9(width: usize) -> (RunSpec, Network, ImageShape) {
        let network = NetworkSpec { preset: Some("resnet9".into()), width: Some(width), ..NetworkSpec::default() };
        let spec = RunSpec { network: network.clone(), ..RunSpec::default() };
        (spec, network.resolve().expect("a preset"), ImageShape::new(3, 32, 32))
    }

    fn machine(available: u64) -> Machine {
        Machine { threads: 2, available }
    }

    #[test]
    fn packed_values_by_hand() {
        let shape = ImageShape::new(65, 2, 3);
        assert_eq!(Value { shape, planes: Some(3) }.bytes(4), 3 * 4 * 6 * 2 * 8, "two words for 65 channels");
        assert_eq!(Value { shape, planes: None }.bytes(4), 4 * 65 * 6, "an image is there once");
    }

    #[test]
    fn blocks_take_less_than_the_whole_and_more_samples_take_more() {
        let (mut spec, network, image) = resnet9(32);
        let blocks = estimate(&spec, &network, image, 10, 2);
        spec.run.end_to_end = true;
        let whole = estimate(&spec, &network, image, 10, 2);
        assert_eq!((blocks.len(), whole.len()), (3, 1));
        assert!(blocks.iter().all(|block| block.bytes < whole[0].bytes && block.least < block.bytes), "{blocks:?} {whole:?}");
    }

    #[test]
    fn what_does_not_fit_is_told_what_would() {
        let (spec, network, image) = resnet9(32);
        let needed = estimate(&spec, &network, image, 10, 2).iter().map(|estimate| estimate.bytes).max().expect("blocks");
        assert!(admit(&spec, &network, image, 10, machine(needed)).is_ok());
        let refused = admit(&spec, &network, image, 10, machine(needed - (4 << 20))).expect_err("too large");
        let text = refused.to_string();
        assert!(text.contains("4.0 MiB more") && text.contains("train.micro_batch="), "{text}");
        let micro_batch = text.split("micro_batch=").nth(1).and_then(|rest| rest.split(',').next()).expect("a number");
        let mut smaller = spec.clone();
        smaller.train.micro_batch = micro_batch.parse().expect("a number");
        assert!(admit(&smaller, &network, image, 10, machine(needed - (4 << 20))).is_ok());
        let hopeless = admit(&spec, &network, image, 10, machine(1 << 20)).expect_err("too large").to_string();
        assert!(hopeless.contains("not even train.micro_batch=1"), "{hopeless}");
    }

    #[test]
    fn the_largest_number_is_found() {
        for limit in 0..9 {
            assert_eq!(largest_that(7, |number| number <= limit), (limit > 0).then_some(limit.min(7)));
        }
    }
}
