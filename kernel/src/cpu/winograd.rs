//! Convolution of dense maps with 3x3 kernels and stride 1 by Winograd's F(4x4, 3x3): 36 products where 144 stood.
//!
//! Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016 (arXiv 1509.09308), with the points 0, 1,
//! -1, 2, -2 and infinity. A tile of 4x4 outputs is made from 6x6 inputs: both are taken to 36 points of the transform
//! domain, where a convolution is a product of matrices over channels, point by point.

#![expect(unsafe_code, reason = "vector loads and stores through pointers whose bounds are asserted at the start")]
#![expect(clippy::needless_range_loop, reason = "one index for registers and memory reads as the kernel that it is")]

use super::group::{Groups, ROWS, Target, loaded};
use super::simd::{PAD, Simd, kernel};
use crate::spikes::WORD;
pub(super) use bloctrain_memory::size::{POINTS, TILE as IN};

/// Rows and columns of a tile's outputs.
pub(super) const OUT: usize = 4;

/// Tiles whose products are made together.
pub(super) const AT_ONCE: usize = 18;

/// Products saved by tiles that fit badly are not worth the transforms.
pub(super) const WORTH: (usize, usize) = (7, 5);

/// Sizes: maps `[frames, height, width]`, each framed by one row and column of zeros, of `inputs` channels with
/// `row_stride` values from one position to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) frames: usize,
    pub(super) size: [usize; 2],
    pub(super) row_stride: usize,
    pub(super) inputs: usize,
    /// Padded output channels.
    pub(super) outputs: usize,
}

/// Input channels below which the transforms cost more than the products saved.
pub(super) const FEWEST: usize = 16;

/// Tiles of a map.
pub(super) fn tiles([height, width]: [usize; 2]) -> usize {
    height.div_ceil(OUT) * width.div_ceil(OUT)
}

/// Whether maps of this size gain from it.
pub(super) fn pays(size: [usize; 2]) -> bool {
    tiles(size) * POINTS * WORTH.0 < size[0] * size[1] * 9 * WORTH.1
}

/// Values of scratch that [`add`] needs.
pub(super) fn scratch(shape: &Shape) -> usize {
    POINTS * AT_ONCE * (WORD + shape.outputs)
}

kernel! {
    /// Transforms kernels `[3 * 3, inputs, outputs]` to `[36, inputs, outputs]`. `order` is which kernel is at each
    /// position of the 3x3 window.
    pub(super) fn transform(kernels: &[f32], order: [usize; 9], out: &mut [f32]) = transform_body
}

#[inline(always)]
unsafe fn transform_body<S: Simd>(kernels: &[f32], order: [usize; 9], out: &mut [f32]) {
    let len = kernels.len() / 9;
    assert!(
        len.is_multiple_of(PAD) && kernels.len() == 9 * len && out.len() == POINTS * len,
        "kernels of another shape"
    );
    assert!(order.iter().all(|&kernel| kernel < 9), "no such kernel");
    for at in (0..len).step_by(S::LANES) {
        // SAFETY: the shapes were just checked.
        unsafe {
            let mut columns = [[S::splat(0.0); IN]; 3];
            for x in 0..3 {
                let mut window = [S::splat(0.0); 3];
                for y in 0..3 {
                    window[y] = S::load(kernels.as_ptr().add(order[3 * y + x] * len + at));
                }
                columns[x] = line_kernel::<S>(window);
            }
            for y in 0..IN {
                let row = line_kernel::<S>([columns[0][y], columns[1][y], columns[2][y]]);
                for x in 0..IN {
                    S::store(out.as_mut_ptr().add((y * IN + x) * len + at), row[x]);
                }
            }
        }
    }
}

