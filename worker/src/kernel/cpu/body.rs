//! A whole body on the CPU: forward over a batch, and backward from the gradient of the spikes that leave it.
//!
//! Channels are worked on in tiles of 64, each over the whole batch: convolution of every sample, statistics, then norm
//! and neuron of every sample. Between layers there are only bits. The backward pass computes a tile's outputs and
//! membranes again, turns the gradient of its spikes into that of its drive in place, and from it makes the gradients of
//! weights and input. So the largest f32 buffers are one tile's outputs and the gradients of two layers.
//!
//! Work is cut by samples, or into a fixed number of parts whose sums are added in order: the result does not depend on
//! the number of threads.

use super::buffer::Buffer;
use super::dense::{self, Target};
use super::fire::{self, Coefficients, Drive, Frame, Output, Sums, Tile};
use super::geometry::Geometry;
use super::simd::PAD;
use super::sparse::{self, Lists};
use super::value::{Counts, Grad, Image, Value, tile_width, window};
use crate::kernel::count::{Count, Counted};
use crate::kernel::plan::{Body, Branch, EPSILON, Leak, Node, Norm, Pool, Spiking};
use crate::kernel::spikes::{Spikes, WORD};
use crate::kernel::{BodyCall, Mode, Statistic, dropout_mask};
use rayon::prelude::*;
use std::ops::Range;

/// Partial sums of weight gradients. Fixed, so that the order of additions is.
const PARTS: usize = 8;

/// What a forward pass leaves.
pub(in super::super) struct Outcome {
    pub(in super::super) spikes: Spikes,
    pub(in super::super) statistics: Vec<Statistic>,
    pub(in super::super) rates: Vec<f64>,
    pub(in super::super) count: Count,
    pub(in super::super) tape: Option<Tape>,
}

/// What the backward pass needs.
#[derive(Debug)]
pub struct Tape {
    body: Body,
    batch: usize,
    /// Whether the average over time left, rather than the spikes.
    mean: bool,
    values: Vec<Value>,
    nodes: Vec<NodeTape>,
}

#[derive(Debug, Default)]
struct NodeTape {
    /// One per branch of a spiking node.
    norms: Vec<Normal>,
    /// `[B, H * W, words]` of a dropout.
    mask: Vec<u64>,
}

/// A norm with its numbers: `scale * y + shift`, by padded output channel.
#[derive(Debug, Clone)]
struct Normal {
    mean: Vec<f32>,
    inverse: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Normal {
    fn zeros(channels: usize) -> Self {
        let padded = channels.next_multiple_of(PAD);
        let zeros = || vec![0.0; padded];
        Self { mean: zeros(), inverse: zeros(), scale: zeros(), shift: zeros() }
    }

    /// Takes in the statistics of one channel.
    fn set(&mut self, channel: usize, (mean, variance): (f32, f32), (gamma, beta): (f32, f32)) {
        let inverse = 1.0 / (variance + EPSILON).sqrt();
        self.mean[channel] = mean;
        self.inverse[channel] = inverse;
        self.scale[channel] = gamma * inverse;
        self.shift[channel] = beta - mean * gamma * inverse;
    }
}

/// Padded channels of an output tile.
fn lanes(channels: usize, tile: usize) -> Range<usize> {
    tile * WORD..tile * WORD + tile_width(channels, tile)
}

pub(super) fn leak(spiking: &Spiking, params: &[f32]) -> f32 {
    match spiking.leak {
        Leak::Fixed(leak) => leak,
        Leak::Learned(at) => 1.0 / (1.0 + (-params[at]).exp()),
    }
}

struct Prepared {
    branch: Branch,
    geometry: Geometry,
    constant: bool,
}

fn prepare<'a>(spiking: &Spiking, steps: usize, value: impl Fn(usize) -> &'a Value) -> Vec<Prepared> {
    let one = |branch: &Branch| {
        let constant = matches!(value(branch.source), Value::Image(_));
        Prepared { branch: *branch, geometry: Geometry::new(branch.conv, steps, constant), constant }
    };
    spiking.branches.iter().map(one).collect()
}

impl Prepared {
    /// Values of one sample's outputs in a tile.
    fn sample_len(&self, width: usize) -> usize {
        self.geometry.frames * self.geometry.output_area() * width
    }

