//! The backward pass through poolings and dropout.

use super::super::value::{Counts, Grad, window};
use crate::spikes::WORD;
use bloctrain_shared::ImageShape;
use bloctrain_shared::graph::Pool;
use rayon::prelude::*;

/// One frame of one tile in the backward pass of a pooling.
pub(super) struct Unpooling {
    pub(super) pool: Pool,
    pub(super) output: ImageShape,
    pub(super) tile: usize,
    pub(super) width: usize,
    pub(super) sample: usize,
    pub(super) step: usize,
}

/// Backward pass of an average: every value of a window has the same share.
pub(super) fn average(at: &Unpooling, to: &mut [f32], from: &[f32]) {
    let share = 1.0 / (at.pool.size * at.pool.size) as f32;
    for (position, row) in from.chunks(at.width).enumerate() {
        for place in window(at.pool, at.output, position) {
            let to = &mut to[place * at.width..(place + 1) * at.width];
            to.iter_mut().zip(row).for_each(|(to, value)| *to = value * share);
        }
    }
}

/// Backward pass of a maximum: the gradient goes to the first value that is the largest.
pub(super) fn maximum(counts: &Counts, at: &Unpooling, to: &mut [f32], from: &[f32]) {
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
pub(super) fn masked(mut grad: Grad, mask: &[u64], scale: f32) -> Grad {
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
