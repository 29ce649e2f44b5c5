//! What flows between the nodes of a body on the CPU: images as f32, everything that comes of spikes as bits.
//!
//! Spikes, averages of spikes over windows and spikes after dropout are all small whole numbers times a unit. They are
//! kept as bit planes: value = unit * sum of 2^k * plane k, so one kernel that adds weight rows for ones serves them
//! all.

use super::buffer::Buffer;
use super::simd::PAD;
use crate::spikes::{Spikes, WORD};
use bloctrain_shared::ImageShape;
use bloctrain_shared::graph::Pool;
use rayon::prelude::*;

/// A value over a batch.
#[derive(Debug, Clone)]
pub(in super::super) enum Value {
    /// The same at every step.
    Image(Image),
    /// Whole numbers over time.
    Counts(Counts),
}

/// Images `[B, H * W, C]`.
#[derive(Debug, Clone)]
pub(in super::super) struct Image {
    pub(super) values: Vec<f32>,
    pub(super) shape: ImageShape,
}

/// Whole numbers times a unit, bit-sliced.
#[derive(Debug, Clone)]
pub(in super::super) struct Counts {
    pub(super) planes: Vec<Spikes>,
    pub(super) unit: f32,
}

impl Image {
    /// From `[B, C, H, W]`.
    pub(super) fn new(values: &[f32], shape: ImageShape) -> Self {
        let (area, channels) = (shape.area(), shape.channels);
        let mut out = vec![0.0; values.len()];
        for (out, image) in out.chunks_mut(shape.len().max(1)).zip(values.chunks(shape.len().max(1))) {
            for position in 0..area {
                for channel in 0..channels {
                    out[position * channels + channel] = image[channel * area + position];
                }
            }
        }
        Self { values: out, shape }
    }

    pub(super) fn sample(&self, sample: usize) -> &[f32] {
        &self.values[sample * self.shape.len()..][..self.shape.len()]
    }

    /// Pools with a rule for the values of a window.
    fn pool(&self, pool: Pool, output: ImageShape, rule: impl Fn(&mut dyn Iterator<Item = f32>) -> f32) -> Self {
        let channels = self.shape.channels;
        let batch = self.values.len() / self.shape.len().max(1);
        let mut values = Vec::with_capacity(batch * output.len());
        for sample in 0..batch {
            let image = self.sample(sample);
            for position in 0..output.area() {
                for channel in 0..channels {
                    let mut window = window(pool, output, position).map(|from| image[from * channels + channel]);
                    values.push(rule(&mut window));
                }
            }
        }
        Self { values, shape: output }
    }

    pub(super) fn average(&self, pool: Pool, output: ImageShape) -> Self {
        let share = 1.0 / (pool.size * pool.size) as f32;
        self.pool(pool, output, |window| window.sum::<f32>() * share)
    }

    pub(super) fn maximum(&self, pool: Pool, output: ImageShape) -> Self {
        self.pool(pool, output, |window| window.fold(f32::NEG_INFINITY, f32::max))
    }

    /// Keeps values where the mask `[B, H * W, words]` has a one, scaled.
    pub(super) fn masked(&self, mask: &[u64], scale: f32) -> Self {
        let channels = self.shape.channels;
        let words = channels.div_ceil(WORD);
        let keep = |(index, &value): (usize, &f32)| {
            let (position, channel) = (index / channels, index % channels);
            if mask[position * words + channel / WORD] >> (channel % WORD) & 1 == 1 { value * scale } else { 0.0 }
        };
        Self { values: self.values.iter().enumerate().map(keep).collect(), shape: self.shape }
    }
}

/// Input positions of one output position of a pooling, row by row.
pub(super) fn window(pool: Pool, output: ImageShape, position: usize) -> impl Iterator<Item = usize> {
    let (y, x) = (position / output.width.max(1), position % output.width.max(1));
    let (size, width) = (pool.size, pool.input.width);
    (0..size).flat_map(move |dy| (0..size).map(move |dx| (y * size + dy) * width + x * size + dx))
}