    /// Outputs of one sample.
    fn convolve(&self, value: &Value, sample: usize, weights: &[f32], width: usize, y: &mut [f32]) {
        match value {
            Value::Image(image) => dense::image_forward(&self.geometry, image.sample(sample), weights, width, y),
            Value::Counts(counts) => {
                let planes: Vec<(&[u64], f32)> = counts.sample(sample).collect();
                sparse::forward(&self.geometry, &planes, weights, width, y);
            }
        }
    }
}

/// Runs a body forward; with `keep`, what the backward pass needs is kept.
pub(in super::super) fn forward(call: &BodyCall<'_>, params: &[f32], input: Value, batch: usize, keep: bool) -> Outcome {
    let body = call.body;
    let mut last_use = vec![0; body.nodes.len() + 1];
    for (index, node) in body.nodes.iter().enumerate() {
        match node {
            Node::Spiking(spiking) => spiking.branches.iter().for_each(|branch| last_use[branch.source] = index),
            Node::AvgPool(pool) | Node::MaxPool(pool) => last_use[pool.source] = index,
            Node::Dropout { source, .. } => last_use[*source] = index,
        }
    }
    let mut values: Vec<Option<Value>> = vec![Some(input)];
    let mut pass =
        Pass { call, params, batch, statistics: Vec::new(), rates: Vec::new(), count: Count::new(batch), nodes: Vec::new() };
    for (index, node) in body.nodes.iter().enumerate() {
        let value = pass.node(node, &values);
        values.push(Some(value));
        if !keep {
            (0..=index).filter(|&value| last_use[value] == index).for_each(|value| values[value] = None);
        }
    }
    let Pass { statistics, rates, count, nodes, .. } = pass;
    let spikes = match values.last().and_then(Option::as_ref) {
        Some(Value::Counts(counts)) => counts.planes[0].clone(),
        _ => unreachable!("a body ends in spikes; its specification was checked"),
    };
    let tape =
        keep.then(|| Tape { body: body.clone(), batch, mean: call.mean, values: values.into_iter().flatten().collect(), nodes });
    Outcome { spikes, statistics, rates, count, tape }
}

struct Pass<'a> {
    call: &'a BodyCall<'a>,
    params: &'a [f32],
    batch: usize,
    statistics: Vec<Statistic>,
    rates: Vec<f64>,
    count: Count,
    nodes: Vec<NodeTape>,
}

