//! Gradients of poolings, whose windows do not overlap: a position has one window, or none at the last rows and
//! columns.

use super::{own_channel, own_site, rounds};
use cubecl::prelude::*;

/// Sizes of a pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) struct Windows {
    /// Rows and columns of what is pooled.
    pub(in super::super) input: [u32; 2],
    /// Rows and columns of what comes out.
    pub(in super::super) output: [u32; 2],
    /// Side of a window.
    pub(in super::super) size: u32,
    /// Whether the largest value of a window is taken, the first of equal ones, and not the average.
    pub(in super::super) largest: bool,
}

/// The gradient `[1, F H W, C]` of `x` from that of its pooling `[1, F h w, C]`. Of an average, `x` is not read.
#[cube(launch_unchecked)]
pub fn unpool<E: Float, G: Float>(
    x: &Tensor<E>,
    grad: &Tensor<G>,
    out: &mut Tensor<G>,
    sites: usize,
    channels: usize,
    #[comptime] windows: Windows,
    #[define(E, G)] _dtypes: [StorageType; 2],
) {
    let channel = own_channel();
    let (width, across, size) = (comptime!(windows.input[1]), comptime!(windows.output[1]), comptime!(windows.size));
    let area = comptime!((windows.input[0] * windows.input[1]) as usize);
    let positions = comptime!((windows.output[0] * windows.output[1]) as usize);
    for round in 0..rounds(sites) {
        let site = own_site(round);
        if channel < channels && site < sites {
            let frame = site / area;
            let position = (site % area) as u32;
            let (row, column) = (position / width, position % width);
            let (y, x_out) = (row / size, column / size);
            let mut found = 0.0f32.runtime();
            if y < comptime!(windows.output[0]) && x_out < across {
                let from = frame * positions + (y * across + x_out) as usize;
                let slope = f32::cast_from(grad[from * grad.stride(1) + channel]);
                if comptime!(windows.largest) {
                    let base = frame * area;
                    let own = f32::cast_from(x[(base + position as usize) * x.stride(1) + channel]);
                    let mut taken = true.runtime();
                    for other in 0..comptime!(windows.size * windows.size) {
                        let at = (y * size + other / size) * width + x_out * size + other % size;
                        let value = f32::cast_from(x[(base + at as usize) * x.stride(1) + channel]);
                        taken = taken && !(value > own || (value == own && at < position));
                    }
                    found = select(taken, slope, 0.0f32);
                } else {
                    found = slope / comptime!((windows.size * windows.size) as f32);
                }
            }
            out[site * out.stride(1) + channel] = G::cast_from(found);
        }
    }
}