/// Masks of where bit-sliced `a` is greater than `b`.
fn greater(a: &[u64], b: &[u64]) -> u64 {
    let (mut greater, mut equal) = (0, u64::MAX);
    for (a, b) in a.iter().zip(b).rev() {
        greater |= equal & a & !b;
        equal &= !(a ^ b);
    }
    greater
}

impl Counts {
    pub(super) fn spikes(spikes: Spikes) -> Self {
        Self { planes: vec![spikes], unit: 1.0 }
    }

    pub(super) fn shape(&self) -> ImageShape {
        self.planes[0].shape()
    }

    pub(super) fn steps(&self) -> usize {
        self.planes[0].steps()
    }

    /// Each plane of a sample with what its ones are worth.
    pub(super) fn sample(&self, sample: usize) -> impl Iterator<Item = (&[u64], f32)> {
        let worth = |plane: usize| self.unit * (1_u64 << plane) as f32;
        self.planes.iter().enumerate().map(move |(index, plane)| (plane.sample(sample), worth(index)))
    }

    fn pooled(
        &self,
        output: ImageShape,
        planes: usize,
        pool: Pool,
        rule: impl Fn(&[u64], &mut [u64]) + Sync,
    ) -> Vec<Spikes> {
        let (batch, steps) = (self.planes[0].batch(), self.steps());
        let words = output.channels.div_ceil(WORD);
        let mut out = vec![Spikes::zeros(batch, steps, output); planes];
        let frame_in = pool.input.area() * words;
        let mut frames: Vec<Vec<&mut [u64]>> = Vec::new();
        for plane in &mut out {
            for (index, chunk) in plane.words_mut().chunks_mut((output.area() * words).max(1)).enumerate() {
                if frames.len() <= index {
                    frames.push(Vec::with_capacity(planes));
                }
                frames[index].push(chunk);
            }
        }
        frames.par_iter_mut().enumerate().for_each(|(frame, out)| {
            let inputs: Vec<&[u64]> =
                self.planes.iter().map(|plane| &plane.words()[frame * frame_in..(frame + 1) * frame_in]).collect();
            let (mut one, mut result) = (vec![0; inputs.len()], vec![0; planes]);
            for position in 0..output.area() {
                for word in 0..words {
                    result.fill(0);
                    for from in window(pool, output, position) {
                        one.iter_mut().zip(&inputs).for_each(|(one, plane)| *one = plane[from * words + word]);
                        rule(&one, &mut result);
                    }
                    out.iter_mut().zip(&result).for_each(|(plane, &bits)| plane[position * words + word] = bits);
                }
            }
        });
        out
    }

    /// Sums over windows, with the unit divided by their size.
    pub(super) fn average(&self, pool: Pool, output: ImageShape) -> Self {
        let largest = ((1_usize << self.planes.len()) - 1) * pool.size * pool.size;
        let planes = (usize::BITS - largest.leading_zeros()) as usize;
        // Ripple-carry addition of bit-sliced numbers.
        let add = |one: &[u64], sum: &mut [u64]| {
            for (plane, &bits) in one.iter().enumerate() {
                let mut carry = bits;
                for sum in &mut sum[plane..] {
                    (*sum, carry) = (*sum ^ carry, *sum & carry);
                }
            }
        };
        let planes = self.pooled(output, planes, pool, add);
        Self { planes, unit: self.unit / (pool.size * pool.size) as f32 }
    }

    /// Maxima over windows.
    pub(super) fn maximum(&self, pool: Pool, output: ImageShape) -> Self {
        let largest = |one: &[u64], best: &mut [u64]| {
            let wins = greater(one, best);
            best.iter_mut().zip(one).for_each(|(best, one)| *best = (*best & !wins) | (one & wins));
        };
        Self { planes: self.pooled(output, self.planes.len(), pool, largest), unit: self.unit }
    }

