//! Norms by channel: statistics, coefficients, and the backward pass.

use super::{INVERSE, MEAN, NORM, SCALE, SHIFT, UNITS, own_channel, own_site, rounds, sum_rows, total};
use cubecl::prelude::*;

/// What a norm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) enum Kind {
    /// Batch statistics, found in `sums`.
    Batch,
    /// The statistics that are given.
    Given,
    /// A bias.
    Bias,
}

/// Sums over the rows of `y [1, N, C]` by part, `[parts, 2, C]`: of the differences from the first row, and of their
/// squares.
#[cube(launch_unchecked)]
pub fn moments<E: Float>(
    y: &Tensor<E>,
    sums: &mut Tensor<f32>,
    count: usize,
    channels: usize,
    #[define(E)] _dtype: StorageType,
) {
    let mut scratch = SharedMemory::<f32>::new(UNITS);
    let channel = own_channel();
    let mut sum = 0.0f32.runtime();
    let mut squares = 0.0f32.runtime();
    if channel < channels {
        let pivot = f32::cast_from(y[channel]);
        for round in 0..rounds(count) {
            let row = own_site(round);
            if row < count {
                let off = f32::cast_from(y[row * y.stride(1) + channel]) - pivot;
                sum += off;
                squares += off * off;
            }
        }
    }
    let sum = sum_rows(sum, &mut scratch);
    let squares = sum_rows(squares, &mut scratch);
    if UNIT_POS_Y == 0 && channel < channels {
        let at = CUBE_POS_X as usize * sums.stride(0) + channel;
        sums[at] = sum;
        sums[at + sums.stride(1)] = squares;
    }
}

/// Coefficients `[4, C]` of norm `branch` from its parameters, and its statistics (mean, unbiased variance) at
/// `statistic`.
#[cube(launch_unchecked)]
pub fn norm<E: Float>(
    y: &Tensor<E>,
    sums: &Tensor<f32>,
    params: &Tensor<f32>,
    norms: &mut Tensor<f32>,
    statistics: &mut Tensor<f32>,
    gamma: usize,
    beta: usize,
    statistic: usize,
    branch: usize,
    channels: usize,
    count: f32,
    unbiased: f32,
    epsilon: f32,
    #[comptime] kind: Kind,
    #[define(E)] _dtype: StorageType,
) {
    let mut scratch = SharedMemory::<f32>::new(UNITS);
    let channel = own_channel();
    let active = channel < channels;
    let mut mean = 0.0f32.runtime();
    let mut inverse = 1.0f32.runtime();
    if comptime!(kind == Kind::Batch) {
        let sum = total(sums, 0usize, channel, active, &mut scratch);
        let squares = total(sums, 1usize, channel, active, &mut scratch);
        if active {
            let off = sum / count;
            mean = f32::cast_from(y[channel]) + off;
            let found = (squares - sum * off) / count;
            let variance = select(found > 0.0f32, found, 0.0f32);
            inverse = 1.0f32 / (variance + epsilon).sqrt();
            if UNIT_POS_Y == 0 {
                statistics[statistic + channel] = mean;
                statistics[statistic + channels + channel] = variance * unbiased;
            }
        }
    }
    if comptime!(kind == Kind::Given) {
        if active {
            mean = statistics[statistic + channel];
            inverse = 1.0f32 / (statistics[statistic + channels + channel] + epsilon).sqrt();
        }
    }
    if active && UNIT_POS_Y == 0 {
        let at = branch * NORM * channels + channel;
        let gain = if comptime!(kind == Kind::Bias) { 1.0f32.runtime() } else { params[gamma + channel] };
        norms[at + MEAN * channels] = mean;
        norms[at + INVERSE * channels] = inverse;
        norms[at + SCALE * channels] = gain * inverse;
        norms[at + SHIFT * channels] = params[beta + channel];
    }
}