impl Pass<'_> {
    fn node(&mut self, node: &Node, values: &[Option<Value>]) -> Value {
        let source = |index: usize| values[index].as_ref().expect("a value lives until its last use");
        let mut tape = NodeTape::default();
        let value = match node {
            Node::Spiking(spiking) => {
                let spikes = self.spiking(spiking, values, &mut tape);
                self.rates.extend(self.call.measure.then(|| spikes.rate()));
                Value::Counts(Counts::spikes(spikes))
            }
            Node::AvgPool(pool) => match source(pool.source) {
                Value::Image(image) => Value::Image(image.average(*pool, node.output())),
                Value::Counts(counts) => Value::Counts(counts.average(*pool, node.output())),
            },
            Node::MaxPool(pool) => match source(pool.source) {
                Value::Image(image) => Value::Image(image.maximum(*pool, node.output())),
                Value::Counts(counts) => Value::Counts(counts.maximum(*pool, node.output())),
            },
            Node::Dropout { source: from, p, index, shape } => match self.call.mode {
                Mode::Train { seed } if *p > 0.0 => {
                    tape.mask = mask_bits(&dropout_mask(seed, *index, *p, self.batch * shape.len()), self.batch, *shape);
                    let scale = 1.0 / (1.0 - p);
                    match source(*from) {
                        Value::Image(image) => Value::Image(image.masked(&tape.mask, scale)),
                        Value::Counts(counts) => Value::Counts(counts.masked(&tape.mask, scale)),
                    }
                }
                _ => source(*from).clone(),
            },
        };
        self.nodes.push(tape);
        value
    }

    fn spiking(&mut self, spiking: &Spiking, values: &[Option<Value>], tape: &mut NodeTape) -> Spikes {
        let (steps, channels) = (self.call.body.steps, spiking.output.channels);
        let value = |source: usize| values[source].as_ref().expect("a value lives until its last use");
        let prepared = prepare(spiking, steps, value);
        let inputs: Vec<&Value> = prepared.iter().map(|own| value(own.branch.source)).collect();
        if self.call.count {
            prepared.iter().zip(&inputs).for_each(|(own, value)| self.count.add(own.branch.conv, steps, counted(value)));
        }
        let mut norms: Vec<Normal> = prepared.iter().map(|own| self.normal(own)).collect();
        let first_statistic = self.statistics.len();
        for own in &prepared {
            if matches!(own.branch.norm, Norm::Batch { .. }) && self.trains() {
                let zeros = || vec![0.0; channels];
                self.statistics.push(Statistic { mean: zeros(), variance: zeros() });
            }
        }
        let mut spikes = Spikes::zeros(self.batch, steps, spiking.output);
        for tile in 0..channels.div_ceil(WORD) {
            let width = tile_width(channels, tile);
            let weights: Vec<Buffer> = prepared.iter().map(|own| own.weights(self.params, tile)).collect();
            if self.trains() {
                let ys: Vec<Buffer> = (0..prepared.len())
                    .map(|branch| convolve_all(&prepared[branch], inputs[branch], &weights[branch], width, self.batch))
                    .collect();
                let mut statistic = first_statistic;
                for ((own, y), norm) in prepared.iter().zip(&ys).zip(&mut norms) {
                    if let Norm::Batch { gamma, beta, .. } = own.branch.norm {
                        let found = &mut self.statistics[statistic];
                        statistic += 1;
                        let moments = batch_moments(y, own.sample_len(width), width);
                        for (lane, (mean, variance, unbiased)) in moments.into_iter().take(channels - tile * WORD).enumerate() {
                            let channel = tile * WORD + lane;
                            norm.set(channel, (mean, variance), (self.params[gamma + channel], self.params[beta + channel]));
                            (found.mean[channel], found.variance[channel]) = (mean, unbiased);
                        }
                    }
                }
                fire_all(spiking, &prepared, &norms, &ys, tile, leak(spiking, self.params), &mut spikes);
            } else {
                infer_all(spiking, &prepared, &inputs, &weights, &norms, tile, leak(spiking, self.params), &mut spikes);
            }
        }
        tape.norms = norms;
        spikes
    }

    fn trains(&self) -> bool {
        matches!(self.call.mode, Mode::Train { .. })
    }

    /// A branch's norm as far as it is known before the batch was seen.
    fn normal(&self, own: &Prepared) -> Normal {
        let channels = own.branch.conv.outputs;
        let mut normal = Normal::zeros(channels);
        match own.branch.norm {
            Norm::Bias(at) => {
                normal.scale[..channels].fill(1.0);
                normal.shift[..channels].copy_from_slice(&self.params[at..at + channels]);
            }
            Norm::Batch { gamma, beta, statistic } if !self.trains() => {
                let running = &self.call.running[statistic];
                for channel in 0..channels {
                    let affine = (self.params[gamma + channel], self.params[beta + channel]);
                    normal.set(channel, (running.mean[channel], running.variance[channel]), affine);
                }
            }
            Norm::Batch { .. } => {}
        }
        normal
    }
}

impl Prepared {
    fn weights(&self, params: &[f32], tile: usize) -> Buffer {
        self.geometry.weights(&params[self.branch.weight..self.branch.weight + self.branch.conv.weights()], tile)
    }
}

fn counted(value: &Value) -> Counted<'_> {
    match value {
        Value::Image(_) => Counted::Image,
        Value::Counts(counts) if counts.planes.len() == 1 && counts.unit == 1.0 => Counted::Spikes(&counts.planes[0]),
        Value::Counts(_) => Counted::Fractions,
    }
}

/// A dropout's mask `[B, C, H, W]` as bits `[B, H * W, words]`.
fn mask_bits(keep: &[bool], batch: usize, shape: bloctrain_shared::ImageShape) -> Vec<u64> {
    let values: Vec<f32> = keep.iter().map(|&keep| f32::from(u8::from(keep))).collect();
    Spikes::from_values(&values, batch, 1, shape).words().to_vec()
}

