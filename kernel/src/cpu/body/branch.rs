//! The backward pass through one branch of a layer: gradients of its weights and of its input.

use super::super::buffer::{Buffer, Part, with_scratch};
use super::super::dense::{self, Operands, Pair};
use super::super::geometry::InputGradAlgorithm;
use super::super::group::Target;
use super::super::norm_neuron::{self, Coefficients, Frame};
use super::super::sparse;
use super::super::value::{Grad, Value, tile_width};
use super::super::{map, polyphase, winograd, winograd_grad};
use super::algorithm::Algorithm;
use super::layer::PreparedBranch;
use bloctrain_memory::size::PARTS;
use rayon::prelude::*;
use std::ops::Range;

/// The backward pass of one branch: the tiles of its outputs that are worked on together.
pub(super) struct BranchBack<'a> {
    pub(super) own: &'a PreparedBranch,
    pub(super) value: &'a Value,
    /// `[O, C, kh, kw]`.
    pub(super) weights: &'a [f32],
    pub(super) steps: usize,
    pub(super) tiles: Vec<TileBack<'a>>,
}

/// One tile of a branch's outputs.
pub(super) struct TileBack<'a> {
    pub(super) y: &'a [f32],
    pub(super) mean: &'a [f32],
    pub(super) coefficients: &'a Coefficients,
    /// Gradient of the drive `[B, T, P, width]`.
    pub(super) grad: &'a [f32],
    pub(super) width: usize,
    pub(super) tile: usize,
}

/// A part's gradient of the weights.
struct Sums {
    /// `[taps, rows, width]`.
    rows: Buffer,
    /// What is summed in Winograd's transform domain, `[36, rows, width]`.
    transformed: Option<Buffer>,
}

impl Sums {
    fn total(mut self) -> Buffer {
        if let Some(transformed) = &self.transformed {
            winograd_grad::finish(transformed, &mut self.rows);
        }
        self.rows
    }
}

