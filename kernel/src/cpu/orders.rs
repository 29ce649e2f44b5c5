//! A layer's weights in the orders of the kernels, and their gradients back.

use super::buffer::Buffer;
use super::geometry::{Class, Geometry, InputGradAlgorithm};
use super::value::tile_width;
use super::{polyphase, winograd};
use crate::spikes::WORD;
use rayon::prelude::*;

/// Input channels whose weights one thread puts in order at a time.
const CHANNELS_AT_ONCE: usize = 16;

/// Values of several slices by blocks of channels, each with its part of every slice; a channel has `each` values in a
/// row.
fn blocks<'a>(slices: impl Iterator<Item = &'a mut [f32]>, each: usize, channels: usize) -> Vec<Vec<&'a mut [f32]>> {
    let mut blocks: Vec<Vec<&mut [f32]>> = (0..channels.div_ceil(CHANNELS_AT_ONCE)).map(|_| Vec::new()).collect();
    for slice in slices {
        slice.chunks_mut(CHANNELS_AT_ONCE * each).zip(&mut blocks).for_each(|(part, block)| block.push(part));
    }
    blocks
}

fn copy<'a>(from: impl Iterator<Item = &'a f32>, to: impl Iterator<Item = &'a mut f32>) {
    to.zip(from).for_each(|(to, from)| *to = *from);
}

impl Geometry {
    /// Weight rows of one tap; of a fully connected layer on bits, of one position, whose channels are padded to words.
    fn rows_of_tap(&self) -> usize {
        let channels = self.conv.input.channels;
        if self.flat { channels.next_multiple_of(WORD) } else { channels }
    }

    /// Weights `[taps, rows, width]` of an output tile, from `[O, C, kh, kw]`.
    pub(super) fn weights(&self, flat: &[f32], tile: usize) -> Buffer {
        let width = tile_width(self.conv.outputs, tile);
        let (channels, taps) = (self.conv.input.channels, self.conv.taps());
        let size = channels * taps;
        let mut out = Buffer::zeros(self.taps() * self.rows * width);
        let blocks = blocks(out.chunks_mut(self.rows_of_tap() * width), width, channels);
        let flat = &flat[tile * WORD * size..][..self.outputs(tile) * size];
        blocks.into_par_iter().enumerate().for_each(|(block, mut rows_by_tap)| {
            let channels = block * CHANNELS_AT_ONCE..channels.min((block + 1) * CHANNELS_AT_ONCE);
            for (output, weights) in flat.chunks(size).enumerate() {
                let from = &weights[channels.start * taps..channels.end * taps];
                for (tap, rows) in rows_by_tap.iter_mut().enumerate() {
                    copy(from[tap..].iter().step_by(taps), rows[output..].iter_mut().step_by(width));
                }
            }
        });
        out
    }

    /// Adds gradients of an output tile, the sum of parts `[taps, rows, width]`, to `[O, C, kh, kw]`.
    pub(super) fn add_weight_grad(&self, parts: &[Buffer], tile: usize, flat: &mut [f32]) {
        let width = tile_width(self.conv.outputs, tile);
        let (channels, taps) = (self.conv.input.channels, self.conv.taps());
        let size = channels * taps;
        let own = &mut flat[tile * WORD * size..][..self.outputs(tile) * size];
        let blocks = blocks(own.chunks_mut(size), taps, channels);
        blocks.into_par_iter().enumerate().for_each(|(block, mut outputs)| {
            let first = block * CHANNELS_AT_ONCE;
            let rows = CHANNELS_AT_ONCE.min(channels - first);
            let mut sums = vec![0.0; rows * width];
            for tap in 0..taps {
                let from = (tap * self.rows_of_tap() + first) * width;
                sums.copy_from_slice(&parts[0][from..from + rows * width]);
                for part in &parts[1..] {
                    sums.iter_mut().zip(&part[from..]).for_each(|(sum, value)| *sum += value);
                }
                for (output, weights) in outputs.iter_mut().enumerate() {
                    let sums = sums[output..].iter().step_by(width);
                    weights[tap..].iter_mut().step_by(taps).zip(sums).for_each(|(weight, sum)| *weight += sum);
                }
            }
        });
    }

    /// Weights `[O, C, kh, kw]` of one output tile transposed for the input's gradient: for each input tile
    /// `[taps, outputs, width]`, or these as [`winograd`] or [`polyphase`] wants them.
    pub(super) fn transposed(&self, flat: &[f32], tile: usize) -> Vec<Buffer> {
        let outputs = self.outputs(tile);
        let (channels, taps) = (self.conv.input.channels, self.conv.taps());
        let own = &flat[tile * WORD * channels * taps..][..outputs * channels * taps];
        let transpose = |input_tile: usize| {
            let (word, _, _) = self.input_tile(input_tile);
            let width = tile_width(channels, word);
            let first = word * WORD;
            let last = (first + WORD).min(channels);
            // Of a fully connected layer on bits each position has tiles of its own.
            let position = input_tile / channels.div_ceil(WORD);
            let taps_here = if self.flat { position..position + 1 } else { 0..taps };
            let mut out = Buffer::zeros(taps_here.len() * outputs * width);
            for (output, own) in own.chunks(channels * taps).enumerate() {
                for (tap, rows) in taps_here.clone().zip(out.chunks_mut(outputs * width)) {
                    copy(own[first * taps + tap..last * taps].iter().step_by(taps), rows[output * width..].iter_mut());
                }
            }
            match self.input_grad_algorithm(tile) {
                InputGradAlgorithm::Product => out,
                InputGradAlgorithm::Winograd => self.to_transform_domain(&out, &self.classes[0]),
                InputGradAlgorithm::Polyphase => {
                    let mut points = Buffer::zeros(out.len() * polyphase::KERNELS / 9);
                    polyphase::transform(&out, &mut points);
                    points
                }
            }
        };
        (0..self.input_tiles()).into_par_iter().map(transpose).collect()
    }

    /// Weights `[taps, inputs, outputs]` of 3x3 kernels in the transform domain of [`winograd`].
    pub(super) fn to_transform_domain(&self, weights: &[f32], class: &Class) -> Buffer {
        let columns = if std::ptr::eq(class, &self.reach) { self.map[1] } else { self.framed[1] };
        let mut order = [0; 9];
        for &(tap, offset) in &class.taps {
            order[offset / columns * 3 + offset % columns] = tap;
        }
        let mut out = Buffer::zeros(weights.len() * winograd::POINTS / 9);
        winograd::transform(weights, order, &mut out);
        out
    }
}