/// Outputs of a tile for every sample.
fn convolve_all(own: &Prepared, input: &Value, weights: &[f32], width: usize, batch: usize) -> Buffer {
    let size = own.sample_len(width);
    let mut y = Buffer::zeros(batch * size);
    y.par_chunks_mut(size).enumerate().for_each(|(sample, y)| own.convolve(input, sample, weights, width, y));
    y
}

/// Mean, biased and unbiased variance by channel, from the moments of every sample, added in order.
fn batch_moments(y: &[f32], sample_len: usize, width: usize) -> Vec<(f32, f32, f32)> {
    let samples: Vec<(Vec<f32>, Vec<f32>)> = y
        .par_chunks(sample_len)
        .map(|rows| {
            let (mut mean, mut squares) = (vec![0.0; width], vec![0.0; width]);
            fire::moments(rows, width, &mut mean, &mut squares);
            (mean, squares)
        })
        .collect();
    let rows = (sample_len / width) as f64;
    let count = rows * samples.len() as f64;
    let channel = |lane: usize| {
        let mean = samples.iter().map(|(mean, _)| f64::from(mean[lane])).sum::<f64>() / samples.len().max(1) as f64;
        let within: f64 = samples.iter().map(|(_, squares)| f64::from(squares[lane])).sum();
        let between: f64 = samples.iter().map(|(own, _)| rows * (f64::from(own[lane]) - mean).powi(2)).sum();
        let variance = (within + between) / count;
        (mean as f32, variance as f32, (variance * count / (count - 1.0).max(1.0)) as f32)
    };
    (0..width).map(channel).collect()
}

fn tile_shift(prepared: &[Prepared], norms: &[Normal], lanes: Range<usize>) -> Vec<f32> {
    let mut shift = vec![0.0; lanes.len()];
    for (_, norm) in prepared.iter().zip(norms) {
        shift.iter_mut().zip(&norm.shift[lanes.clone()]).for_each(|(sum, shift)| *sum += shift);
    }
    shift
}

fn drives<'a>(
    prepared: &[Prepared],
    norms: &'a [Normal],
    ys: impl Iterator<Item = &'a [f32]>,
    lanes: &Range<usize>,
) -> Vec<Drive<'a>> {
    let one = |((own, norm), y): ((&Prepared, &'a Normal), &'a [f32])| Drive {
        y,
        constant: own.constant,
        scale: &norm.scale[lanes.clone()],
        mean: &norm.mean[lanes.clone()],
    };
    prepared.iter().zip(norms).zip(ys).map(one).collect()
}

/// Norm and neurons of a tile for every sample.
fn fire_all(
    spiking: &Spiking,
    prepared: &[Prepared],
    norms: &[Normal],
    ys: &[Buffer],
    tile: usize,
    leak: f32,
    spikes: &mut Spikes,
) {
    let lanes = lanes(spiking.output.channels, tile);
    let shift = tile_shift(prepared, norms, lanes.clone());
    let (steps, words) = (spikes.steps(), spikes.words_per_position());
    let (positions, width) = (spiking.output.area(), lanes.len());
    let layer = Tile { steps, positions, width, shift: &shift, leak, rule: spiking.rule };
    let size = spikes.sample_words();
    spikes.words_mut().par_chunks_mut(size).enumerate().for_each(|(sample, out)| {
        let own = prepared.iter().zip(ys).map(|(own, y)| &y[sample * own.sample_len(width)..][..own.sample_len(width)]);
        let output = Output { words: out, words_per_position: words, word: tile };
        fire::forward(&layer, &drives(prepared, norms, own, &lanes), output);
    });
}

/// Convolution, norm and neurons of a tile, sample by sample: nothing but spikes outlives a sample.
#[expect(clippy::too_many_arguments, reason = "the parts of one layer")]
fn infer_all(
    spiking: &Spiking,
    prepared: &[Prepared],
    inputs: &[&Value],
    weights: &[Buffer],
    norms: &[Normal],
    tile: usize,
    leak: f32,
    spikes: &mut Spikes,
) {
    let lanes = lanes(spiking.output.channels, tile);
    let shift = tile_shift(prepared, norms, lanes.clone());
    let (steps, words) = (spikes.steps(), spikes.words_per_position());
    let (positions, width) = (spiking.output.area(), lanes.len());
    let layer = Tile { steps, positions, width, shift: &shift, leak, rule: spiking.rule };
    let size = spikes.sample_words();
    let scratch = || prepared.iter().map(|own| Buffer::zeros(own.sample_len(width))).collect::<Vec<_>>();
    spikes.words_mut().par_chunks_mut(size).enumerate().for_each_init(scratch, |ys, (sample, out)| {
        for (branch, y) in ys.iter_mut().enumerate() {
            prepared[branch].convolve(inputs[branch], sample, &weights[branch], width, y);
        }
        let output = Output { words: out, words_per_position: words, word: tile };
        fire::forward(&layer, &drives(prepared, norms, ys.iter().map(|y| &**y), &lanes), output);
    });
}

