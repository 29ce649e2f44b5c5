//! Convolution of spikes: add the weight rows of the channels that fired; and its weight gradient: add the gradient rows
//! of the positions that fired.
//!
//! Both keep a row of sums in registers and the rows that they add in the first cache.

#![expect(unsafe_code, reason = "vector loads and stores through pointers whose bounds are asserted at the start")]
#![expect(clippy::needless_range_loop, reason = "one index for registers and memory reads as the kernel that it is")]

use super::geometry::Geometry;
use super::simd::{PAD, Simd, kernel};
use crate::kernel::spikes::WORD;

/// Bytes of weights that are used again and again before the next ones.
const CHUNK: usize = 24 << 10;

/// Output positions that one chunk of weights is applied to.
const BLOCK: usize = 64;

/// Input positions whose spikes are listed by channel at a time.
const BAND: usize = 128;

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
    /// Outputs `[frames, H' * W', width]` of one sample, from weights `[taps, rows, width]`.
    pub(super) fn forward(geometry: &Geometry, input: &Planes<'_>, weights: &[f32], width: usize, y: &mut [f32]) = forward_body
}

#[inline(always)]
unsafe fn forward_body<S: Simd>(geometry: &Geometry, input: &Planes<'_>, weights: &[f32], width: usize, y: &mut [f32]) {
    assert_eq!(weights.len(), geometry.taps() * geometry.rows * width, "weights of another shape");
    assert_eq!(y.len(), geometry.frames * geometry.output_area() * width, "outputs of another shape");
    let words = geometry.frames * geometry.input_area() * geometry.words;
    assert!(input.iter().all(|(plane, _)| plane.len() == words), "spikes of another shape");
    // SAFETY: the shapes were just checked.
    unsafe {
        match width / PAD {
            1 => forward_rows::<S, 1>(geometry, input, weights, y),
            2 => forward_rows::<S, 2>(geometry, input, weights, y),
            3 => forward_rows::<S, 3>(geometry, input, weights, y),
            _ => forward_rows::<S, 4>(geometry, input, weights, y),
        }
    }
}

/// The taps and words that are worked on together, so that their weights stay in the first cache.
struct Chunk {
    taps: (usize, usize),
    words: (usize, usize),
}

fn chunks(geometry: &Geometry, row_bytes: usize) -> Vec<Chunk> {
    let (taps, words) = (geometry.taps(), geometry.words);
    let tap_bytes = geometry.rows * row_bytes;
    let (taps_at_once, words_at_once) =
        if tap_bytes <= CHUNK { ((CHUNK / tap_bytes.max(1)).max(1), words) } else { (1, (CHUNK / (WORD * row_bytes)).max(1)) };
    let mut chunks = Vec::new();
    for tap in (0..taps).step_by(taps_at_once) {
        for word in (0..words).step_by(words_at_once) {
            let ends = ((tap + taps_at_once).min(taps), (word + words_at_once).min(words));
            chunks.push(Chunk { taps: (tap, ends.0), words: (word, ends.1) });
        }
    }
    chunks
}

#[inline(always)]
unsafe fn forward_rows<S: Simd, const G: usize>(geometry: &Geometry, input: &Planes<'_>, weights: &[f32], y: &mut [f32]) {
    let width = G * PAD;
    let [out_height, out_width] = geometry.output;
    let chunks = chunks(geometry, width * size_of::<f32>());
    let rows_at_once = (BLOCK / out_width).max(1);
    let frame_words = geometry.input_area() * geometry.words;
    for (frame, y) in y.chunks_mut(geometry.output_area() * width).enumerate() {
        for first in (0..out_height).step_by(rows_at_once) {
            let last = (first + rows_at_once).min(out_height);
            let block = &mut y[first * out_width * width..last * out_width * width];
            block.fill(0.0);
            for chunk in &chunks {
                for (place, row) in block.chunks_exact_mut(width).enumerate() {
                    let (out_y, out_x) = (first + place / out_width, place % out_width);
                    // SAFETY: `row` has `width` values; weight rows and words are inside by the bounds of the geometry.
                    unsafe {
                        let mut sum = read::<S, G>(row.as_ptr());
                        for &(plane, worth) in input {
                            let plane = plane.as_ptr().add(frame * frame_words);
                            gather::<S, G>(geometry, chunk, plane, worth, weights.as_ptr(), (out_y, out_x), &mut sum);
                        }
                        write::<S, G>(row.as_mut_ptr(), &sum);
                    }
                }
            }
        }
    }
}

/// Adds the weight rows of a chunk that the spikes of one frame drive at one output position.
#[inline(always)]
unsafe fn gather<S: Simd, const G: usize>(
    geometry: &Geometry,
    chunk: &Chunk,
    plane: *const u64,
    worth: f32,
    weights: *const f32,
    (out_y, out_x): (usize, usize),
    sum: &mut [S::V; MOST],
) {
    let width = G * PAD;
    let [height, in_width] = geometry.input;
    for tap in chunk.taps.0..chunk.taps.1 {
        let (ky, kx) = (tap / geometry.kernel[1], tap % geometry.kernel[1]);
        let y = (out_y * geometry.stride + ky).wrapping_sub(geometry.padding[0]);
        let x = (out_x * geometry.stride + kx).wrapping_sub(geometry.padding[1]);
        if y >= height || x >= in_width {
            continue;
        }
        // SAFETY: (y, x) is inside the input and words inside the position; a set bit is a channel that exists, so its
        // weight row does.
        unsafe {
            let words = plane.add((y * in_width + x) * geometry.words);
            for word in chunk.words.0..chunk.words.1 {
                let mut bits = *words.add(word);
                let rows = weights.add((tap * geometry.rows + word * WORD) * width);
                if worth == 1.0 {
                    while bits != 0 {
                        add::<S, G>(sum, rows.add(bits.trailing_zeros() as usize * width), None);
                        bits &= bits - 1;
                    }
                } else {
                    let worth = S::splat(worth);
                    while bits != 0 {
                        add::<S, G>(sum, rows.add(bits.trailing_zeros() as usize * width), Some(worth));
                        bits &= bits - 1;
                    }
                }
            }
        }
    }
}

