//! Spikes counted by window of the map and over time: what a classifier sees that averages over both.

#![expect(unsafe_code, reason = "vector stores into an array of a whole word's lanes")]

use super::simd::{Simd, kernel};
use super::value::{Grad, tile_width};
use crate::spikes::{Spikes, WORD};
use bloctrain_shared::graph::AdaptivePool;
use rayon::prelude::*;

/// Averages of spikes over time and over the windows of a pooling, `[B, C, h, w]`.
pub fn averages(spikes: &Spikes, pool: &AdaptivePool) -> Vec<f32> {
    let mut out = vec![0.0; spikes.batch() * pool.features()];
    out.par_chunks_mut(pool.features().max(1))
        .enumerate()
        .for_each(|(sample, out)| sample_averages(spikes, sample, pool, out));
    out
}

/// The same of one sample, `[C, h, w]`.
///
/// # Panics
/// When the spikes are of another shape than what is pooled.
pub fn sample_averages(spikes: &Spikes, sample: usize, pool: &AdaptivePool, out: &mut [f32]) {
    assert!(spikes.shape() == pool.input() && out.len() == pool.features(), "a pooling of another shape");
    let (words, frame) = (spikes.words_per_position(), spikes.shape().area() * spikes.words_per_position());
    let windows = pool.windows();
    let mut seen = Vec::new();
    let mut lanes = [0.0; WORD];
    for (at, window) in windows.iter().enumerate() {
        for word in 0..words {
            seen.clear();
            for step in spikes.sample(sample).chunks(frame) {
                seen.extend(window.iter().map(|position| step[position * words + word]));
            }
            mean_by_lane(&seen, &mut lanes);
            let channels = out[word * WORD * windows.len() + at..].iter_mut().step_by(windows.len());
            channels.zip(lanes).for_each(|(mean, lane)| *mean = lane);
        }
    }
}

kernel! {
    /// For each bit, in how many of the words it is set, over the number of words.
    fn mean_by_lane(words: &[u64], lanes: &mut [f32; WORD]) = mean_by_lane_body
}

/// The digits of the counts of 64 lanes: bit i of plane k is digit k of lane i.
#[derive(Default)]
struct Counters {
    planes: [u64; 32],
}

/// Adds three bits in each lane: the digit and what it carries.
#[inline(always)]
fn add3(a: u64, b: u64, c: u64) -> (u64, u64) {
    let ab = a ^ b;
    (ab ^ c, (a & b) | (ab & c))
}

impl Counters {
    /// Counts four words; `digits` are enough for all counts.
    #[inline(always)]
    fn add4(&mut self, [a, b, c, d]: [u64; 4], digits: usize) {
        let (ones, first) = add3(self.planes[0], a, b);
        let (ones, second) = add3(ones, c, d);
        let (twos, mut carry) = add3(self.planes[1], first, second);
        (self.planes[0], self.planes[1]) = (ones, twos);
        for plane in &mut self.planes[2..digits] {
            (*plane, carry) = (*plane ^ carry, *plane & carry);
        }
    }
}

#[inline(always)]
unsafe fn mean_by_lane_body<S: Simd>(words: &[u64], lanes: &mut [f32; WORD]) {
    let digits = ((usize::BITS - words.len().leading_zeros()) as usize).clamp(2, 32);
    let mut counters = Counters::default();
    let (fours, rest) = words.as_chunks::<4>();
    fours.iter().for_each(|&four| counters.add4(four, digits));
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    counters.add4(last, digits);
    // SAFETY: the lanes of every vector are inside the array, which has a whole number of them.
    unsafe {
        let count = S::splat(words.len().max(1) as f32);
        for lane in (0..WORD).step_by(S::LANES) {
            let mut sum = S::splat(0.0);
            for (digit, plane) in counters.planes[..digits].iter().enumerate() {
                sum = S::add(sum, S::keep(plane >> lane, S::splat((1_u64 << digit) as f32)));
            }
            S::store(lanes.as_mut_ptr().add(lane), S::div(sum, count));
        }
    }
}

/// Gradient of spikes from that of their averages `[B, C, h, w]`.
pub(super) fn gradient(grad: &[f32], pool: &AdaptivePool, batch: usize, steps: usize) -> Grad {
    let (shape, windows) = (pool.input(), pool.windows());
    let mut covering: Vec<Vec<usize>> = vec![Vec::new(); shape.area()];
    for (at, window) in windows.iter().enumerate() {
        window.iter().for_each(|&position| covering[position].push(at));
    }
    Grad::made(batch, steps, shape, |tile, sample, out| {
        let width = tile_width(shape.channels, tile);
        let channels = (shape.channels - tile * WORD).min(WORD);
        let from = &grad[sample * pool.features() + tile * WORD * windows.len()..][..channels * windows.len()];
        let mut shares = vec![0.0; windows.len() * width];
        for (at, (share, window)) in shares.chunks_mut(width).zip(windows).enumerate() {
            let sites = (window.len() * steps) as f32;
            let of_window = from[at..].iter().step_by(windows.len());
            share.iter_mut().zip(of_window).for_each(|(share, grad)| *share = grad / sites);
        }
        // The same at every step.
        let (first, others) = out.split_at_mut(shape.area() * width);
        for (row, covering) in first.chunks_mut(width).zip(&covering) {
            for &at in covering {
                row.iter_mut().zip(&shares[at * width..][..width]).for_each(|(sum, share)| *sum += share);
            }
        }
        others.chunks_mut(first.len()).for_each(|other| other.copy_from_slice(first));
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloctrain_shared::ImageShape;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn averages_are_counts_over_windows_and_time(
            (batch, steps, channels) in (1_usize..3, 1_usize..18, 1_usize..140),
            (height, width, side) in (1_usize..9, 1_usize..9, 0_usize..5),
            seed in any::<u64>(),
        ) {
            let shape = ImageShape::new(channels, height, width);
            let spike = |index: usize| f32::from((seed.rotate_left((index * 7 % 64) as u32) ^ index as u64)
                .count_ones() as u8 & 1);
            let values: Vec<f32> = (0..steps * batch * shape.len()).map(spike).collect();
            let spikes = Spikes::from_values(&values, batch, steps, shape);
            let pool = AdaptivePool::new(shape, side);
            let found = averages(&spikes, &pool);
            for (index, found) in found.into_iter().enumerate() {
                let (map, window) = (index / pool.windows().len(), &pool.windows()[index % pool.windows().len()]);
                let (sample, channel) = (map / channels, map % channels);
                let sites = (0..steps).flat_map(|step| window.iter().map(move |position| (step, position)));
                let at = |(step, position): (usize,
                    &usize)| values[((step * batch + sample) * channels + channel) * shape.area() + position];
                prop_assert_eq!(found, sites.clone().map(at).sum::<f32>() / sites.count() as f32);
            }
        }
    }
}