/// Gradients of all parameters from the gradient of what left: spikes `[T, B, C, H, W]`, or their average `[B, C, H, W]`.
pub(in super::super) fn backward(tape: &Tape, params: &[f32], grad: &[f32]) -> Vec<f32> {
    let (body, batch) = (&tape.body, tape.batch);
    let mut learns = vec![false; body.nodes.len() + 1];
    for (index, node) in body.nodes.iter().enumerate() {
        learns[index + 1] = match node {
            Node::Spiking(_) => true,
            Node::AvgPool(pool) | Node::MaxPool(pool) => learns[pool.source],
            Node::Dropout { source, .. } => learns[*source],
        };
    }
    let mut grads: Vec<Option<Grad>> = (0..=body.nodes.len()).map(|_| None).collect();
    grads[body.output()] = Some(Grad::from_values(grad, tape.mean, batch, body.steps, body.shape(body.output())));
    let mut back = Back { tape, params, learns, grads, out: vec![0.0; body.parameters] };
    for index in (0..body.nodes.len()).rev() {
        if let Some(grad) = back.grads[index + 1].take() {
            back.node(index, grad);
        }
    }
    back.out
}

struct Back<'a> {
    tape: &'a Tape,
    params: &'a [f32],
    learns: Vec<bool>,
    grads: Vec<Option<Grad>>,
    out: Vec<f32>,
}

