//! Inputs as maps of f32, framed by the zeros that taps may reach, for the dense kernels.

#![expect(unsafe_code, reason = "vector stores through pointers whose bounds are asserted at the start")]

use super::geometry::Geometry;
use super::simd::{PAD, Simd, kernel};
use super::sparse::Planes;
use crate::kernel::spikes::WORD;
use std::ops::Range;

/// Distance of the positions of a map of spikes.
pub(super) fn distance(geometry: &Geometry) -> usize {
    geometry.rows.next_multiple_of(PAD)
}

/// Copies an image `[H * W, C]` into a map.
pub(super) fn of_image(geometry: &Geometry, image: &[f32], map: &mut [f32]) {
    let channels = geometry.rows;
    for (map, position) in map.chunks_exact_mut(channels).zip(positions(geometry)) {
        match position {
            None => map.fill(0.0),
            Some(input) => map.copy_from_slice(&image[input * channels..][..channels]),
        }
    }
}

/// The input position at each place of a map; none on the frame.
fn positions(geometry: &Geometry) -> impl Iterator<Item = Option<usize>> {
    let ([height, width], padding) = (geometry.input, geometry.padding);
    let columns = geometry.map[1];
    (0..geometry.map[0]).flat_map(move |y| {
        let y = y.checked_sub(padding[0]).filter(|&y| y < height);
        (0..columns).map(move |x| {
            let x = x.checked_sub(padding[1]).filter(|&x| x < width);
            y.zip(x).map(|(y, x)| y * width + x)
        })
    })
}

kernel! {
    /// Writes the whole numbers of some frames as f32 into maps.
    pub(super) fn of_spikes(geometry: &Geometry, input: &Planes<'_>, frames: Range<usize>, maps: &mut [f32]) = of_spikes_body
}

#[inline(always)]
unsafe fn of_spikes_body<S: Simd>(geometry: &Geometry, input: &Planes<'_>, frames: Range<usize>, maps: &mut [f32]) {
    let distance = distance(geometry);
    let map_len = geometry.map_area() * distance;
    assert_eq!(maps.len(), frames.len() * map_len, "maps of another shape");
    let area = geometry.frames * geometry.input_area() * geometry.words;
    assert!(input.iter().all(|(plane, _)| plane.len() >= area) && frames.end <= geometry.frames, "spikes of another shape");
    let ([height, width], padding) = (geometry.input, geometry.padding);
    let row_len = geometry.map[1] * distance;
    let (first, last) = (padding[1].min(geometry.map[1]), (padding[1] + width).min(geometry.map[1]));
    for (frame, map) in frames.zip(maps.chunks_exact_mut(map_len)) {
        for (y, row) in map.chunks_exact_mut(row_len).enumerate() {
            let Some(y) = y.checked_sub(padding[0]).filter(|&y| y < height) else {
                row.fill(0.0);
                continue;
            };
            let (before, row) = row.split_at_mut(first * distance);
            let (row, after) = row.split_at_mut((last - first) * distance);
            before.fill(0.0);
            after.fill(0.0);
            let words = (frame * geometry.input_area() + y * width) * geometry.words;
            for (x, to) in row.chunks_exact_mut(distance).enumerate() {
                let words = words + x * geometry.words;
                for lane in (0..distance).step_by(S::LANES) {
                    // SAFETY: `to` has `distance` values, and the planes have the words of every position.
                    unsafe {
                        let mut value = S::splat(0.0);
                        for (plane, worth) in input {
                            let bits = plane.get_unchecked(words + lane / WORD) >> (lane % WORD);
                            value = S::add(value, S::keep(bits, S::splat(*worth)));
                        }
                        S::store(to.as_mut_ptr().add(lane), value);
                    }
                }
            }
        }
    }
}
