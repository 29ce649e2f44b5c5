//! Spikes as bits: `[B, T, P, words]`, channel c of a position is bit `c % 32` of word `c / 32`.

use super::{LANES, UNITS, own_channel, own_site, rounds};
use cubecl::prelude::*;

/// Writes the bits of up to 32 steps, of which every unit has those of its own neuron: bit s is step `first + s`. The
/// lanes of a row exchange theirs, and each writes the words of one step.
#[cube]
pub(super) fn publish(
    history: &mut SharedMemory<u32>,
    bits: u32,
    spikes: &mut Tensor<u32>,
    site: usize,
    inside: bool,
    first: usize,
    count: usize,
    steps: usize,
    positions: usize,
) {
    sync_cube();
    history[(UNIT_POS_Y * LANES + UNIT_POS_X) as usize] = bits;
    sync_cube();
    if inside && (UNIT_POS_X as usize) < count {
        let mut word = 0u32.runtime();
        for lane in 0..LANES {
            word |= ((history[(UNIT_POS_Y * LANES + lane) as usize] >> UNIT_POS_X) & 1u32) << lane;
        }
        let sample = site / positions;
        let step = first + UNIT_POS_X as usize;
        let at = (sample * steps + step) * positions + site % positions;
        spikes[at * CUBE_COUNT_Y as usize + CUBE_POS_Y as usize] = word;
    }
}

/// Packs values `[T, B P, C]`; anything but 0 is a spike.
#[cube(launch_unchecked)]
pub fn pack<E: Float>(
    x: &Tensor<E>,
    spikes: &mut Tensor<u32>,
    sites: usize,
    positions: usize,
    channels: usize,
    #[comptime] steps: usize,
    #[define(E)] _dtype: StorageType,
) {
    let mut history = SharedMemory::<u32>::new(UNITS);
    let channel = own_channel();
    for round in 0..rounds(sites) {
        let site = own_site(round);
        let active = channel < channels && site < sites;
        #[unroll]
        for part in 0..comptime!(steps.div_ceil(32)) {
            let first = comptime!(32 * part);
            let count = comptime!(if steps - 32 * part < 32 { steps - 32 * part } else { 32 });
            let mut bits = 0u32.runtime();
            if active {
                for step in 0..count {
                    let value = f32::cast_from(x[(first + step) * x.stride(0) + site * x.stride(1) + channel]);
                    bits |= u32::cast_from(value != 0.0f32) << step as u32;
                }
            }
            publish(&mut history, bits, spikes, site, site < sites, first, count, steps, positions);
        }
    }
}

/// Values 0 and 1 `[T, B P, C]` of packed spikes with `words` words a position.
#[cube(launch_unchecked)]
pub fn unpack<E: Float>(
    spikes: &Tensor<u32>,
    out: &mut Tensor<E>,
    steps: usize,
    sites: usize,
    positions: usize,
    channels: usize,
    words: usize,
    #[define(E)] _dtype: StorageType,
) {
    let channel = own_channel();
    for round in 0..rounds(sites) {
        let site = own_site(round);
        if channel < channels && site < sites {
            let sample = site / positions;
            let position = site % positions;
            for step in 0..steps {
                let at = ((sample * steps + step) * positions + position) * words + CUBE_POS_Y as usize;
                let bit = (spikes[at] >> UNIT_POS_X) & 1u32;
                out[step * out.stride(0) + site * out.stride(1) + channel] = E::cast_from(bit);
            }
        }
    }
}

/// Average over time `[B P, C]` of packed spikes with `words` words a position.
#[cube(launch_unchecked)]
pub fn mean(
    spikes: &Tensor<u32>,
    out: &mut Tensor<f32>,
    steps: usize,
    sites: usize,
    positions: usize,
    channels: usize,
    words: usize,
) {
    let channel = own_channel();
    for round in 0..rounds(sites) {
        let site = own_site(round);
        if channel < channels && site < sites {
            let sample = site / positions;
            let position = site % positions;
            let mut count = 0u32.runtime();
            for step in 0..steps {
                let at = ((sample * steps + step) * positions + position) * words + CUBE_POS_Y as usize;
                count += (spikes[at] >> UNIT_POS_X) & 1u32;
            }
            out[site * channels + channel] = f32::cast_from(count) / f32::cast_from(steps as u32);
        }
    }
}