impl Back<'_> {
    fn node(&mut self, index: usize, grad: Grad) {
        match &self.tape.body.nodes[index] {
            Node::Spiking(spiking) => self.spiking(index, spiking, grad),
            Node::AvgPool(pool) if self.learns[pool.source] => self.unpool(*pool, grad, &spread),
            Node::MaxPool(pool) if self.learns[pool.source] => {
                let Value::Counts(counts) = &self.tape.values[pool.source] else { return };
                let counts = counts.clone();
                self.unpool(*pool, grad, &move |unpooling, to, from| route(&counts, unpooling, to, from));
            }
            Node::Dropout { source, p, .. } if self.learns[*source] => {
                let mask = &self.tape.nodes[index].mask;
                let grad = if mask.is_empty() { grad } else { masked(grad, mask, 1.0 / (1.0 - p)) };
                self.add(*source, grad);
            }
            _ => {}
        }
    }

    fn add(&mut self, value: usize, grad: Grad) {
        match &mut self.grads[value] {
            None => self.grads[value] = Some(grad),
            Some(sum) => {
                for (sum, grad) in sum.tiles.iter_mut().zip(&grad.tiles) {
                    sum.par_chunks_mut(1 << 14).zip(grad.par_chunks(1 << 14)).for_each(|(sum, grad)| {
                        sum.iter_mut().zip(grad).for_each(|(sum, grad)| *sum += grad);
                    });
                }
            }
        }
    }

    fn unpool(&mut self, pool: Pool, grad: Grad, rule: &(dyn Fn(&Unpooling, &mut [f32], &[f32]) + Sync)) {
        let mut out = Grad::zeros(self.tape.batch, grad.steps, pool.input);
        let output = grad.shape;
        for tile in 0..out.tiles.len() {
            let (width, steps) = (grad.width(tile), grad.steps);
            let (to, from) = (pool.input.area() * width, output.area() * width);
            out.tiles[tile].par_chunks_mut(to).zip(grad.tiles[tile].par_chunks(from)).enumerate().for_each(
                |(frame, (to, from))| {
                    rule(&Unpooling { pool, output, tile, width, sample: frame / steps, step: frame % steps }, to, from);
                },
            );
        }
        self.add(pool.source, out);
    }

    fn spiking(&mut self, index: usize, spiking: &Spiking, mut grad: Grad) {
        let (tape, batch) = (self.tape, self.tape.batch);
        let steps = tape.body.steps;
        let prepared = prepare(spiking, steps, |source| &tape.values[source]);
        for branch in &spiking.branches {
            if self.learns[branch.source] && self.grads[branch.source].is_none() {
                self.grads[branch.source] = Some(Grad::zeros(batch, steps, branch.conv.input));
            }
        }
        let norms = &tape.nodes[index].norms;
        for tile in 0..spiking.output.channels.div_ceil(WORD) {
            let width = grad.width(tile);
            let mut own_grad = std::mem::take(&mut grad.tiles[tile]);
            let weights: Vec<Buffer> = prepared.iter().map(|own| own.weights(self.params, tile)).collect();
            let ys: Vec<Buffer> = prepared
                .iter()
                .zip(&weights)
                .map(|(own, weights)| convolve_all(own, &tape.values[own.branch.source], weights, width, batch))
                .collect();
            let sums = self.through_neurons(spiking, &prepared, norms, &ys, tile, &mut own_grad);
            for (branch, own) in prepared.iter().enumerate() {
                let coefficients = self.norm_grad(own, &norms[branch], tile, width, &sums, branch);
                let lanes = lanes(spiking.output.channels, tile);
                let layer = BranchBack {
                    own,
                    value: &tape.values[own.branch.source],
                    y: &ys[branch],
                    mean: &norms[branch].mean[lanes],
                    coefficients,
                    grad: &own_grad,
                    steps,
                    width,
                    tile,
                };
                let target = if self.learns[own.branch.source] { self.grads[own.branch.source].as_mut() } else { None };
                let weight_grad = layer.run(batch, &weights[branch], target);
                let flat = &mut self.out[own.branch.weight..own.branch.weight + own.branch.conv.weights()];
                own.geometry.add_weight_grad(&weight_grad, tile, flat);
            }
        }
    }

    /// Turns the gradient of a tile's spikes into that of its drive, in place. Returns sums over the batch by channel: of
    /// the drive's gradient, then for each branch of its product with the centred output. Adds the leak's gradient.
    fn through_neurons(
        &mut self,
        spiking: &Spiking,
        prepared: &[Prepared],
        norms: &[Normal],
        ys: &[Buffer],
        tile: usize,
        grad: &mut [f32],
    ) -> Vec<Vec<f64>> {
        let lanes = lanes(spiking.output.channels, tile);
        let shift = tile_shift(prepared, norms, lanes.clone());
        let (steps, positions, width) = (self.tape.body.steps, spiking.output.area(), lanes.len());
        let leak = leak(spiking, self.params);
        let layer = Tile { steps, positions, width, shift: &shift, leak, rule: spiking.rule };
        let columns = 2 + prepared.len();
        let samples: Vec<Vec<f32>> = grad
            .par_chunks_mut(steps * positions * width)
            .enumerate()
            .map(|(sample, grad)| {
                let own = prepared.iter().zip(ys).map(|(own, y)| &y[sample * own.sample_len(width)..][..own.sample_len(width)]);
                let mut found = vec![0.0; columns * width];
                let mut parts = found.chunks_mut(width);
                let (Some(drive), Some(leak)) = (parts.next(), parts.next()) else { unreachable!("at least two columns") };
                let mut sums = Sums { drive, leak, centred: parts.collect() };
                let mut membranes = vec![0.0; steps * PAD];
                fire::backward(&layer, &drives(prepared, norms, own, &lanes), grad, &mut sums, &mut membranes);
                found
            })
            .collect();
        let sum = |column: usize| -> Vec<f64> {
            (0..width).map(|lane| samples.iter().map(|sample| f64::from(sample[column * width + lane])).sum()).collect()
        };
        if let Leak::Learned(at) = spiking.leak {
            self.out[at] += (sum(1).iter().sum::<f64>() * f64::from(leak * (1.0 - leak))) as f32;
        }
        std::iter::once(0).chain(2..columns).map(sum).collect()
    }

    /// Gradients of a norm's parameters, and the coefficients of its input's gradient.
    fn norm_grad(
        &mut self,
        own: &Prepared,
        norm: &Normal,
        tile: usize,
        width: usize,
        sums: &[Vec<f64>],
        branch: usize,
    ) -> Coefficients {
        let zeros = || vec![0.0; width];
        let mut found = Coefficients { a: zeros(), b: zeros(), c: zeros() };
        let count = (self.tape.batch * own.sample_len(width) / width) as f64;
        for lane in 0..own.geometry.outputs(tile) {
            let channel = tile * WORD + lane;
            let (sum, centred) = (sums[0][lane], sums[1 + branch][lane]);
            match own.branch.norm {
                Norm::Bias(at) => {
                    found.a[lane] = 1.0;
                    self.out[at + channel] += sum as f32;
                }
                Norm::Batch { gamma, beta, .. } => {
                    let (inverse, scale) = (f64::from(norm.inverse[channel]), f64::from(norm.scale[channel]));
                    self.out[gamma + channel] += (inverse * centred) as f32;
                    self.out[beta + channel] += sum as f32;
                    found.a[lane] = scale as f32;
                    found.b[lane] = (-scale * inverse * inverse * centred / count) as f32;
                    found.c[lane] = (-scale * sum / count) as f32;
                }
            }
        }
        found
    }
}

