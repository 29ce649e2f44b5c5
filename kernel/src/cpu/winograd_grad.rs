//! Weight gradients of 3x3 kernels with stride 1 in the transform domain of [`winograd`](super::winograd): 36 products
//! where 144 stood.
//!
//! The convolution is `A^T [(G g G^T) (B^T d B)] A`, so the gradient of the kernel is `G^T [(B^T d B) (A dy A^T)] G`:
//! inputs are transformed as in the forward pass, tiles of 4x4 output gradients by A, and the sum over all tiles is
//! taken back once.

#![expect(unsafe_code, reason = "vector loads and stores through pointers whose bounds are asserted at the start")]
#![expect(clippy::needless_range_loop, reason = "one index for registers and memory reads as the kernel that it is")]

use super::group::{Groups, loaded};
use super::simd::{PAD, Simd, kernel};
use super::winograd::{AT_ONCE, FEWEST, IN, OUT, POINTS, Shape, input_transform, scratch, tiles};
use crate::spikes::WORD;

/// Most input channels: what is summed for them in the transform domain stays in the second cache.
const MOST: usize = WORD;

/// Whether it is faster than the other algorithms for so many input channels.
pub(super) fn pays(inputs: usize) -> bool {
    (FEWEST..=MOST).contains(&inputs)
}

kernel! {
    /// Adds to `sums [36, inputs, outputs]` the products of framed maps with framed output gradients `dy`, which both
    /// have `[frames, height + 2, width + 2]` positions.
    pub(super) fn add(shape: &Shape, maps: &[f32], dy: &[f32], sums: &mut [f32], scratch: &mut [f32]) = add_body
}

#[inline(always)]
unsafe fn add_body<S: Simd>(shape: &Shape, maps: &[f32], dy: &[f32], sums: &mut [f32], scratch: &mut [f32]) {
    let Shape { frames, size: [height, width], row_stride, inputs, outputs } = *shape;
    let area = (height + 2) * (width + 2);
    assert!(
        maps.len() == frames * area * row_stride && inputs.next_multiple_of(PAD) <= row_stride,
        "maps of another shape"
    );
    assert!(dy.len() == frames * area * outputs && outputs.is_multiple_of(PAD), "gradient of another shape");
    assert!(sums.len() == POINTS * inputs * outputs && scratch.len() >= self::scratch(shape), "sums of another shape");
    let (inputs_at, grads_at) = scratch.split_at_mut(POINTS * AT_ONCE * WORD);
    let (columns, per_frame) = (width.div_ceil(OUT), tiles(shape.size));
    let corner = |tile: usize| (tile / per_frame, [tile % per_frame / columns * OUT, tile % columns * OUT]);
    for first in (0..frames * per_frame).step_by(AT_ONCE) {
        let count = (frames * per_frame - first).min(AT_ONCE);
        // SAFETY: the shapes were just checked; a tile's values outside of the maps are not touched.
        unsafe {
            for tile in 0..count {
                let (frame, corner) = corner(first + tile);
                for lane in (0..outputs).step_by(S::LANES) {
                    let dy = dy.as_ptr().add(frame * area * outputs + lane);
                    grad_transform::<S>(shape, dy, corner, grads_at.as_mut_ptr().add(tile * outputs + lane));
                }
            }
            for from in (0..inputs).step_by(WORD) {
                let own = (inputs - from).min(WORD);
                let lanes = own.next_multiple_of(PAD);
                for tile in 0..count {
                    let (frame, corner) = corner(first + tile);
                    for lane in (0..lanes).step_by(S::LANES) {
                        let map = maps.as_ptr().add(frame * area * row_stride + from + lane);
                        input_transform::<S>(
                            shape,
                            map,
                            corner,
                            inputs_at.as_mut_ptr().add(tile * lanes + lane),
                            AT_ONCE * lanes,
                        );
                    }
                }
                for point in 0..POINTS {
                    let outer = Outer {
                        left: inputs_at.as_ptr().add(point * AT_ONCE * lanes),
                        row_stride: lanes,
                        right: grads_at.as_ptr().add(point * AT_ONCE * outputs),
                        columns: outputs,
                        count,
                        out: sums.as_mut_ptr().add((point * inputs + from) * outputs),
                    };
                    outer.rows::<S>(0..own);
                }
            }
        }
    }
}

/// `out [rows, columns] += left [count, rows]^T right [count, columns]`.
struct Outer {
    left: *const f32,
    row_stride: usize,
    right: *const f32,
    columns: usize,
    count: usize,
    out: *mut f32,
}

