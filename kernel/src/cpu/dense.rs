//! Dense products on maps of f32: convolutions of images and of spikes that are many, and gradients of inputs and
//! weights.
//!
//! A map is framed by the zeros that taps may reach, so that a product has no bounds to ask for.

#![expect(unsafe_code, reason = "vector loads and stores through pointers whose bounds are asserted at the start")]
#![expect(clippy::needless_range_loop, reason = "one index for registers and memory reads as the kernel that it is")]

use super::geometry::{Class, Geometry};
use super::group::{Groups, Target};
use super::simd::{PAD, Simd, kernel};

/// Positions whose sums are kept in registers together.
const POSITIONS: usize = 6;

/// A framed map `[positions, row_stride]` with weights `[taps, rows, width]`: each tap and each row takes the value of
/// a position at an offset.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    pub(super) map: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) weights: &'a [f32],
    pub(super) rows: usize,
    pub(super) width: usize,
}

kernel! {
    /// Adds to the positions of classes the products of what their taps reach in one frame.
    pub(super) fn product(classes: &[Class], operands: Operands<'_>, target: Target<'_>) = product_body
}

#[inline(always)]
unsafe fn product_body<S: Simd>(classes: &[Class], operands: Operands<'_>, target: Target<'_>) {
    let Operands { map, row_stride, weights, rows, width } = operands;
    for class in classes {
        assert!((class.last_place + 1) * row_stride <= map.len() && rows <= row_stride, "a map of another shape");
        let end = target.start + class.last_result * target.row_stride + width;
        assert!(end <= target.values.len(), "a target of another shape");
        let taps = if class.taps.is_empty() { 0 } else { class.last_tap + 1 };
        assert!(taps * rows * width <= weights.len() && width.is_multiple_of(PAD), "weights of another shape");
    }
    let product = Product { map: map.as_ptr(), row_stride, rows, weights: weights.as_ptr(), width };
    let target = (target.values.as_mut_ptr(), target.start, target.row_stride);
    // SAFETY: the shapes were just checked.
    unsafe {
        for class in classes.iter().filter(|class| !class.taps.is_empty()) {
            if S::LANES < PAD {
                for from in (0..width).step_by(PAD) {
                    product.class::<S, 2>(class, from, target);
                }
                continue;
            }
            match width / PAD {
                1 => product.class::<S, 1>(class, 0, target),
                2 => product.class::<S, 2>(class, 0, target),
                3 => product.class::<S, 3>(class, 0, target),
                _ => product.class::<S, 4>(class, 0, target),
            }
        }
    }
}

struct Product {
    map: *const f32,
    row_stride: usize,
    rows: usize,
    weights: *const f32,
    width: usize,
}

impl Product {
    /// Columns `from ..` of `V` vectors, for every position of a class.
    #[inline(always)]
    unsafe fn class<S: Simd, const V: usize>(&self, class: &Class, from: usize, target: (*mut f32, usize, usize)) {
        let mut rest = &class.positions[..];
        // Narrow outputs leave registers for more positions, which hides how long an addition takes.
        while V == 1 && rest.len() >= 2 * POSITIONS {
            let (positions, others) = rest.split_at(2 * POSITIONS);
            // SAFETY: as for the caller.
            unsafe { self.group::<S, { 2 * POSITIONS }, V>(class, positions, from, target) };
            rest = others;
        }
        for positions in rest.chunks(POSITIONS) {
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
        (values, start, row_stride): (*mut f32, usize, usize),
    ) {
        // SAFETY: every place plus a tap's offset is inside the map; weights and target were checked.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; P];
            for &(tap, offset) in &class.taps {
                let rows: [*const f32; P] =
                    std::array::from_fn(|position| self.map.add((positions[position].0 + offset) * self.row_stride));
                let mut weights = self.weights.add(tap * self.rows * self.width + from);
                for at in 0..self.rows {
                    let row: [S::V; V] = std::array::from_fn(|vector| S::load(weights.add(vector * S::LANES)));
                    for position in 0..P {
                        let factor = S::splat(*rows[position].add(at));
                        for vector in 0..V {
                            sums[position][vector] = S::fma(factor, row[vector], sums[position][vector]);
                        }
                    }
                    weights = weights.add(self.width);
                }
            }
            for position in 0..P {
                let to = values.add(start + positions[position].1 * row_stride + from);
                for vector in 0..V {
                    let to = to.add(vector * S::LANES);
                    S::store(to, S::add(S::load(to), sums[position][vector]));
                }
            }
        }
    }
}

/// What a weight gradient is made of: a framed map `[positions, row_stride]` of `rows` channels, and framed output
/// gradients `[positions', width]`.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) map: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) rows: usize,
    pub(super) dy: &'a [f32],
    pub(super) width: usize,
}

kernel! {
    /// Adds the weight gradient of one frame to `grad [taps, rows, width]`.
    pub(super) fn weight_grad(geometry: &Geometry, pair: Pair<'_>, grad: &mut [f32]) = weight_grad_body
}

#[inline(always)]
unsafe fn weight_grad_body<S: Simd>(geometry: &Geometry, pair: Pair<'_>, grad: &mut [f32]) {
    let Pair { map, row_stride, rows, dy, width } = pair;
    assert!((geometry.reach.last_place + 1) * row_stride <= map.len() && rows <= row_stride, "a map of another shape");
    assert_eq!(dy.len(), geometry.framed_area() * width, "gradient of another shape");
    assert_eq!(grad.len(), geometry.taps() * rows * width, "weights of another shape");
    for &(tap, offset) in &geometry.reach.taps {
        let outer = Outer {
            pairs: &geometry.pairs,
            // SAFETY: the shapes were just checked.
            map: unsafe { map.as_ptr().add(offset * row_stride) },
            row_stride,
            dy: dy.as_ptr(),
            width,
            to: grad[tap * rows * width..].as_mut_ptr(),
        };
        // SAFETY: the shapes were just checked.
        unsafe { outer.rows::<S>(0..rows) };
    }
}

/// Sums over positions of a map's values times rows of a gradient.
struct Outer<'a> {
    /// Each output position: its place in the map, and in the gradient.
    pairs: &'a [(usize, usize)],
    /// The map from a tap's offset on.
    map: *const f32,
    row_stride: usize,
    dy: *const f32,
    width: usize,
    /// Weights of the tap.
    to: *mut f32,
}

impl Groups for Outer<'_> {
    fn columns(&self) -> usize {
        self.width
    }

    #[inline(always)]
    unsafe fn group<S: Simd, const R: usize, const V: usize>(&self, first: usize, from: usize) {
        // SAFETY: as for the caller.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; R];
            for &(place, output) in self.pairs {
                let values = self.map.add(place * self.row_stride + first);
                let dy = self.dy.add(output * self.width + from);
                let row: [S::V; V] = std::array::from_fn(|vector| S::load(dy.add(vector * S::LANES)));
                for at in 0..R {
                    let factor = S::splat(*values.add(at));
                    for vector in 0..V {
                        sums[at][vector] = S::fma(factor, row[vector], sums[at][vector]);
                    }
                }
            }
            for at in 0..R {
                for vector in 0..V {
                    let to = self.to.add((first + at) * self.width + from + vector * S::LANES);
                    S::store(to, S::add(S::load(to), sums[at][vector]));
                }
            }
        }
    }
}
