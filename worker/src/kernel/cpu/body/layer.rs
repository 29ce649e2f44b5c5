//! One spiking layer as both directions see it: its branches with their geometry, and its norms with their numbers.

use super::super::buffer::Buffer;
use super::super::dense;
use super::super::fire::{Drive, Tile};
use super::super::geometry::Geometry;
use super::super::simd::PAD;
use super::super::sparse;
use super::super::value::{Value, tile_width};
use crate::kernel::plan::{Branch, EPSILON, Leak, Spiking};
use crate::kernel::spikes::WORD;
use rayon::prelude::*;
use std::ops::Range;

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
        Leak::Learned(at) => 1.0 / (1.0 + (-params[at]).exp()),
    }
}

pub(super) struct Prepared {
    pub(super) branch: Branch,
    pub(super) geometry: Geometry,
    pub(super) constant: bool,
}

pub(super) fn prepare<'a>(spiking: &Spiking, steps: usize, value: impl Fn(usize) -> &'a Value) -> Vec<Prepared> {
    let one = |branch: &Branch| {
        let constant = matches!(value(branch.source), Value::Image(_));
        Prepared { branch: *branch, geometry: Geometry::new(branch.conv, steps, constant), constant }
    };
    spiking.branches.iter().map(one).collect()
}

impl Prepared {
    /// Values of one sample's outputs in a tile.
    pub(super) fn sample_len(&self, width: usize) -> usize {
        self.geometry.frames * self.geometry.output_area() * width
    }

    /// Outputs of one sample.
    pub(super) fn convolve(&self, value: &Value, sample: usize, weights: &[f32], width: usize, y: &mut [f32]) {
        match value {
            Value::Image(image) => dense::image_forward(&self.geometry, image.sample(sample), weights, width, y),
            Value::Counts(counts) => {
                let planes: Vec<(&[u64], f32)> = counts.sample(sample).collect();
                sparse::forward(&self.geometry, &planes, weights, width, y);
            }
        }
    }

    /// Weights of a tile in the order of the kernels.
    pub(super) fn weights(&self, params: &[f32], tile: usize) -> Buffer {
        self.geometry.weights(&params[self.branch.weight..self.branch.weight + self.branch.conv.weights()], tile)
    }
}

/// Outputs of a tile for every sample.
pub(super) fn convolve_all(own: &Prepared, input: &Value, weights: &[f32], width: usize, batch: usize) -> Buffer {
    let size = own.sample_len(width);
    let mut y = Buffer::zeros(batch * size);
    y.par_chunks_mut(size).enumerate().for_each(|(sample, y)| own.convolve(input, sample, weights, width, y));
    y
}

/// One tile of a layer, ready to fire: its branches with their norms, and its neurons.
pub(super) struct Firing<'a> {
    spiking: &'a Spiking,
    pub(super) prepared: &'a [Prepared],
    norms: &'a [Normal],
    lanes: Range<usize>,
    /// Sum of the branches' shifts.
    shift: Vec<f32>,
    steps: usize,
    leak: f32,
}

impl<'a> Firing<'a> {
    pub(super) fn new(
        spiking: &'a Spiking,
        prepared: &'a [Prepared],
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
        let size = |own: &Prepared| own.sample_len(self.lanes.len());
        self.prepared.iter().zip(ys).map(|(own, y)| &y[sample * size(own)..][..size(own)]).collect()
    }

    /// What drives the neurons, from every branch's outputs for a sample.
    pub(super) fn drives<'y>(&'y self, ys: Vec<&'y [f32]>) -> Vec<Drive<'y>> {
        let one = |((own, norm), y): ((&Prepared, &'y Normal), &'y [f32])| Drive {
            y,
            constant: own.constant,
            scale: &norm.scale[self.lanes.clone()],
            mean: &norm.mean[self.lanes.clone()],
        };
        self.prepared.iter().zip(self.norms).zip(ys).map(one).collect()
    }
}