    /// For each input position of a window, the bits whose maximum is there (the first one of equals).
    pub(super) fn winners(&self, sample: usize, step: usize, positions: &[usize], word: usize, wins: &mut [u64]) {
        let words = self.planes[0].words_per_position();
        let start = step * self.shape().area() * words;
        let read = |position: usize| -> Vec<u64> {
            self.planes.iter().map(|plane| plane.sample(sample)[start + position * words + word]).collect()
        };
        let mut best = read(positions[0]);
        wins.fill(0);
        wins[0] = u64::MAX;
        for (index, &position) in positions.iter().enumerate().skip(1) {
            let one = read(position);
            let better = greater(&one, &best);
            wins[..index].iter_mut().for_each(|wins| *wins &= !better);
            wins[index] = better;
            best.iter_mut().zip(&one).for_each(|(best, one)| *best = (*best & !better) | (one & better));
        }
    }

    /// Keeps numbers where the mask `[B, H * W, words]` has a one, with another unit.
    pub(super) fn masked(&self, mask: &[u64], scale: f32) -> Self {
        let steps = self.steps();
        let frame = self.shape().area() * self.planes[0].words_per_position();
        let mut planes = self.planes.clone();
        for plane in &mut planes {
            for (index, chunk) in plane.words_mut().chunks_mut(frame.max(1)).enumerate() {
                let mask = &mask[index / steps * frame..][..frame];
                chunk.iter_mut().zip(mask).for_each(|(word, mask)| *word &= mask);
            }
        }
        Self { planes, unit: self.unit * scale }
    }
}

/// Channels of tile `tile` of `channels`, padded to whole vectors.
pub(super) fn tile_width(channels: usize, tile: usize) -> usize {
    (channels - tile * WORD).min(WORD).next_multiple_of(PAD)
}

/// A gradient over time, cut into tiles of up to 64 channels: each `[B, T, H * W, width]`, empty once it was used.
#[derive(Debug)]
pub(super) struct Grad {
    pub(super) tiles: Vec<Buffer>,
    pub(super) steps: usize,
    pub(super) shape: ImageShape,
}

impl Grad {
    /// Zeros that are written when a part of them is wanted first.
    pub(super) fn later(batch: usize, steps: usize, shape: ImageShape) -> Self {
        let tile = |tile| Buffer::later(batch * steps * shape.area() * tile_width(shape.channels, tile));
        Self { tiles: (0..shape.channels.div_ceil(WORD)).map(tile).collect(), steps, shape }
    }

    /// Zeros to which `work` adds, given the tile, the sample, and its values.
    pub(super) fn made(
        batch: usize,
        steps: usize,
        shape: ImageShape,
        work: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) -> Self {
        let tile = |tile| {
            let sample_len = steps * shape.area() * tile_width(shape.channels, tile);
            Buffer::made(batch * sample_len, sample_len, |sample, out| work(tile, sample, out))
        };
        Self { tiles: (0..shape.channels.div_ceil(WORD)).map(tile).collect(), steps, shape }
    }

    /// From the gradient of spikes `[T, B, C, H, W]`.
    pub(super) fn from_values(values: &[f32], batch: usize, steps: usize, shape: ImageShape) -> Self {
        let area = shape.area();
        Self::made(batch, steps, shape, |tile, sample, out| {
            let width = tile_width(shape.channels, tile);
            let channels = (shape.channels - tile * WORD).min(WORD);
            for (step, out) in out.chunks_mut(area * width).enumerate() {
                let from = &values[(step * batch + sample) * shape.len() + tile * WORD * area..][..channels * area];
                for (position, row) in out.chunks_mut(width).enumerate() {
                    for (channel, value) in row[..channels].iter_mut().enumerate() {
                        *value = from[channel * area + position];
                    }
                }
            }
        })
    }

    pub(super) fn width(&self, tile: usize) -> usize {
        tile_width(self.shape.channels, tile)
    }

    /// Values of one sample in a tile.
    pub(super) fn sample_len(&self, tile: usize) -> usize {
        self.steps * self.shape.area() * self.width(tile)
    }
}
