//! Neurons over all T steps: membranes in registers, forward and backward in one kernel each, the norm in the read.

use super::packed::publish;
use super::{MEAN, NORM, SCALE, SHIFT, UNITS, own_channel, own_site, rounds, sum_rows};
use cubecl::prelude::*;

/// The surrogate's derivative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) enum Slope {
    Atan,
    FastSigmoid,
    Triangle,
    Rectangle,
}

/// What is compiled into the neuron kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) struct Form {
    /// Time steps.
    pub(in super::super) steps: usize,
    /// Whether the drive is taken as it is, without a norm.
    pub(in super::super) plain: bool,
    /// Whether a spike sets the membrane to zero instead of subtracting the threshold.
    pub(in super::super) zero: bool,
    /// Whether the gradient ignores the reset.
    pub(in super::super) detached: bool,
    /// The surrogate.
    pub(in super::super) slope: Slope,
}

/// Steps up to which loops over time are written out, so that membranes stay in registers.
const UNROLL: usize = 16;

/// Mean, scale and shift of every branch, for one channel.
#[cube]
fn coefficients(norms: &Tensor<f32>, channel: usize, channels: usize, #[comptime] branches: usize) -> Array<f32> {
    let mut found = Array::<f32>::new(3 * branches);
    #[unroll]
    for branch in 0..branches {
        let at = branch * NORM * channels + channel;
        found[3 * branch] = norms[at + MEAN * channels];
        found[3 * branch + 1] = norms[at + SCALE * channels];
        found[3 * branch + 2] = norms[at + SHIFT * channels];
    }
    found
}

/// The drive of a neuron: the sum of its normalised branches. Multiply-adds are stated, so that the forward and the
/// backward kernel round alike.
#[cube]
fn drive<E: Float>(
    branches: &Sequence<Tensor<E>>,
    coefficients: &Array<f32>,
    step: usize,
    site: usize,
    channel: usize,
    #[comptime] plain: bool,
) -> f32 {
    let mut sum = 0.0f32.runtime();
    #[unroll]
    for branch in 0..branches.len() {
        let y = branches.index(branch);
        let value = f32::cast_from(y[step * y.stride(0) + site * y.stride(1) + channel]);
        if comptime!(plain) {
            sum += value;
        } else {
            let mean = coefficients[3 * branch];
            sum += fma(coefficients[3 * branch + 1], value - mean, coefficients[3 * branch + 2]);
        }
    }
    sum
}

#[cube]
fn after_reset(before: f32, threshold: f32, #[comptime] zero: bool) -> f32 {
    if comptime!(zero) {
        select(before >= threshold, 0.0f32, before)
    } else {
        select(before >= threshold, before - threshold, before)
    }
}

#[cube]
fn slope_at(v: f32, width: f32, #[comptime] slope: Slope) -> f32 {
    match comptime!(slope) {
        Slope::Atan => {
            let scaled = v * width * 1.5707964f32;
            0.5f32 * width / (1.0f32 + scaled * scaled)
        }
        Slope::FastSigmoid => {
            let root = v.abs() * width + 1.0f32;
            1.0f32 / (root * root)
        }
        Slope::Triangle => {
            let height = 1.0f32 - v.abs() / width;
            select(height > 0.0f32, height, 0.0f32) / width
        }
        Slope::Rectangle => select(v.abs() < width, 0.5f32 / width, 0.0f32),
    }
}

/// Packed spikes `[B, T, P, words]` of neurons driven by branches `[T, B P, C]` through norms `[branches, 4, C]`.
#[cube(launch_unchecked)]
pub fn norm_neuron<E: Float>(
    branches: &Sequence<Tensor<E>>,
    norms: &Tensor<f32>,
    leak: &Tensor<f32>,
    spikes: &mut Tensor<u32>,
    threshold: f32,
    sites: usize,
    positions: usize,
    channels: usize,
    #[comptime] form: Form,
    #[define(E)] _dtype: StorageType,
) {
    let mut history = SharedMemory::<u32>::new(UNITS);
    let channel = own_channel();
    let leak = leak[0];
    let safe = select(channel < channels, channel, 0);
    let steps = comptime!(form.steps);
    let coefficients = if comptime!(form.plain) {
        Array::<f32>::new(1usize)
    } else {
        coefficients(norms, safe, channels, branches.len())
    };
    for round in 0..rounds(sites) {
        let site = own_site(round);
        let active = channel < channels && site < sites;
        let mut membrane = 0.0f32.runtime();
        #[unroll]
        for part in 0..comptime!(steps.div_ceil(32)) {
            let first = comptime!(32 * part);
            let count = comptime!(if steps - 32 * part < 32 { steps - 32 * part } else { 32 });
            let mut bits = 0u32.runtime();
            if active {
                #[unroll(count <= UNROLL)]
                for step in 0..count {
                    let x = drive::<E>(branches, &coefficients, first + step, site, channel, form.plain);
                    let before = fma(leak, membrane, x);
                    bits |= u32::cast_from(before >= threshold) << step as u32;
                    membrane = after_reset(before, threshold, form.zero);
                }
            }
            publish(&mut history, bits, spikes, site, site < sites, first, count, steps, positions);
        }
    }
}