impl Groups for Outer {
    fn columns(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    unsafe fn group<S: Simd, const R: usize, const V: usize>(&self, first: usize, from: usize) {
        // SAFETY: as for the caller.
        unsafe {
            let out = |at: usize, vector: usize| self.out.add((first + at) * self.columns + from + vector * S::LANES);
            let mut sums = loaded::<S, R, V>(out);
            let (mut left, mut right) = (self.left.add(first), self.right.add(from));
            for _ in 0..self.count {
                let row: [S::V; V] = std::array::from_fn(|vector| S::load(right.add(vector * S::LANES)));
                for at in 0..R {
                    let factor = S::splat(*left.add(at));
                    for vector in 0..V {
                        sums[at][vector] = S::fma(factor, row[vector], sums[at][vector]);
                    }
                }
                left = left.add(self.row_stride);
                right = right.add(self.columns);
            }
            for at in 0..R {
                for vector in 0..V {
                    S::store(out(at, vector), sums[at][vector]);
                }
            }
        }
    }
}

/// One line of `A dy`.
#[inline(always)]
unsafe fn line_grad<S: Simd>(y: [S::V; OUT]) -> [S::V; IN] {
    // SAFETY: the caller has the features.
    unsafe {
        let (two, four) = (S::splat(2.0), S::splat(4.0));
        let (even, odd) = (S::add(y[0], y[2]), S::add(y[1], y[3]));
        let near = S::fma(four, y[2], y[0]);
        let far = S::mul(two, S::fma(four, y[3], y[1]));
        [y[0], S::add(even, odd), S::sub(even, odd), S::add(near, far), S::sub(near, far), y[3]]
    }
}

/// One line of `G^T m`.
#[inline(always)]
unsafe fn line_kernel_grad<S: Simd>(m: [S::V; IN]) -> [S::V; 3] {
    // SAFETY: the caller has the features.
    unsafe {
        let (quarter, sixth, fraction) = (S::splat(0.25), S::splat(-1.0 / 6.0), S::splat(1.0 / 24.0));
        let (even, odd) = (S::mul(sixth, S::add(m[1], m[2])), S::mul(sixth, S::sub(m[1], m[2])));
        let (near, far) = (S::mul(fraction, S::add(m[3], m[4])), S::mul(fraction, S::sub(m[3], m[4])));
        [
            S::fma(quarter, m[0], S::add(even, near)),
            S::fma(S::splat(2.0), far, odd),
            S::add(S::fma(S::splat(4.0), near, even), m[5]),
        ]
    }
}

/// The transform of a tile's output gradients; those outside of the output are zero.
#[inline(always)]
unsafe fn grad_transform<S: Simd>(shape: &Shape, dy: *const f32, [top, left]: [usize; 2], to: *mut f32) {
    let [height, width] = shape.size;
    // SAFETY: as for the caller.
    unsafe {
        let mut half = [[S::splat(0.0); OUT]; IN];
        for x in 0..OUT {
            let mut column = [S::splat(0.0); OUT];
            for y in 0..OUT {
                if top + y < height && left + x < width {
                    column[y] = S::load(dy.add(((top + y + 1) * (width + 2) + left + x + 1) * shape.outputs));
                }
            }
            let line = line_grad::<S>(column);
            for y in 0..IN {
                half[y][x] = line[y];
            }
        }
        for y in 0..IN {
            let line = line_grad::<S>(half[y]);
            for x in 0..IN {
                S::store(to.add((y * IN + x) * AT_ONCE * shape.outputs), line[x]);
            }
        }
    }
}

kernel! {
    /// Adds to kernels `[3 * 3, inputs, outputs]` what was summed in the transform domain, `[36, inputs, outputs]`.
    pub(super) fn finish(sums: &[f32], kernels: &mut [f32]) = finish_body
}

#[inline(always)]
unsafe fn finish_body<S: Simd>(sums: &[f32], kernels: &mut [f32]) {
    let len = kernels.len() / 9;
    assert!(
        len.is_multiple_of(PAD) && kernels.len() == 9 * len && sums.len() == POINTS * len,
        "kernels of another shape"
    );
    for at in (0..len).step_by(S::LANES) {
        // SAFETY: the shapes were just checked.
        unsafe {
            let mut half = [[S::splat(0.0); IN]; 3];
            for x in 0..IN {
                let column: [S::V; IN] = std::array::from_fn(|y| S::load(sums.as_ptr().add((y * IN + x) * len + at)));
                let line = line_kernel_grad::<S>(column);
                for y in 0..3 {
                    half[y][x] = line[y];
                }
            }
            for y in 0..3 {
                let line = line_kernel_grad::<S>(half[y]);
                for x in 0..3 {
                    let to = kernels.as_mut_ptr().add((3 * y + x) * len + at);
                    S::store(to, S::add(S::load(to), line[x]));
                }
            }
        }
    }
}
