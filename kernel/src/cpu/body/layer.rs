//! One spiking layer as both directions see it: its branches with their geometry, and its norms with their numbers.

use super::super::buffer::{Buffer, with_scratch};
use super::super::dense::{self, Operands};
use super::super::geometry::Geometry;
use super::super::group::Target;
use super::super::norm_neuron::{self, Drive, Tile};
use super::super::simd::PAD;
use super::super::sparse::{self, Planes};
use super::super::value::{Value, tile_width};
use super::super::{map, winograd};
use super::algorithm::{Algorithm, Density};
use super::made::Made;
use crate::spikes::WORD;
use bloctrain_memory::keep::worth_keeping;
use bloctrain_shared::graph::{Branch, EPSILON, Spiking};
use bloctrain_shared::math::sigmoid;
use bloctrain_shared::neuron::Leak;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A norm with its numbers: `scale * y + shift`, by padded output channel.
#[derive(Debug, Clone)]
pub(super) struct Normal {
    pub(super) mean: Vec<f32>,
    pub(super) inverse: Vec<f32>,
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

impl Normal {
    pub(super) fn zeros(channels: usize) -> Self {
        let padded = channels.next_multiple_of(PAD);
        let zeros = || vec![0.0; padded];
        Self { mean: zeros(), inverse: zeros(), scale: zeros(), shift: zeros() }
    }

    /// Takes in the statistics of one channel.
    pub(super) fn set(&mut self, channel: usize, (mean, variance): (f32, f32), (gamma, beta): (f32, f32)) {
        let inverse = 1.0 / (variance + EPSILON).sqrt();
        self.mean[channel] = mean;
        self.inverse[channel] = inverse;
        self.scale[channel] = gamma * inverse;
        self.shift[channel] = beta - mean * gamma * inverse;
    }
}

/// Padded channels of an output tile.
pub(super) fn lanes(channels: usize, tile: usize) -> Range<usize> {
    tile * WORD..tile * WORD + tile_width(channels, tile)
}

fn leak(spiking: &Spiking, params: &[f32]) -> f32 {
    match spiking.leak {
        Leak::Fixed(leak) => leak,
        Leak::Learned(at) => sigmoid(params[at]),
    }
}

/// Weights of one output tile, in the orders that the kernels want.
#[derive(Debug)]
pub(super) struct Weights {
    /// `[taps, rows, width]`.
    pub(super) rows: Buffer,
    /// The same in Winograd's transform domain, made by [`PreparedBranch::ready`].
    transformed: OnceLock<Buffer>,
}

/// Geometries by where a branch's weights begin, and whether its input is the same at every step.
pub(super) type Geometries = Made<(usize, bool), Geometry>;

pub(super) struct PreparedBranch {
    pub(super) branch: Branch,
    pub(super) geometry: Arc<Geometry>,
    pub(super) constant: bool,
    /// How many spikes each sample has; empty for images.
    densities: Vec<Density>,
}

pub(super) fn prepare<'a>(
    spiking: &Spiking,
    steps: usize,
    batch: usize,
    kept: Option<&Geometries>,
    value: impl Fn(usize) -> &'a Value,
) -> Vec<PreparedBranch> {
    let one = |branch: &Branch| {
        let value = value(branch.source);
        let constant = matches!(value, Value::Image(_));
        let make = || Geometry::new(branch.conv, steps, constant);
        let geometry = match kept {
            Some(kept) => kept.get((branch.weight, constant), make),
            None => Arc::new(make()),
        };
        let densities = match value {
            Value::Image(_) => Vec::new(),
            Value::Counts(counts) => {
                (0..batch).into_par_iter().map(|sample| Density::new(&geometry, counts, sample)).collect()
            }
        };
        PreparedBranch { branch: *branch, geometry, constant, densities }
    };
    spiking.branches.iter().map(one).collect()
}

impl PreparedBranch {
    /// Values of one sample's outputs in a tile.
    pub(super) fn sample_len(&self, width: usize) -> usize {
        self.geometry.frames * self.frame_len(width)
    }

    fn frame_len(&self, width: usize) -> usize {
        self.geometry.output_area() * width
    }

