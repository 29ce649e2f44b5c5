//! Convolution of spikes: add the weight rows of the channels that fired; and its weight gradient: add the gradient
//! rows of the positions that fired.
//!
//! Both keep a row of sums in registers and the rows that they add in the first cache.

#![expect(unsafe_code, reason = "vector loads and stores through pointers whose bounds are asserted at the start")]
#![expect(clippy::needless_range_loop, reason = "one index for registers and memory reads as the kernel that it is")]

use super::geometry::{BAND, Geometry};
use super::index_list::{self, Band, IndexLists, Job, Reach};
use super::simd::{PAD, Simd, kernel};
use crate::spikes::WORD;
use std::ops::Range;

/// Vectors of the widest row (64 channels) in the narrowest form (8 lanes).
const MOST: usize = 8;

/// Bit planes of one sample with what their ones are worth.
pub(super) type Planes<'a> = [(&'a [u64], f32)];

#[inline(always)]
unsafe fn read<S: Simd, const G: usize>(from: *const f32) -> [S::V; MOST] {
    // SAFETY: the caller vouches for a row of `G * PAD` values.
    unsafe {
        let mut row = [S::splat(0.0); MOST];
        for vector in 0..G * PAD / S::LANES {
            row[vector] = S::load(from.add(vector * S::LANES));
        }
        row
    }
}

#[inline(always)]
unsafe fn write<S: Simd, const G: usize>(to: *mut f32, row: &[S::V; MOST]) {
    // SAFETY: the caller vouches for a row of `G * PAD` values.
    unsafe {
        for vector in 0..G * PAD / S::LANES {
            S::store(to.add(vector * S::LANES), row[vector]);
        }
    }
}

/// Adds a row, or `worth` times a row.
#[inline(always)]
unsafe fn add<S: Simd, const G: usize>(sum: &mut [S::V; MOST], row: *const f32, worth: Option<S::V>) {
    // SAFETY: the caller vouches for a row of `G * PAD` values.
    unsafe {
        for vector in 0..G * PAD / S::LANES {
            let value = S::load(row.add(vector * S::LANES));
            sum[vector] = match worth {
                None => S::add(sum[vector], value),
                Some(worth) => S::fma(worth, value, sum[vector]),
            };
        }
    }
}