/// The gradient `[T, B P, C]` of the drive from that of the spikes, and by part of the sites the sums over them and
/// time, `[parts, 2 + branches, C]`: of that gradient, of the leak's, and of its products with every branch less its
/// mean.
#[cube(launch_unchecked)]
pub fn norm_neuron_grad<E: Float, G: Float>(
    branches: &Sequence<Tensor<E>>,
    norms: &Tensor<f32>,
    leak: &Tensor<f32>,
    grad: &Tensor<G>,
    out: &mut Tensor<E>,
    sums: &mut Tensor<f32>,
    threshold: f32,
    width: f32,
    sites: usize,
    channels: usize,
    #[comptime] form: Form,
    #[define(E, G)] _dtypes: [StorageType; 2],
) {
    let mut scratch = SharedMemory::<f32>::new(UNITS);
    let channel = own_channel();
    let leak = leak[0];
    let steps = comptime!(form.steps);
    let safe = select(channel < channels, channel, 0);
    let coefficients = if comptime!(form.plain) {
        Array::<f32>::new(1usize)
    } else {
        coefficients(norms, safe, channels, branches.len())
    };
    let columns = comptime!(2 + branches.len());
    let mut own = Array::<f32>::new(columns);
    #[unroll]
    for column in 0..columns {
        own[column] = 0.0f32;
    }
    // Before the reset; step t is at t + 1, so that every step has one before it.
    let mut membranes = Array::<f32>::new(comptime!(steps + 1));
    membranes[0] = 0.0f32;
    for round in 0..rounds(sites) {
        let site = own_site(round);
        if channel < channels && site < sites {
            let mut membrane = 0.0f32.runtime();
            #[unroll(steps <= UNROLL)]
            for step in 0..steps {
                let x = drive::<E>(branches, &coefficients, step, site, channel, form.plain);
                let before = fma(leak, membrane, x);
                membranes[step + 1] = before;
                membrane = after_reset(before, threshold, form.zero);
            }
            let mut after_grad = 0.0f32.runtime();
            #[unroll(steps <= UNROLL)]
            for back in 0..steps {
                let step = steps - 1 - back;
                let before = membranes[step + 1];
                let slope = slope_at(before - threshold, width, form.slope);
                let spike_grad = f32::cast_from(grad[step * grad.stride(0) + site * grad.stride(1) + channel]);
                let kept = if comptime!(form.zero) {
                    let silent = select(before >= threshold, 0.0f32, 1.0f32);
                    if comptime!(form.detached) { silent } else { silent - before * slope }
                } else if comptime!(form.detached) {
                    1.0f32.runtime()
                } else {
                    1.0f32 - threshold * slope
                };
                let before_grad = spike_grad * slope + after_grad * kept;
                let last = select(step > 0, after_reset(membranes[step], threshold, form.zero), 0.0f32);
                own[1] += before_grad * last;
                after_grad = before_grad * leak;
                out[step * out.stride(0) + site * out.stride(1) + channel] = E::cast_from(before_grad);
                own[0] += before_grad;
                if !comptime!(form.plain) {
                    #[unroll]
                    for branch in 0..branches.len() {
                        let y = branches.index(branch);
                        let value = f32::cast_from(y[step * y.stride(0) + site * y.stride(1) + channel]);
                        own[2 + branch] += before_grad * (value - coefficients[3 * branch]);
                    }
                }
            }
        }
    }
    #[unroll]
    for column in 0..columns {
        let sum = sum_rows(own[column], &mut scratch);
        if UNIT_POS_Y == 0 && channel < channels {
            sums[CUBE_POS_X as usize * sums.stride(0) + column * sums.stride(1) + channel] = sum;
        }
    }
}
