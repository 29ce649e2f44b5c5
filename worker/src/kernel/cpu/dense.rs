//! Dense products: the gradient of a convolution's input, and convolutions of images.

#![expect(unsafe_code, reason = "vector loads and stores through pointers whose bounds are asserted at the start")]
#![expect(clippy::needless_range_loop, reason = "one index for registers and memory reads as the kernel that it is")]

use super::geometry::{Class, Geometry};
use super::simd::{PAD, Simd, kernel};

/// Positions whose sums are kept in registers together.
const POSITIONS: usize = 6;

/// Where the input's gradient goes: the values of one frame, where its tile starts, and the distance of positions.
pub(super) struct Target<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) start: usize,
    pub(super) distance: usize,
}

kernel! {
    /// Adds the gradient of one frame's input in one tile, from the framed output gradient `dy [framed H' * W', width]`
    /// and turned weights `[taps, outputs, tile width]`.
    pub(super) fn input_grad(geometry: &Geometry, dy: &[f32], width: usize, outputs: usize, weights: &[f32], tile_width: usize, target: Target<'_>) = input_grad_body
}

#[inline(always)]
unsafe fn input_grad_body<S: Simd>(
    geometry: &Geometry,
    dy: &[f32],
    width: usize,
    outputs: usize,
    weights: &[f32],
    tile_width: usize,
    target: Target<'_>,
) {
    assert_eq!(dy.len(), geometry.framed_area() * width, "gradient of another shape");
    assert_eq!(weights.len(), geometry.taps() * outputs * tile_width, "weights of another shape");
    let last = target.start + (geometry.input_area() - 1) * target.distance + tile_width;
    assert!(last <= target.values.len(), "input gradient of another shape");
    let product = Product { dy: dy.as_ptr(), width, outputs, weights: weights.as_ptr(), tile_width };
    let target = (target.values.as_mut_ptr(), target.start, target.distance);
    // SAFETY: the shapes were just checked.
    unsafe {
        for class in geometry.classes.iter().filter(|class| !class.taps.is_empty()) {
            if S::LANES < PAD {
                (0..tile_width).step_by(PAD).for_each(|from| product.class::<S, 2>(class, from, target));
                continue;
            }
            match tile_width / PAD {
                1 => product.class::<S, 1>(class, 0, target),
                2 => product.class::<S, 2>(class, 0, target),
                3 => product.class::<S, 3>(class, 0, target),
                _ => product.class::<S, 4>(class, 0, target),
            }
        }
    }
}

struct Product {
    dy: *const f32,
    width: usize,
    outputs: usize,
    weights: *const f32,
    tile_width: usize,
}

impl Product {
    /// Columns `from ..` of `V` vectors, for every position of a class.
    #[inline(always)]
    unsafe fn class<S: Simd, const V: usize>(&self, class: &Class, from: usize, target: (*mut f32, usize, usize)) {
        for positions in class.positions.chunks(POSITIONS) {
            // SAFETY: as for the caller.
            unsafe {
                match positions.len() {
                    6 => self.group::<S, 6, V>(class, positions, from, target),
                    5 => self.group::<S, 5, V>(class, positions, from, target),
                    4 => self.group::<S, 4, V>(class, positions, from, target),
                    3 => self.group::<S, 3, V>(class, positions, from, target),
                    2 => self.group::<S, 2, V>(class, positions, from, target),
                    _ => self.group::<S, 1, V>(class, positions, from, target),
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn group<S: Simd, const P: usize, const V: usize>(
        &self,
        class: &Class,
        positions: &[(usize, usize)],
        from: usize,
        (values, start, distance): (*mut f32, usize, usize),
    ) {
        // SAFETY: every place plus a tap's offset is inside the framed gradient; weights and target were checked.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; P];
            for &(tap, offset) in &class.taps {
                let rows: [*const f32; P] =
                    std::array::from_fn(|position| self.dy.add((positions[position].0 + offset) * self.width));
                let mut weights = self.weights.add(tap * self.outputs * self.tile_width + from);
                for output in 0..self.outputs {
                    let row: [S::V; V] = std::array::from_fn(|vector| S::load(weights.add(vector * S::LANES)));
                    for position in 0..P {
                        let factor = S::splat(*rows[position].add(output));
                        for vector in 0..V {
                            sums[position][vector] = S::fma(factor, row[vector], sums[position][vector]);
                        }
                    }
                    weights = weights.add(self.tile_width);
                }
            }
            for position in 0..P {
                let to = values.add(start + positions[position].1 * distance + from);
                for vector in 0..V {
                    let to = to.add(vector * S::LANES);
                    S::store(to, S::add(S::load(to), sums[position][vector]));
                }
            }
        }
    }
}

kernel! {
    /// Outputs `[H' * W', width]` of one image `x [H * W, C]`, from weights `[taps, rows, width]`.
    pub(super) fn image_forward(geometry: &Geometry, x: &[f32], weights: &[f32], width: usize, y: &mut [f32]) = image_forward_body
}

#[inline(always)]
unsafe fn image_forward_body<S: Simd>(geometry: &Geometry, x: &[f32], weights: &[f32], width: usize, y: &mut [f32]) {
    let rows = geometry.rows;
    assert_eq!(x.len(), geometry.input_area() * rows, "an image of another shape");
    assert_eq!(weights.len(), geometry.taps() * rows * width, "weights of another shape");
    assert_eq!(y.len(), geometry.output_area() * width, "outputs of another shape");
    for (place, y) in y.chunks_exact_mut(width).enumerate() {
        let (out_y, out_x) = (place / geometry.output[1], place % geometry.output[1]);
        for from in (0..width).step_by(PAD) {
            // SAFETY: rows and positions are inside by the checks above and below.
            unsafe {
                let mut sums = [S::splat(0.0); 2];
                for tap in 0..geometry.taps() {
                    let (ky, kx) = (tap / geometry.kernel[1], tap % geometry.kernel[1]);
                    let in_y = (out_y * geometry.stride + ky).wrapping_sub(geometry.padding[0]);
                    let in_x = (out_x * geometry.stride + kx).wrapping_sub(geometry.padding[1]);
                    if in_y >= geometry.input[0] || in_x >= geometry.input[1] {
                        continue;
                    }
                    let x = x.as_ptr().add((in_y * geometry.input[1] + in_x) * rows);
                    let weights = weights.as_ptr().add(tap * rows * width + from);
                    for channel in 0..rows {
                        let factor = S::splat(*x.add(channel));
                        for vector in 0..PAD / S::LANES {
                            let row = S::load(weights.add(channel * width + vector * S::LANES));
                            sums[vector] = S::fma(factor, row, sums[vector]);
                        }
                    }
                }
                for vector in 0..PAD / S::LANES {
                    S::store(y.as_mut_ptr().add(from + vector * S::LANES), sums[vector]);
                }
            }
        }
    }
}

kernel! {
    /// Adds the weight gradient of one image `x [H * W, C]` to `grad [taps, rows, width]`, from the framed output gradient.
    pub(super) fn image_weight_grad(geometry: &Geometry, x: &[f32], dy: &[f32], width: usize, grad: &mut [f32]) = image_weight_grad_body
}

#[inline(always)]
unsafe fn image_weight_grad_body<S: Simd>(geometry: &Geometry, x: &[f32], dy: &[f32], width: usize, grad: &mut [f32]) {
    let rows = geometry.rows;
    assert_eq!(x.len(), geometry.input_area() * rows, "an image of another shape");
    assert_eq!(dy.len(), geometry.framed_area() * width, "gradient of another shape");
    assert_eq!(grad.len(), geometry.taps() * rows * width, "weights of another shape");
    for class in &geometry.classes {
        for &(tap, offset) in &class.taps {
            for channel in 0..rows {
                for from in (0..width).step_by(PAD) {
                    // SAFETY: every place plus a tap's offset is inside the framed gradient; the rest was checked.
                    unsafe {
                        let to = grad.as_mut_ptr().add((tap * rows + channel) * width + from);
                        let mut sums = [S::splat(0.0); 2];
                        for &(place, position) in &class.positions {
                            let factor = S::splat(*x.as_ptr().add(position * rows + channel));
                            let row = dy.as_ptr().add((place + offset) * width + from);
                            for vector in 0..PAD / S::LANES {
                                sums[vector] = S::fma(factor, S::load(row.add(vector * S::LANES)), sums[vector]);
                            }
                        }
                        for vector in 0..PAD / S::LANES {
                            let to = to.add(vector * S::LANES);
                            S::store(to, S::add(S::load(to), sums[vector]));
                        }
                    }
                }
            }
        }
    }
}