/// Positions that fired, by channel.
pub(super) struct Lists {
    places: Vec<u16>,
    counts: Vec<u16>,
    /// Most positions of a class in a band.
    most: usize,
    rows: usize,
}

impl Lists {
    pub(super) fn new(geometry: &Geometry) -> Self {
        let stride = geometry.stride;
        let rows = (BAND / geometry.input[1] / stride * stride).max(stride).min(geometry.input[0].next_multiple_of(stride));
        let most = (rows / stride) * geometry.input[1].div_ceil(stride);
        assert!((rows / stride) * geometry.framed[1] <= usize::from(u16::MAX), "rows of more than 65,535 positions");
        let classes = stride * stride;
        Self { places: vec![0; classes * WORD * most], counts: vec![0; classes * WORD], most, rows }
    }

    /// Lists the ones of a word of every position in some rows, as places relative to the first row.
    fn fill(&mut self, geometry: &Geometry, plane: &[u64], word: usize, first: usize) {
        let (stride, width) = (geometry.stride, geometry.input[1]);
        self.counts.fill(0);
        for y in first..(first + self.rows).min(geometry.input[0]) {
            let place = (y - first) / stride * geometry.framed[1];
            for x in 0..width {
                let mut bits = plane[(y * width + x) * geometry.words + word];
                if bits == 0 {
                    continue;
                }
                let class = y % stride * stride + x % stride;
                let place = (place + x / stride) as u16;
                while bits != 0 {
                    let list = class * WORD + bits.trailing_zeros() as usize;
                    let count = usize::from(self.counts[list]);
                    self.places[list * self.most + count] = place;
                    self.counts[list] += 1;
                    bits &= bits - 1;
                }
            }
        }
    }
}

kernel! {
    /// Adds the weight gradient of one frame to `grad [taps, rows, width]`, from the framed output gradient
    /// `dy [framed H' * W', width]`.
    pub(super) fn weight_grad(geometry: &Geometry, input: &Planes<'_>, dy: &[f32], width: usize, lists: &mut Lists, grad: &mut [f32]) = weight_grad_body
}

#[inline(always)]
unsafe fn weight_grad_body<S: Simd>(
    geometry: &Geometry,
    input: &Planes<'_>,
    dy: &[f32],
    width: usize,
    lists: &mut Lists,
    grad: &mut [f32],
) {
    assert_eq!(dy.len(), geometry.framed_area() * width, "gradient of another shape");
    assert_eq!(grad.len(), geometry.taps() * geometry.rows * width, "weights of another shape");
    // SAFETY: the shapes were just checked.
    unsafe {
        match width / PAD {
            1 => weight_grad_rows::<S, 1>(geometry, input, dy, lists, grad),
            2 => weight_grad_rows::<S, 2>(geometry, input, dy, lists, grad),
            3 => weight_grad_rows::<S, 3>(geometry, input, dy, lists, grad),
            _ => weight_grad_rows::<S, 4>(geometry, input, dy, lists, grad),
        }
    }
}

#[inline(always)]
unsafe fn weight_grad_rows<S: Simd, const G: usize>(
    geometry: &Geometry,
    input: &Planes<'_>,
    dy: &[f32],
    lists: &mut Lists,
    grad: &mut [f32],
) {
    let width = G * PAD;
    for first in (0..geometry.input[0]).step_by(lists.rows) {
        let start = first / geometry.stride * geometry.framed[1];
        for word in 0..geometry.words {
            for &(plane, worth) in input {
                lists.fill(geometry, plane, word, first);
                for (class, taps) in geometry.classes.iter().enumerate() {
                    for &(tap, offset) in &taps.taps {
                        let rows = (tap * geometry.rows + word * WORD) * width;
                        let channels = (geometry.rows - (word * WORD).min(geometry.rows)).min(WORD);
                        for channel in 0..channels {
                            let list = class * WORD + channel;
                            let count = usize::from(lists.counts[list]);
                            if count == 0 {
                                continue;
                            }
                            let places = &lists.places[list * lists.most..][..count];
                            let row = &mut grad[rows + channel * width..][..width];
                            // SAFETY: places plus a tap's offset are inside the framed gradient, which was made so.
                            unsafe {
                                let base = dy.as_ptr().add((start + offset) * width);
                                let mut sum = [S::splat(0.0); MOST];
                                for &place in places {
                                    add::<S, G>(&mut sum, base.add(usize::from(place) * width), None);
                                }
                                let mut total = read::<S, G>(row.as_ptr());
                                for vector in 0..width / S::LANES {
                                    total[vector] = S::fma(S::splat(worth), sum[vector], total[vector]);
                                }
                                write::<S, G>(row.as_mut_ptr(), &total);
                            }
                        }
                    }
                }
            }
        }
    }
}