kernel! {
    /// Adds to `target [frames, height, width]` the convolution of framed maps with transformed kernels.
    pub(super) fn add(shape: &Shape, maps: &[f32], kernels: &[f32], target: Target<'_>, scratch: &mut [f32]) = add_body
}

#[inline(always)]
unsafe fn add_body<S: Simd>(shape: &Shape, maps: &[f32], kernels: &[f32], target: Target<'_>, scratch: &mut [f32]) {
    let Shape { frames, size: [height, width], row_stride, inputs, outputs } = *shape;
    let map_len = (height + 2) * (width + 2) * row_stride;
    assert!(maps.len() == frames * map_len && inputs.next_multiple_of(PAD) <= row_stride, "maps of another shape");
    assert!(kernels.len() == POINTS * inputs * outputs && outputs.is_multiple_of(PAD), "kernels of another shape");
    let last = target.start + (frames * height * width - 1) * target.row_stride + outputs;
    assert!(last <= target.values.len(), "a target of another shape");
    assert!(scratch.len() >= self::scratch(shape), "scratch of another shape");
    let (transformed, products) = scratch.split_at_mut(POINTS * AT_ONCE * WORD);
    let columns = width.div_ceil(OUT);
    let per_frame = height.div_ceil(OUT) * columns;
    let corner = |tile: usize| (tile / per_frame, [tile % per_frame / columns * OUT, tile % columns * OUT]);
    for first in (0..frames * per_frame).step_by(AT_ONCE) {
        let count = (frames * per_frame - first).min(AT_ONCE);
        for from in (0..inputs).step_by(WORD) {
            let own = (inputs - from).min(WORD);
            let lanes = own.next_multiple_of(PAD);
            // SAFETY: the shapes were just checked; a tile's values outside of the framed map are not touched.
            unsafe {
                for tile in 0..count {
                    let (frame, corner) = corner(first + tile);
                    for lane in (0..lanes).step_by(S::LANES) {
                        let map = maps.as_ptr().add(frame * map_len + from + lane);
                        input_transform::<S>(
                            shape,
                            map,
                            corner,
                            transformed.as_mut_ptr().add(tile * lanes + lane),
                            AT_ONCE * lanes,
                        );
                    }
                }
                for point in 0..POINTS {
                    let product = Product {
                        left: transformed.as_ptr().add(point * AT_ONCE * lanes),
                        row_stride: lanes,
                        inner: own,
                        right: kernels.as_ptr().add((point * inputs + from) * outputs),
                        out: products.as_mut_ptr().add(point * AT_ONCE * outputs),
                        columns: outputs,
                        more: from > 0,
                    };
                    product.all::<S>(count);
                }
            }
        }
        for tile in 0..count {
            let (frame, corner) = corner(first + tile);
            for lane in (0..outputs).step_by(S::LANES) {
                // SAFETY: as above.
                unsafe {
                    let from = products.as_ptr().add(tile * outputs + lane);
                    let to = target
                        .values
                        .as_mut_ptr()
                        .add(target.start + frame * height * width * target.row_stride + lane);
                    output_transform::<S>(shape, from, AT_ONCE * outputs, corner, to, target.row_stride);
                }
            }
        }
    }
}

/// One line of `G g`.
#[inline(always)]
unsafe fn line_kernel<S: Simd>(g: [S::V; 3]) -> [S::V; IN] {
    // SAFETY: the caller has the features.
    unsafe {
        let (sixth, fraction) = (S::splat(-1.0 / 6.0), S::splat(1.0 / 24.0));
        let even = S::add(g[0], g[2]);
        let near = S::fma(S::splat(4.0), g[2], g[0]);
        let far = S::add(g[1], g[1]);
        [
            S::mul(S::splat(0.25), g[0]),
            S::mul(sixth, S::add(even, g[1])),
            S::mul(sixth, S::sub(even, g[1])),
            S::mul(fraction, S::add(near, far)),
            S::mul(fraction, S::sub(near, far)),
            g[2],
        ]
    }
}

/// One line of `B^T d`.
#[inline(always)]
unsafe fn line_in<S: Simd>(d: [S::V; IN]) -> [S::V; IN] {
    // SAFETY: the caller has the features.
    unsafe {
        let (two, four, five) = (S::splat(2.0), S::splat(4.0), S::splat(-5.0));
        let minus = S::splat(-4.0);
        // 4 d0 - 5 d2 + d4, and its neighbour from d1, d3, d5.
        let first = S::fma(four, d[0], S::fma(five, d[2], d[4]));
        let last = S::fma(four, d[1], S::fma(five, d[3], d[5]));
        let (even, odd) = (S::fma(minus, d[2], d[4]), S::fma(minus, d[1], d[3]));
        let (near, far) = (S::sub(d[4], d[2]), S::mul(two, S::sub(d[3], d[1])));
        [first, S::add(even, odd), S::sub(even, odd), S::add(near, far), S::sub(near, far), last]
    }
}

/// One line of `A^T m`.
#[inline(always)]
unsafe fn line_out<S: Simd>(m: [S::V; IN]) -> [S::V; OUT] {
    // SAFETY: the caller has the features.
    unsafe {
        let (two, four, eight) = (S::splat(2.0), S::splat(4.0), S::splat(8.0));
        let (even, odd) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (near, far) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(m[0], S::add(even, near)),
            S::fma(two, far, odd),
            S::fma(four, near, even),
            S::add(S::fma(eight, far, odd), m[5]),
        ]
    }
}

