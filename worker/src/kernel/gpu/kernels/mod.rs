//! The kernels themselves, in CubeCL's language: compiled for the device when they are first launched.
//!
//! All share one geometry. A cube has 32 lanes, the channels of one word, and 8 rows, each of them a site (a position
//! of a sample) at a time. Values are channels-last, so lanes read neighbouring memory. Nothing depends on the width of
//! the device's planes, and sums are added in an order that follows from the shapes alone.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::too_many_arguments,
    reason = "the launch modules are made by CubeCL's macro"
)]
#![expect(clippy::collapsible_if, reason = "a condition of the compilation is not one of the device")]

pub(super) mod columns;
pub(super) mod neuron;
pub(super) mod norm;
pub(super) mod packed;
pub(super) mod pool;
pub(super) mod vector;

use cubecl::prelude::*;

/// Channels in a word, and units of a cube in its first dimension.
pub(super) const LANES: u32 = 32;
/// Sites that a cube works on at once.
pub(super) const ROWS: u32 = 8;
/// Units of a cube.
const UNITS: usize = (LANES * ROWS) as usize;

/// Rows of the coefficients of a norm, `[4, C]`: `scale (y - mean) + shift`.
pub(super) const MEAN: usize = 0;
pub(super) const INVERSE: usize = 1;
pub(super) const SCALE: usize = 2;
pub(super) const SHIFT: usize = 3;
/// How many they are.
pub(super) const NORM: usize = 4;

/// This unit's channel.
#[cube]
fn own_channel() -> usize {
    (CUBE_POS_Y * LANES + UNIT_POS_X) as usize
}

/// This unit's site in a round, which may lie beyond the last one.
#[cube]
fn own_site(round: usize) -> usize {
    (round * CUBE_COUNT_X as usize + CUBE_POS_X as usize) * (ROWS as usize) + UNIT_POS_Y as usize
}

/// How many rounds the cubes need for all sites.
#[cube]
fn rounds(sites: usize) -> usize {
    let at_once = CUBE_COUNT_X as usize * (ROWS as usize);
    sites.div_ceil(at_once)
}

/// The sum of a value over the rows of a cube, by lane, known to every row.
#[cube]
fn sum_rows(value: f32, scratch: &mut SharedMemory<f32>) -> f32 {
    sync_cube();
    scratch[(UNIT_POS_Y * LANES + UNIT_POS_X) as usize] = value;
    sync_cube();
    let mut sum = 0.0f32.runtime();
    #[unroll]
    for row in 0..ROWS {
        sum += scratch[(row * LANES + UNIT_POS_X) as usize];
    }
    sum
}

/// The sum of a column of `[parts, columns, C]` over its parts.
#[cube]
fn total(sums: &Tensor<f32>, column: usize, channel: usize, active: bool, scratch: &mut SharedMemory<f32>) -> f32 {
    let mut own = 0.0f32.runtime();
    if active {
        let parts = sums.shape(0) as u32;
        for part in range_stepped(UNIT_POS_Y, parts, ROWS) {
            own += sums[part as usize * sums.stride(0) + column * sums.stride(1) + channel];
        }
    }
    sum_rows(own, scratch)
}