    /// Outputs of one sample, in so many parts at the same time.
    pub(super) fn convolve_in_parts(
        &self,
        value: &Value,
        sample: usize,
        weights: &Weights,
        width: usize,
        parts: usize,
        y: &mut [f32],
    ) {
        let frames = self.geometry.frames.div_ceil(parts);
        y.par_chunks_mut(frames * self.frame_len(width)).enumerate().for_each(|(part, y)| {
            y.fill(0.0);
            self.convolve(value, (sample, part * frames), weights, width, y);
        });
    }

    /// Outputs of as many frames as there is room for, from one of a sample on, into zeros.
    pub(super) fn convolve<'a>(
        &self,
        value: &'a Value,
        (sample, first): (usize, usize),
        weights: &Weights,
        width: usize,
        y: &mut [f32],
    ) {
        let geometry = &self.geometry;
        let frame_words = geometry.input_area() * geometry.words;
        let frames = first * frame_words..(first + y.len() / self.frame_len(width)) * frame_words;
        let of_frames = |(plane, worth): (&'a [u64], f32)| (&plane[frames.clone()], worth);
        match (value, self.densities.get(sample).map(|density| density.forward_algorithm(geometry))) {
            (Value::Image(image), _) => with_scratch(geometry.map_area() * geometry.rows, |map| {
                map::of_image(geometry, image.sample(sample), map);
                let operands =
                    Operands { map, row_stride: geometry.rows, weights: &weights.rows, rows: geometry.rows, width };
                let target = Target { values: y, start: 0, row_stride: width };
                dense::product(std::slice::from_ref(&geometry.reach), operands, target);
            }),
            (Value::Counts(counts), None | Some(Algorithm::Lists)) => {
                let planes: Vec<(&[u64], f32)> = counts.sample(sample).map(of_frames).collect();
                sparse::forward(geometry, &planes, &weights.rows, width, y);
            }
            (Value::Counts(counts), Some(algorithm)) => {
                let planes: Vec<(&[u64], f32)> = counts.sample(sample).map(of_frames).collect();
                self.convolve_densely(&planes, algorithm == Algorithm::Winograd, weights, width, y);
            }
        }
    }

    fn convolve_densely(&self, planes: &Planes<'_>, by_winograd: bool, weights: &Weights, width: usize, y: &mut [f32]) {
        let geometry = &self.geometry;
        let row_stride = map::row_stride(geometry);
        let (at_once, map_len) = (geometry.frames_at_once(), geometry.map_area() * row_stride);
        let frame_len = self.frame_len(width);
        let shape = winograd::Shape {
            frames: at_once,
            size: geometry.output,
            row_stride,
            inputs: geometry.rows,
            outputs: width,
        };
        let scratch = if by_winograd { winograd::scratch(&shape) } else { 0 };
        with_scratch(at_once * map_len + scratch, |all| {
            for (index, y) in y.chunks_mut(at_once * frame_len).enumerate() {
                let frames = y.len() / frame_len;
                let (maps, scratch) = all.split_at_mut(frames * map_len);
                map::of_spikes(geometry, planes, index * at_once..index * at_once + frames, maps);
                if by_winograd {
                    let target = Target { values: y, start: 0, row_stride: width };
                    let transformed = weights.transformed.get().expect("made ready before the samples were looked at");
                    winograd::add(&winograd::Shape { frames, ..shape }, maps, transformed, target, scratch);
                    continue;
                }
                for (map, y) in maps.chunks(map_len).zip(y.chunks_mut(frame_len)) {
                    let operands = Operands { map, row_stride, weights: &weights.rows, rows: geometry.rows, width };
                    let target = Target { values: y, start: 0, row_stride: width };
                    dense::product(std::slice::from_ref(&geometry.reach), operands, target);
                }
            }
        });
    }

    /// Whether outputs are kept for the backward pass where their layer keeps any.
    pub(super) fn is_worth_keeping(&self) -> bool {
        !self.constant && worth_keeping(self.branch.conv.inputs())
    }

    /// The algorithm of a sample's weight gradient.
    pub(super) fn weight_grad_algorithm(&self, sample: usize) -> Algorithm {
        self.densities.get(sample).map_or(Algorithm::Product, |density| density.weight_grad_algorithm(&self.geometry))
    }

    /// Makes what the samples of this call need of a tile's weights. Not under a lock: it is done in parallel, and a
    /// thread that waits may take on another sample that needs the same.
    pub(super) fn ready(&self, weights: &Weights) {
        let by_winograd = |density: &Density| density.forward_algorithm(&self.geometry) == Algorithm::Winograd;
        if weights.transformed.get().is_none() && self.densities.iter().any(by_winograd) {
            // Someone else may have been faster, with the same values.
            let _ = weights.transformed.set(self.geometry.to_transform_domain(&weights.rows, &self.geometry.reach));
        }
    }

    /// Weights of a tile in the order of the kernels.
    pub(super) fn weights(&self, params: &[f32], tile: usize) -> Weights {
        let geometry = &self.geometry;
        let rows = geometry.weights(&params[self.branch.weight..self.branch.weight + self.branch.conv.weights()], tile);
        Weights { rows, transformed: OnceLock::new() }
    }
}

