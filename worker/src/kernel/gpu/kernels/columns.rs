//! Convolutions as products: the inputs of every output side by side, and the backward pass from their gradients.
//!
//! A row of the columns `[F H' W', taps C]` has the inputs of one output position, tap by tap and channels last.

#![expect(clippy::manual_is_multiple_of, reason = "kernels have no such method")]

use super::{own_channel, own_site, rounds};
use cubecl::prelude::*;

/// Taps up to which loops over them are written out.
const UNROLL: u32 = 25;

/// Sizes of a convolution, compiled into its kernels: divisions by them are multiplications then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) struct Window {
    /// Rows and columns of the input.
    pub(in super::super) input: [u32; 2],
    /// Rows and columns of the output.
    pub(in super::super) output: [u32; 2],
    /// Rows and columns of the kernel.
    pub(in super::super) kernel: [u32; 2],
    /// Step between outputs.
    pub(in super::super) stride: u32,
    /// Zeros above and on the left.
    pub(in super::super) padding: [u32; 2],
}

impl Window {
    /// Positions of the kernel.
    pub(in super::super) fn taps(&self) -> u32 {
        self.kernel[0] * self.kernel[1]
    }
}

/// Columns of packed spikes `[B, T, P, words]`, of frames in the order `[T, B]`.
#[cube(launch_unchecked)]
pub fn of_spikes<E: Float>(
    spikes: &Tensor<u32>,
    out: &mut Tensor<E>,
    sites: usize,
    channels: usize,
    batch: usize,
    steps: usize,
    words: usize,
    #[comptime] window: Window,
    #[define(E)] _dtype: StorageType,
) {
    let channel = own_channel();
    let positions = comptime!((window.output[0] * window.output[1]) as usize);
    let area = comptime!((window.input[0] * window.input[1]) as usize);
    let taps = comptime!(window.taps());
    for round in 0..rounds(sites) {
        let site = own_site(round);
        if channel < channels && site < sites {
            let frame = site / positions;
            let position = (site % positions) as u32;
            let base = (frame % batch * steps + frame / batch) * area;
            #[unroll(taps <= UNROLL)]
            for tap in 0..taps {
                let (inside, from) = input_of(position, tap, window);
                let mut bit = 0u32.runtime();
                if inside {
                    bit = (spikes[(base + from) * words + CUBE_POS_Y as usize] >> UNIT_POS_X) & 1u32;
                }
                out[(site * comptime!(taps as usize) + tap as usize) * channels + channel] = E::cast_from(bit);
            }
        }
    }
}

/// Columns of a map `[1, F H W, C]`.
#[cube(launch_unchecked)]
pub fn of_map<E: Float>(
    x: &Tensor<E>,
    out: &mut Tensor<E>,
    sites: usize,
    channels: usize,
    #[comptime] window: Window,
    #[define(E)] _dtype: StorageType,
) {
    let channel = own_channel();
    let positions = comptime!((window.output[0] * window.output[1]) as usize);
    let area = comptime!((window.input[0] * window.input[1]) as usize);
    let taps = comptime!(window.taps());
    for round in 0..rounds(sites) {
        let site = own_site(round);
        if channel < channels && site < sites {
            let base = site / positions * area;
            let position = (site % positions) as u32;
            #[unroll(taps <= UNROLL)]
            for tap in 0..taps {
                let (inside, from) = input_of(position, tap, window);
                let mut value = E::from_int(0);
                if inside {
                    value = x[(base + from) * x.stride(1) + channel];
                }
                out[(site * comptime!(taps as usize) + tap as usize) * channels + channel] = value;
            }
        }
    }
}

/// Which position of the input an output reads by a tap, and whether it lies in the map.
#[cube]
fn input_of(position: u32, tap: u32, #[comptime] window: Window) -> (bool, usize) {
    let (height, width) = (comptime!(window.input[0]), comptime!(window.input[1]));
    let (top, left) = (comptime!(window.padding[0]), comptime!(window.padding[1]));
    let (stride, across, columns) =
        (comptime!(window.stride), comptime!(window.output[1]), comptime!(window.kernel[1]));
    let row = position / across * stride + tap / columns;
    let column = position % across * stride + tap % columns;
    let inside = row >= top && row < top + height && column >= left && column < left + width;
    let from = select(inside, (row - top) * width + (column - left), 0u32);
    (inside, from as usize)
}

/// The gradient `[1, F H W, C]` of a map from that of its columns: the sum over the taps that read a position.
#[cube(launch_unchecked)]
pub fn fold<E: Float>(
    columns: &Tensor<E>,
    out: &mut Tensor<E>,
    sites: usize,
    channels: usize,
    #[comptime] window: Window,
    #[define(E)] _dtype: StorageType,
) {
    let channel = own_channel();
    let positions = comptime!((window.output[0] * window.output[1]) as usize);
    let area = comptime!((window.input[0] * window.input[1]) as usize);
    let (width, across, stride) = (comptime!(window.input[1]), comptime!(window.output[1]), comptime!(window.stride));
    let (top, left) = (comptime!(window.padding[0]), comptime!(window.padding[1]));
    let (taps, kernel_width) = (comptime!(window.taps()), comptime!(window.kernel[1]));
    for round in 0..rounds(sites) {
        let site = own_site(round);
        if channel < channels && site < sites {
            let base = site / area * positions;
            let position = (site % area) as u32;
            let row = position / width + top;
            let column = position % width + left;
            let mut sum = 0.0f32.runtime();
            #[unroll(taps <= UNROLL)]
            for tap in 0..taps {
                // Beyond zero they wrap around and lie beyond the last output, too.
                let y = row - tap / kernel_width;
                let x = column - tap % kernel_width;
                let read = y % stride == 0
                    && x % stride == 0
                    && y / stride < comptime!(window.output[0])
                    && x / stride < across;
                if read {
                    let from = base + (y / stride * across + x / stride) as usize;
                    sum +=
                        f32::cast_from(columns[(from * comptime!(taps as usize) + tap as usize) * channels + channel]);
                }
            }
            out[site * out.stride(1) + channel] = E::cast_from(sum);
        }
    }
}