kernel! {
    /// Adds the outputs `[frames, H' * W', width]` of some frames to `y`, from weights `[taps, rows, width]`.
    pub(super) fn forward(geometry: &Geometry, input: &Planes<'_>, weights: &[f32], width: usize, y: &mut [f32]) =
        forward_body
}

#[inline(always)]
unsafe fn forward_body<S: Simd>(geometry: &Geometry, input: &Planes<'_>, weights: &[f32], width: usize, y: &mut [f32]) {
    assert_eq!(weights.len(), geometry.taps() * geometry.rows * width, "weights of another shape");
    let frames = y.len() / (geometry.output_area() * width);
    assert_eq!(y.len(), frames * geometry.output_area() * width, "outputs of another shape");
    let words = frames * geometry.input_area() * geometry.words;
    assert!(input.iter().all(|(plane, _)| plane.len() == words), "spikes of another shape");
    assert!(u32::try_from(y.len()).is_ok(), "more outputs of a sample than positions are counted in");
    // SAFETY: the shapes were just checked.
    unsafe {
        match width / PAD {
            1 => forward_rows::<S, 1>(geometry, frames, input, weights, y),
            2 => forward_rows::<S, 2>(geometry, frames, input, weights, y),
            3 => forward_rows::<S, 3>(geometry, frames, input, weights, y),
            _ => forward_rows::<S, 4>(geometry, frames, input, weights, y),
        }
    }
}

#[inline(always)]
unsafe fn forward_rows<S: Simd, const G: usize>(
    geometry: &Geometry,
    frames: usize,
    input: &Planes<'_>,
    weights: &[f32],
    y: &mut [f32],
) {
    let width = G * PAD;
    let at_once = geometry.frames_at_once();
    let (mut band, mut lists, mut jobs) = (Band::new(), IndexLists::new(), [Job::default(); BAND + 1]);
    for first in (0..frames).step_by(at_once) {
        let frames = first..(first + at_once).min(frames);
        for class in &geometry.classes {
            for index in 0..Band::count(class, frames.len()) {
                band.set(geometry, class, &frames, index);
                for word in 0..geometry.words {
                    for &(plane, worth) in input {
                        lists.fill(&band.words(plane, word)[..band.positions().len()]);
                        for &(tap, offset) in &class.taps {
                            let used = index_list::jobs(&band, &lists, Reach::new(geometry, offset), &mut jobs);
                            // SAFETY: a one is a channel that exists, so its weight row does; outputs are inside.
                            unsafe {
                                let rows = weights.as_ptr().add((tap * geometry.rows + word * WORD) * width);
                                let worth = (worth != 1.0).then(|| S::splat(worth));
                                for job in &jobs[..used] {
                                    let to = y.as_mut_ptr().add(job.output as usize * width);
                                    let mut sum = read::<S, G>(to);
                                    let ids = lists.ids.as_ptr().add(usize::from(job.start));
                                    add_all::<S, G>(&mut sum, rows, ids, usize::from(job.len), worth);
                                    write::<S, G>(to, &sum);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Adds the rows that a list names; its indices are read eight at a time.
#[inline(always)]
unsafe fn add_all<S: Simd, const G: usize>(
    sum: &mut [S::V; MOST],
    rows: *const f32,
    ids: *const u8,
    len: usize,
    worth: Option<S::V>,
) {
    // SAFETY: the caller vouches for `len` indices of rows, and eight bytes from each group of them on.
    unsafe {
        let row = |id: u64| rows.add((id & 0xff) as usize * G * PAD);
        let mut at = 0;
        while at + 8 <= len {
            let group = ids.add(at).cast::<u64>().read_unaligned();
            for id in 0..8 {
                add::<S, G>(sum, row(group >> (8 * id)), worth);
            }
            at += 8;
        }
        let mut group = ids.add(at).cast::<u64>().read_unaligned();
        if len & 4 != 0 {
            for id in 0..4 {
                add::<S, G>(sum, row(group >> (8 * id)), worth);
            }
            group >>= 32;
        }
        for _ in 0..len & 3 {
            add::<S, G>(sum, row(group), worth);
            group >>= 8;
        }
    }
}

kernel! {
    /// Adds the weight gradient of some frames to `grad [taps, rows, width]`, from the framed output gradients
    /// `dy [frames, framed H' * W', width]`.
    pub(super) fn weight_grad(geometry: &Geometry, input: &Planes<'_>, frames: Range<usize>, dy: &[f32], width: usize,
        grad: &mut [f32]) = weight_grad_body
}

#[inline(always)]
unsafe fn weight_grad_body<S: Simd>(
    geometry: &Geometry,
    input: &Planes<'_>,
    frames: Range<usize>,
    dy: &[f32],
    width: usize,
    grad: &mut [f32],
) {
    assert_eq!(dy.len(), frames.len() * geometry.framed_area() * width, "gradient of another shape");
    assert!(u32::try_from(size_of_val(dy)).is_ok(), "more gradients than positions are counted in, in bytes");
    assert_eq!(grad.len(), geometry.taps() * geometry.rows * width, "weights of another shape");
    // SAFETY: the shapes were just checked.
    unsafe {
        match width / PAD {
            1 => weight_grad_rows::<S, 1>(geometry, input, frames, dy, grad),
            2 => weight_grad_rows::<S, 2>(geometry, input, frames, dy, grad),
            3 => weight_grad_rows::<S, 3>(geometry, input, frames, dy, grad),
            _ => weight_grad_rows::<S, 4>(geometry, input, frames, dy, grad),
        }
    }
}

#[inline(always)]
unsafe fn weight_grad_rows<S: Simd, const G: usize>(
    geometry: &Geometry,
    input: &Planes<'_>,
    frames: Range<usize>,
    dy: &[f32],
    grad: &mut [f32],
) {
    let width = G * PAD;
    let (mut band, mut lists) = (Band::new(), IndexLists::new());
    let mut offsets = [0_u32; BAND * WORD];
    for class in &geometry.classes {
        for index in 0..Band::count(class, frames.len()) {
            band.set(geometry, class, &frames, index);
            // In bytes.
            let row = (width * size_of::<f32>()) as u32;
            let mut starts = [0_u32; BAND];
            starts.iter_mut().zip(band.positions()).for_each(|(to, position)| *to = position.framed * row);
            for word in 0..geometry.words {
                for &(plane, worth) in input {
                    let mut words = band.words(plane, word);
                    index_list::transpose(&mut words);
                    lists.fill(&words);
                    let ids = &lists.ids[..lists.ones()];
                    offsets.iter_mut().zip(ids).for_each(|(to, &id)| *to = starts[usize::from(id) % BAND]);
                    for &(tap, offset) in &class.taps {
                        // SAFETY: a one is a channel that exists, so its weight row does; positions plus a tap's offset
                        // are inside the framed gradient, which was made so.
                        unsafe {
                            let rows = grad.as_mut_ptr().add((tap * geometry.rows + word * WORD) * width);
                            let base = dy.as_ptr().add(offset * width);
                            for list in lists.in_order() {
                                let mut sum = [S::splat(0.0); MOST];
                                let own = offsets.as_ptr().add(usize::from(list.start));
                                let mut at = 0;
                                let row = |at: usize| base.cast::<u8>().add(*own.add(at) as usize).cast::<f32>();
                                while at + 4 <= usize::from(list.len) {
                                    for id in at..at + 4 {
                                        add::<S, G>(&mut sum, row(id), None);
                                    }
                                    at += 4;
                                }
                                while at < usize::from(list.len) {
                                    add::<S, G>(&mut sum, row(at), None);
                                    at += 1;
                                }
                                let to = rows.add(usize::from(list.index) * width);
                                let mut total = read::<S, G>(to);
                                for vector in 0..width / S::LANES {
                                    total[vector] = S::fma(S::splat(worth), sum[vector], total[vector]);
                                }
                                write::<S, G>(to, &total);
                            }
                        }
                    }
                }
            }
        }
    }
}