/// Mean and sum of squares around it by lane.
pub(super) type Moments = [Vec<f32>; 2];

/// Outputs of a tile for every sample, and their moments, taken while a sample is in the cache.
pub(super) fn convolve_and_measure(
    own: &PreparedBranch,
    input: &Value,
    weights: &Weights,
    width: usize,
    batch: usize,
) -> (Buffer, Vec<Moments>) {
    let size = own.sample_len(width);
    let moments: Vec<OnceLock<Moments>> = (0..batch).map(|_| OnceLock::new()).collect();
    let y = Buffer::made(batch * size, size, |sample, y| {
        own.convolve(input, (sample, 0), weights, width, y);
        moments[sample].get_or_init(|| {
            let mut found = [vec![0.0; width], vec![0.0; width]];
            let [mean, squares] = &mut found;
            norm_neuron::moments(y, width, mean, squares);
            found
        });
    });
    (y, moments.into_iter().map(|moments| moments.into_inner().expect("every sample was worked on")).collect())
}

/// Outputs of a tile for every sample.
pub(super) fn convolve_all(
    own: &PreparedBranch,
    input: &Value,
    weights: &Weights,
    width: usize,
    batch: usize,
) -> Buffer {
    let size = own.sample_len(width);
    Buffer::made(batch * size, size, |sample, y| own.convolve(input, (sample, 0), weights, width, y))
}

/// One tile of a layer: its branches with their norms, and its neurons.
pub(super) struct NormNeuron<'a> {
    spiking: &'a Spiking,
    pub(super) prepared: &'a [PreparedBranch],
    norms: &'a [Normal],
    lanes: Range<usize>,
    /// Sum of the branches' shifts.
    shift: Vec<f32>,
    steps: usize,
    leak: f32,
}

impl<'a> NormNeuron<'a> {
    pub(super) fn new(
        spiking: &'a Spiking,
        prepared: &'a [PreparedBranch],
        norms: &'a [Normal],
        tile: usize,
        steps: usize,
        params: &[f32],
    ) -> Self {
        let lanes = lanes(spiking.output.channels, tile);
        let mut shift = vec![0.0; lanes.len()];
        for norm in norms {
            shift.iter_mut().zip(&norm.shift[lanes.clone()]).for_each(|(sum, shift)| *sum += shift);
        }
        Self { spiking, prepared, norms, lanes, shift, steps, leak: leak(spiking, params) }
    }

    pub(super) fn tile(&self) -> Tile<'_> {
        Tile {
            steps: self.steps,
            positions: self.spiking.output.area(),
            width: self.lanes.len(),
            shift: &self.shift,
            leak: self.leak,
            rule: self.spiking.rule,
        }
    }

    /// One sample of every branch's outputs.
    pub(super) fn of_sample<'y>(&self, ys: &'y [Buffer], sample: usize) -> Vec<&'y [f32]> {
        let size = |own: &PreparedBranch| own.sample_len(self.lanes.len());
        self.prepared.iter().zip(ys).map(|(own, y)| &y[sample * size(own)..][..size(own)]).collect()
    }

    /// What drives the neurons, from every branch's outputs for a sample.
    pub(super) fn drives<'y>(&'y self, ys: Vec<&'y [f32]>) -> Vec<Drive<'y>> {
        let one = |((own, norm), y): ((&PreparedBranch, &'y Normal), &'y [f32])| Drive {
            y,
            constant: own.constant,
            scale: &norm.scale[self.lanes.clone()],
            mean: &norm.mean[self.lanes.clone()],
        };
        self.prepared.iter().zip(self.norms).zip(ys).map(one).collect()
    }
}