/// One branch of one tile on its way back.
struct BranchBack<'a> {
    own: &'a Prepared,
    value: &'a Value,
    y: &'a [f32],
    mean: &'a [f32],
    coefficients: Coefficients,
    /// Gradient of the drive `[B, T, P, width]`.
    grad: &'a [f32],
    steps: usize,
    width: usize,
    tile: usize,
}

impl BranchBack<'_> {
    /// Adds the input's gradient to `target` and returns that of the weights `[taps, rows, width]`.
    fn run(&self, batch: usize, weights: &[f32], target: Option<&mut Grad>) -> Buffer {
        let turned = if target.is_some() { self.own.geometry.turned(weights, self.tile) } else { Vec::new() };
        let per_part = batch.div_ceil(PARTS).max(1);
        let parts = batch.div_ceil(per_part);
        let mut targets: Vec<Vec<&mut [f32]>> = (0..parts).map(|_| Vec::new()).collect();
        if let Some(grad) = target {
            let sizes: Vec<usize> = (0..grad.tiles.len()).map(|tile| grad.sample_len(tile)).collect();
            for (tile, size) in grad.tiles.iter_mut().zip(sizes) {
                tile.chunks_mut(size * per_part).zip(&mut targets).for_each(|(chunk, own)| own.push(chunk));
            }
        }
        let sums: Vec<Buffer> = targets
            .into_par_iter()
            .enumerate()
            .map(|(part, mut target)| {
                let samples = part * per_part..((part + 1) * per_part).min(batch);
                self.part(samples, &turned, &mut target, weights.len())
            })
            .collect();
        let mut sums = sums.into_iter();
        let mut total = sums.next().unwrap_or_else(|| Buffer::zeros(weights.len()));
        for part in sums {
            total.iter_mut().zip(part.iter()).for_each(|(total, value)| *total += value);
        }
        total
    }

    fn part(&self, samples: Range<usize>, turned: &[Buffer], target: &mut [&mut [f32]], weights: usize) -> Buffer {
        let geometry = &self.own.geometry;
        let mut sum = Buffer::zeros(weights);
        let mut framed = Buffer::zeros(geometry.framed_area() * self.width);
        let mut lists = (!self.own.constant).then(|| Lists::new(geometry));
        let first = samples.start;
        for sample in samples {
            for frame in 0..geometry.frames {
                self.frame(sample, frame, &mut framed);
                match (self.value, &mut lists) {
                    (Value::Image(image), _) => {
                        dense::image_weight_grad(geometry, image.sample(sample), &framed, self.width, &mut sum);
                    }
                    (Value::Counts(counts), Some(lists)) => {
                        let size = geometry.input_area() * geometry.words;
                        let planes: Vec<(&[u64], f32)> =
                            counts.sample(sample).map(|(plane, worth)| (&plane[frame * size..][..size], worth)).collect();
                        sparse::weight_grad(geometry, &planes, &framed, self.width, lists, &mut sum);
                    }
                    (Value::Counts(_), None) => unreachable!("lists are made for spikes"),
                }
                for (input_tile, weights) in turned.iter().enumerate() {
                    self.input_grad(sample - first, frame, input_tile, weights, &framed, target);
                }
            }
        }
        sum
    }

    /// Gradient of one frame of the convolution's output, framed by zeros.
    fn frame(&self, sample: usize, frame: usize, framed: &mut [f32]) {
        let geometry = &self.own.geometry;
        let size = geometry.output_area() * self.width;
        let y = &self.y[(sample * geometry.frames + frame) * size..][..size];
        let grad = &self.grad[sample * self.steps * self.own.branch.conv.output().area() * self.width..];
        let grads: Vec<&[f32]> = if self.own.constant {
            (0..self.steps).map(|step| &grad[step * size..][..size]).collect()
        } else {
            vec![&grad[frame * size..][..size]]
        };
        let frame = Frame { values: framed, framed: geometry.framed, before: geometry.before, inner: geometry.output };
        fire::norm_backward(self.width, y, self.mean, &grads, &self.coefficients, frame);
    }

    fn input_grad(
        &self,
        sample: usize,
        frame: usize,
        input_tile: usize,
        weights: &[f32],
        framed: &[f32],
        target: &mut [&mut [f32]],
    ) {
        let geometry = &self.own.geometry;
        let input = self.own.branch.conv.input;
        let (tile, start, distance) = geometry.input_tile(input_tile);
        let tile_width = tile_width(input.channels, tile);
        let frame_len = input.area() * tile_width;
        let (from, len) = if geometry.frames == self.steps {
            ((sample * self.steps + frame) * frame_len, frame_len)
        } else {
            (sample * self.steps * frame_len, self.steps * frame_len)
        };
        let target = Target { values: &mut target[tile][from..from + len], start, distance };
        dense::input_grad(geometry, framed, self.width, geometry.outputs(self.tile), weights, tile_width, target);
    }
}