/// The input transform of a tile.
#[inline(always)]
pub(super) unsafe fn input_transform<S: Simd>(
    shape: &Shape,
    map: *const f32,
    [top, left]: [usize; 2],
    to: *mut f32,
    point_stride: usize,
) {
    let framed = [shape.size[0] + 2, shape.size[1] + 2];
    // SAFETY: as for the caller.
    unsafe {
        let mut half = [[S::splat(0.0); IN]; IN];
        for x in 0..IN {
            let mut column = [S::splat(0.0); IN];
            for y in 0..IN {
                if top + y < framed[0] && left + x < framed[1] {
                    column[y] = S::load(map.add(((top + y) * framed[1] + left + x) * shape.row_stride));
                }
            }
            let line = line_in::<S>(column);
            for y in 0..IN {
                half[y][x] = line[y];
            }
        }
        for y in 0..IN {
            let line = line_in::<S>(half[y]);
            for x in 0..IN {
                S::store(to.add((y * IN + x) * point_stride), line[x]);
            }
        }
    }
}

/// Adds a tile's outputs, by the output transform.
#[inline(always)]
unsafe fn output_transform<S: Simd>(
    shape: &Shape,
    from: *const f32,
    point_stride: usize,
    [top, left]: [usize; 2],
    to: *mut f32,
    row_stride: usize,
) {
    // SAFETY: as for the caller.
    unsafe {
        let mut half = [[S::splat(0.0); IN]; OUT];
        for x in 0..IN {
            let mut column = [S::splat(0.0); IN];
            for y in 0..IN {
                column[y] = S::load(from.add((y * IN + x) * point_stride));
            }
            let line = line_out::<S>(column);
            for y in 0..OUT {
                half[y][x] = line[y];
            }
        }
        for y in 0..OUT.min(shape.size[0] - top) {
            let line = line_out::<S>(half[y]);
            for x in 0..OUT.min(shape.size[1] - left) {
                let to = to.add(((top + y) * shape.size[1] + left + x) * row_stride);
                S::store(to, S::add(S::load(to), line[x]));
            }
        }
    }
}

/// `out [rows, columns] = left [rows, inner] * right [inner, columns]`, or that more than it was.
pub(super) struct Product {
    pub(super) left: *const f32,
    pub(super) row_stride: usize,
    pub(super) inner: usize,
    pub(super) right: *const f32,
    pub(super) out: *mut f32,
    pub(super) columns: usize,
    pub(super) more: bool,
}

impl Product {
    /// All columns of `count` rows.
    ///
    /// # Safety
    /// As for [`Groups::group`].
    #[inline(always)]
    pub(super) unsafe fn all<S: Simd>(&self, count: usize) {
        // Narrow outputs leave registers for more rows, which hides how long an addition takes.
        let mut begin = 0;
        while self.columns == PAD && S::LANES == PAD && begin + 2 * ROWS <= count {
            // SAFETY: as for the caller.
            unsafe { self.group::<S, { 2 * ROWS }, 1>(begin, 0) };
            begin += 2 * ROWS;
        }
        // SAFETY: as for the caller.
        unsafe { self.rows::<S>(begin..count) };
    }
}

impl Groups for Product {
    fn columns(&self) -> usize {
        self.columns
    }

    #[inline(always)]
    unsafe fn group<S: Simd, const R: usize, const V: usize>(&self, first: usize, from: usize) {
        // SAFETY: as for the caller.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; R];
            let out = |at: usize, vector: usize| self.out.add((first + at) * self.columns + from + vector * S::LANES);
            if self.more {
                sums = loaded::<S, R, V>(out);
            }
            let rows: [*const f32; R] = std::array::from_fn(|row| self.left.add((first + row) * self.row_stride));
            let mut right = self.right.add(from);
            for inner in 0..self.inner {
                let row: [S::V; V] = std::array::from_fn(|vector| S::load(right.add(vector * S::LANES)));
                for at in 0..R {
                    let factor = S::splat(*rows[at].add(inner));
                    for vector in 0..V {
                        sums[at][vector] = S::fma(factor, row[vector], sums[at][vector]);
                    }
                }
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
