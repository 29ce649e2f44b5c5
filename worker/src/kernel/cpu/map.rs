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
    map.fill(0.0);
    for (place, input) in inside(geometry) {
        map[place * channels..][..channels].copy_from_slice(&image[input * channels..][..channels]);
    }
}

/// Input positions that a map has, by place.
fn inside(geometry: &Geometry) -> impl Iterator<Item = (usize, usize)> {
    let [height, width] = geometry.input.map(|size| size);
    let (rows, columns) = (height.min(geometry.map[0] - geometry.padding[0]), width.min(geometry.map[1] - geometry.padding[1]));
    (0..rows).flat_map(move |y| {
        let start = (y + geometry.padding[0]) * geometry.map[1] + geometry.padding[1];
        (0..columns).map(move |x| (start + x, y * width + x))
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
    maps.fill(0.0);
    for (frame, map) in frames.zip(maps.chunks_exact_mut(map_len)) {
        for (place, position) in inside(geometry) {
            let words = (frame * geometry.input_area() + position) * geometry.words;
            let to = &mut map[place * distance..][..distance];
            for lane in (0..distance).step_by(S::LANES) {
                // SAFETY: `to` has `distance` values.
                unsafe {
                    let mut value = S::splat(0.0);
                    for (plane, worth) in input {
                        let bits = plane[words + lane / WORD] >> (lane % WORD);
                        value = S::add(value, S::keep(bits, S::splat(*worth)));
                    }
                    S::store(to.as_mut_ptr().add(lane), value);
                }
            }
        }
    }
}
