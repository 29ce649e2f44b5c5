//! The way back through one branch of a layer: gradients of its weights and of its input.

use super::super::buffer::Buffer;
use super::super::dense::{self, Target};
use super::super::fire::{self, Coefficients, Frame};
use super::super::sparse::{self, Lists};
use super::super::value::{Grad, Value, tile_width};
use super::layer::Prepared;
use rayon::prelude::*;
use std::ops::Range;

/// Partial sums of weight gradients. Fixed, so that the order of additions is.
const PARTS: usize = 8;
/// One branch of one tile on its way back.
pub(super) struct BranchBack<'a> {
    pub(super) own: &'a Prepared,
    pub(super) value: &'a Value,
    pub(super) y: &'a [f32],
    pub(super) mean: &'a [f32],
    pub(super) coefficients: Coefficients,
    /// Gradient of the drive `[B, T, P, width]`.
    pub(super) grad: &'a [f32],
    pub(super) steps: usize,
    pub(super) width: usize,
    pub(super) tile: usize,
}

impl BranchBack<'_> {
    /// Adds the input's gradient to `target` and returns that of the weights `[taps, rows, width]`.
    pub(super) fn run(&self, batch: usize, weights: &[f32], target: Option<&mut Grad>) -> Buffer {
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