/// From the sums of [`norm_neuron_grad`](super::neuron::norm_neuron_grad): for every branch the coefficients
/// `[branches, 3, C]` of the gradient of its convolution, `a du + b (y - mean) + c`, and the gradients of its scale and
/// shift; last the leak's by channel, `[2 branches + 1, C]`. Bit k of `batch` says that branch k has batch statistics,
/// of `constant` that it is constant in time.
#[cube(launch_unchecked)]
pub fn norm_param_grad(
    sums: &Tensor<f32>,
    norms: &Tensor<f32>,
    back: &mut Tensor<f32>,
    grads: &mut Tensor<f32>,
    channels: usize,
    changing_count: f32,
    constant_count: f32,
    #[comptime] branches: usize,
    #[comptime] batch: u32,
    #[comptime] constant: u32,
) {
    let mut scratch = SharedMemory::<f32>::new(UNITS);
    let channel = own_channel();
    let active = channel < channels;
    let sum = total(sums, 0usize, channel, active, &mut scratch);
    let leak = total(sums, 1usize, channel, active, &mut scratch);
    #[unroll]
    for branch in 0..branches {
        let centred = total(sums, 2 + branch, channel, active, &mut scratch);
        if active && UNIT_POS_Y == 0 {
            let at = 3 * branch * channels + channel;
            if comptime!((batch >> branch as u32) & 1 == 1) {
                let count =
                    if comptime!((constant >> branch as u32) & 1 == 1) { constant_count } else { changing_count };
                let own = branch * NORM * channels + channel;
                let inverse = norms[own + INVERSE * channels];
                let scale = norms[own + SCALE * channels];
                back[at] = scale;
                back[at + channels] = 0.0f32 - scale * inverse * inverse * centred / count;
                back[at + 2 * channels] = 0.0f32 - scale * sum / count;
                grads[2 * branch * channels + channel] = inverse * centred;
            } else {
                back[at] = 1.0f32;
                back[at + channels] = 0.0f32;
                back[at + 2 * channels] = 0.0f32;
                grads[2 * branch * channels + channel] = 0.0f32;
            }
            grads[(2 * branch + 1) * channels + channel] = sum;
        }
    }
    if active && UNIT_POS_Y == 0 {
        grads[2 * branches * channels + channel] = leak;
    }
}

/// The gradient of a branch's convolution `[T, B P, C]`, or `[1, B P, C]` of one that is constant in time.
#[cube(launch_unchecked)]
pub fn norm_grad<E: Float>(
    y: &Tensor<E>,
    drive_grad: &Tensor<E>,
    norms: &Tensor<f32>,
    back: &Tensor<f32>,
    out: &mut Tensor<E>,
    branch: usize,
    steps: usize,
    sites: usize,
    channels: usize,
    #[comptime] constant: bool,
    #[define(E)] _dtype: StorageType,
) {
    let channel = own_channel();
    if channel < channels {
        let mean = norms[branch * NORM * channels + MEAN * channels + channel];
        let at = 3 * branch * channels + channel;
        let a = back[at];
        let b = back[at + channels];
        let c = back[at + 2 * channels];
        for round in 0..rounds(sites) {
            let site = own_site(round);
            if site < sites {
                let from = site * drive_grad.stride(1) + channel;
                if comptime!(constant) {
                    let mut sum = 0.0f32.runtime();
                    for step in 0..steps {
                        sum += f32::cast_from(drive_grad[step * drive_grad.stride(0) + from]);
                    }
                    let value = f32::cast_from(y[site * y.stride(1) + channel]) - mean;
                    out[site * out.stride(1) + channel] = E::cast_from(a * sum + b * value + c);
                } else {
                    for step in 0..steps {
                        let own = f32::cast_from(drive_grad[step * drive_grad.stride(0) + from]);
                        let value = f32::cast_from(y[step * y.stride(0) + site * y.stride(1) + channel]) - mean;
                        out[step * out.stride(0) + site * out.stride(1) + channel] =
                            E::cast_from(a * own + b * value + c);
                    }
                }
            }
        }
    }
}