impl BranchBack<'_> {
    /// Adds the input's gradient to `target` and returns those of the weights of each tile as the sums of parts of the
    /// batch, `[taps, rows, width]` each.
    pub(super) fn run(&self, batch: usize, target: Option<&mut Grad>) -> Vec<Vec<Buffer>> {
        let transpose = |tile: &TileBack<'_>| match &target {
            Some(_) => self.own.geometry.transposed(self.weights, tile.tile),
            None => Vec::new(),
        };
        let transposed: Vec<Vec<Buffer>> = self.tiles.iter().map(transpose).collect();
        let per_part = batch.div_ceil(PARTS).max(1);
        let parts = batch.div_ceil(per_part);
        let mut targets: Vec<Vec<Part<'_>>> = (0..parts).map(|_| Vec::new()).collect();
        if let Some(grad) = target {
            let sizes: Vec<usize> = (0..grad.tiles.len()).map(|tile| grad.sample_len(tile)).collect();
            for (tile, size) in grad.tiles.iter_mut().zip(sizes) {
                tile.parts(size * per_part).into_iter().zip(&mut targets).for_each(|(part, own)| own.push(part));
            }
        }
        let sums: Vec<Vec<Buffer>> = targets
            .into_par_iter()
            .enumerate()
            .map(|(part, mut target)| {
                let samples = part * per_part..((part + 1) * per_part).min(batch);
                self.part(samples, &transposed, &mut target)
            })
            .collect();
        let mut tiles: Vec<Vec<Buffer>> = self.tiles.iter().map(|_| Vec::with_capacity(parts)).collect();
        for part in sums {
            tiles.iter_mut().zip(part).for_each(|(tile, part)| tile.push(part));
        }
        tiles
    }

    fn part(&self, samples: Range<usize>, transposed: &[Vec<Buffer>], target: &mut [Part<'_>]) -> Vec<Buffer> {
        let geometry = &self.own.geometry;
        let zeros = |tile: &TileBack<'_>| Buffer::zeros(geometry.taps() * geometry.rows * tile.width);
        let mut sums: Vec<Sums> = self.tiles.iter().map(|tile| Sums { rows: zeros(tile), transformed: None }).collect();
        let at_once = geometry.frames_at_once();
        // One for each tile: only what is inside the frame of zeros is written, and where that is depends on the width.
        let framed = |tile: &TileBack<'_>| Buffer::zeros(at_once * geometry.framed_area() * tile.width);
        let mut framed: Vec<Buffer> = self.tiles.iter().map(framed).collect();
        let first = samples.start;
        for sample in samples {
            for start in (0..geometry.frames).step_by(at_once) {
                let frames = start..(start + at_once).min(geometry.frames);
                for (((tile, sums), transposed), framed) in
                    self.tiles.iter().zip(&mut sums).zip(transposed).zip(&mut framed)
                {
                    let framed_len = geometry.framed_area() * tile.width;
                    let framed = &mut framed[..frames.len() * framed_len];
                    for (frame, framed) in frames.clone().zip(framed.chunks_mut(framed_len)) {
                        self.frame(tile, sample, frame, framed);
                    }
                    self.weight_grad(tile.width, sample, frames.clone(), framed, sums);
                    for (input_tile, weights) in transposed.iter().enumerate() {
                        self.input_grad(tile, sample - first, frames.clone(), (input_tile, weights), framed, target);
                    }
                }
            }
        }
        sums.into_iter().map(Sums::total).collect()
    }

    fn weight_grad(&self, width: usize, sample: usize, frames: Range<usize>, framed: &[f32], sums: &mut Sums) {
        let geometry = &self.own.geometry;
        let dense = |map: &[f32], row_stride: usize, dy: &[f32], sum: &mut [f32]| {
            dense::weight_grad(geometry, Pair { map, row_stride, rows: geometry.rows, dy, width }, sum);
        };
        match self.value {
            Value::Image(image) => with_scratch(geometry.map_area() * geometry.rows, |map| {
                map::of_image(geometry, image.sample(sample), map);
                dense(map, geometry.rows, framed, &mut sums.rows);
            }),
            Value::Counts(counts) => {
                let planes: Vec<(&[u64], f32)> = counts.sample(sample).collect();
                let algorithm = self.own.weight_grad_algorithm(sample);
                if algorithm == Algorithm::Lists {
                    return sparse::weight_grad(geometry, &planes, frames, framed, width, &mut sums.rows);
                }
                let row_stride = map::row_stride(geometry);
                let map_len = geometry.map_area() * row_stride;
                let shape = winograd::Shape {
                    frames: frames.len(),
                    size: geometry.output,
                    row_stride,
                    inputs: geometry.rows,
                    outputs: width,
                };
                let scratch = if algorithm == Algorithm::Winograd { winograd::scratch(&shape) } else { 0 };
                with_scratch(frames.len() * map_len + scratch, |all| {
                    let (maps, scratch) = all.split_at_mut(frames.len() * map_len);
                    map::of_spikes(geometry, &planes, frames, maps);
                    if algorithm == Algorithm::Winograd {
                        let len = winograd::POINTS * geometry.rows * width;
                        let transformed = sums.transformed.get_or_insert_with(|| Buffer::zeros(len));
                        return winograd_grad::add(&shape, maps, framed, transformed, scratch);
                    }
                    for (map, dy) in maps.chunks(map_len).zip(framed.chunks(geometry.framed_area() * width)) {
                        dense(map, row_stride, dy, &mut sums.rows);
                    }
                });
            }
        }
    }

    /// Gradient of one frame of the convolution's output, framed by zeros.
    fn frame(&self, tile: &TileBack<'_>, sample: usize, frame: usize, framed: &mut [f32]) {
        let geometry = &self.own.geometry;
        let size = geometry.output_area() * tile.width;
        let y = &tile.y[(sample * geometry.frames + frame) * size..][..size];
        let grad = &tile.grad[sample * self.steps * self.own.branch.conv.output().area() * tile.width..];
        let grads: Vec<&[f32]> = if self.own.constant {
            (0..self.steps).map(|step| &grad[step * size..][..size]).collect()
        } else {
            vec![&grad[frame * size..][..size]]
        };
        let frame = Frame { values: framed, framed: geometry.framed, before: geometry.before, inner: geometry.output };
        norm_neuron::norm_backward(tile.width, y, tile.mean, &grads, tile.coefficients, frame);
    }

    fn input_grad(
        &self,
        own: &TileBack<'_>,
        sample: usize,
        frames: Range<usize>,
        (input_tile, weights): (usize, &[f32]),
        framed: &[f32],
        target: &mut [Part<'_>],
    ) {
        let geometry = &self.own.geometry;
        let input = self.own.branch.conv.input;
        let (tile, start, row_stride) = geometry.input_tile(input_tile);
        let tile_width = tile_width(input.channels, tile);
        let frame_len = input.area() * tile_width;
        let (from, len) = if geometry.frames == self.steps {
            ((sample * self.steps + frames.start) * frame_len, frames.len() * frame_len)
        } else {
            (sample * self.steps * frame_len, self.steps * frame_len)
        };
        let target = Target { values: target[tile].get(from..from + len), start, row_stride };
        let rows = geometry.outputs(own.tile);
        match geometry.input_grad_algorithm(own.tile) {
            InputGradAlgorithm::Winograd => {
                let shape = winograd::Shape {
                    frames: frames.len(),
                    size: geometry.input,
                    row_stride: own.width,
                    inputs: rows,
                    outputs: tile_width,
                };
                with_scratch(winograd::scratch(&shape), |scratch| {
                    winograd::add(&shape, framed, weights, target, scratch)
                });
            }
            InputGradAlgorithm::Polyphase => {
                let shape = polyphase::Shape {
                    frames: frames.len(),
                    size: geometry.output,
                    framed: geometry.framed,
                    before: geometry.before,
                    row_stride: own.width,
                    input: geometry.input,
                    outputs: rows,
                    inputs: tile_width,
                };
                with_scratch(polyphase::scratch(&shape), |scratch| {
                    polyphase::add(&shape, framed, weights, target, scratch)
                });
            }
            InputGradAlgorithm::Product => {
                let of_frame = len / frames.len();
                for (map, values) in
                    framed.chunks(geometry.framed_area() * own.width).zip(target.values.chunks_mut(of_frame))
                {
                    let operands = Operands { map, row_stride: own.width, weights, rows, width: tile_width };
                    dense::product(&geometry.classes, operands, Target { values, start, row_stride });
                }
            }
        }
    }
}