/// One frame of one tile on its way back through a pooling.
struct Unpooling {
    pool: Pool,
    output: bloctrain_shared::ImageShape,
    tile: usize,
    width: usize,
    sample: usize,
    step: usize,
}

fn spread(at: &Unpooling, to: &mut [f32], from: &[f32]) {
    let share = 1.0 / (at.pool.size * at.pool.size) as f32;
    for (position, row) in from.chunks(at.width).enumerate() {
        for place in window(at.pool, at.output, position) {
            let to = &mut to[place * at.width..(place + 1) * at.width];
            to.iter_mut().zip(row).for_each(|(to, value)| *to = value * share);
        }
    }
}

fn route(counts: &Counts, at: &Unpooling, to: &mut [f32], from: &[f32]) {
    let mut wins = vec![0; at.pool.size * at.pool.size];
    for (position, row) in from.chunks(at.width).enumerate() {
        let places: Vec<usize> = window(at.pool, at.output, position).collect();
        counts.winners(at.sample, at.step, &places, at.tile, &mut wins);
        for (&place, wins) in places.iter().zip(&wins) {
            let to = &mut to[place * at.width..(place + 1) * at.width];
            for (lane, (to, value)) in to.iter_mut().zip(row).enumerate() {
                *to = if wins >> lane & 1 == 1 { *value } else { 0.0 };
            }
        }
    }
}

/// The gradient where the mask has a one, scaled.
fn masked(mut grad: Grad, mask: &[u64], scale: f32) -> Grad {
    let (area, steps, words) = (grad.shape.area(), grad.steps, grad.shape.channels.div_ceil(WORD));
    for tile in 0..grad.tiles.len() {
        let width = grad.width(tile);
        grad.tiles[tile].par_chunks_mut(area * width).enumerate().for_each(|(frame, values)| {
            for (position, row) in values.chunks_mut(width).enumerate() {
                let bits = mask[(frame / steps * area + position) * words + tile];
                for (lane, value) in row.iter_mut().enumerate() {
                    *value = if bits >> lane & 1 == 1 { *value * scale } else { 0.0 };
                }
            }
        });
    }
    grad
}

/// The input of a body as the CPU keeps it.
pub(super) fn image(values: &[f32], shape: bloctrain_shared::ImageShape) -> Value {
    Value::Image(Image::new(values, shape))
}

/// See [`image`].
pub(super) fn spikes(spikes: Spikes) -> Value {
    Value::Counts(Counts::spikes(spikes))
}
