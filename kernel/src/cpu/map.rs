//! Inputs as maps of f32, framed by the zeros that taps may reach, for the dense kernels.

#![expect(unsafe_code, reason = "vector stores through pointers whose bounds are asserted at the start")]

use super::geometry::Geometry;
use super::simd::{PAD, Simd, kernel};
use super::sparse::Planes;
use crate::spikes::WORD;
use std::ops::Range;

/// Values from one position of a map of spikes to the next.
pub(super) fn row_stride(geometry: &Geometry) -> usize {
    geometry.rows.next_multiple_of(PAD)
}

/// Writes a map of positions of `row_stride` values: zeros where it is framed, elsewhere what `write` makes of an input
/// position.
#[inline(always)]
fn framed(geometry: &Geometry, row_stride: usize, map: &mut [f32], mut write: impl FnMut(usize, &mut [f32])) {
    let ([height, width], padding, columns) = (geometry.input, geometry.padding, geometry.map[1]);
    let (first, last) = (padding[1].min(columns), (padding[1] + width).min(columns));
    for (y, row) in map.chunks_exact_mut(columns * row_stride).enumerate() {
        let Some(y) = y.checked_sub(padding[0]).filter(|&y| y < height) else {
            row.fill(0.0);
            continue;
        };
        row[..first * row_stride].fill(0.0);
        row[last * row_stride..].fill(0.0);
        let inside = row[first * row_stride..last * row_stride].chunks_exact_mut(row_stride);
        inside.enumerate().for_each(|(x, to)| write(y * width + x, to));
    }
}

/// Copies an image `[H * W, C]` into a map.
pub(super) fn of_image(geometry: &Geometry, image: &[f32], map: &mut [f32]) {
    let channels = geometry.rows;
    framed(geometry, channels, map, |input, to| to.copy_from_slice(&image[input * channels..][..channels]));
}

kernel! {
    /// Writes the whole numbers of some frames as f32 into maps.
    pub(super) fn of_spikes(geometry: &Geometry, input: &Planes<'_>, frames: Range<usize>, maps: &mut [f32]) =
        of_spikes_body
}

#[inline(always)]
unsafe fn of_spikes_body<S: Simd>(geometry: &Geometry, input: &Planes<'_>, frames: Range<usize>, maps: &mut [f32]) {
    let row_stride = row_stride(geometry);
    let map_len = geometry.map_area() * row_stride;
    assert_eq!(maps.len(), frames.len() * map_len, "maps of another shape");
    for (frame, map) in frames.zip(maps.chunks_exact_mut(map_len)) {
        framed(geometry, row_stride, map, |position, to| {
            let words = (frame * geometry.input_area() + position) * geometry.words;
            for lane in (0..row_stride).step_by(S::LANES) {
                // SAFETY: `to` has `row_stride` values.
                unsafe {
                    let mut value = S::splat(0.0);
                    for (plane, worth) in input {
                        let bits = plane[words + lane / WORD] >> (lane % WORD);
                        value = S::add(value, S::keep(bits, S::splat(*worth)));
                    }
                    S::store(to.as_mut_ptr().add(lane), value);
                }
            }
        });
    }
}
