//! Input gradients of 3x3 kernels with stride 2: rows and columns of the input alternate between one tap and two, and
//! where there are two Winograd's F(4, 2) makes them: 81 products where 144 stood.
//!
//! An input at row `2 i` meets the kernel's middle row at output `i`, one at row `2 i + 1` its last row at output `i`
//! and its first at `i + 1`; so with columns. A tile of 4x4 outputs (5x5 with its neighbours) gives 8x8 inputs in four
//! phases: both odd at 25 points, rows or columns odd at 5 points of 4 lines each, none odd as 16 plain products. The
//! points are 0, 1, -1, 2 and infinity; see [`winograd`](super::winograd).

#![expect(unsafe_code, reason = "vector loads and stores through pointers whose bounds are asserted at the start")]
#![expect(clippy::needless_range_loop, reason = "one index for registers and memory reads as the kernel that it is")]

use super::group::Target;
use super::simd::{PAD, Simd, kernel};
use super::winograd::{OUT, Product, WORTH, tiles};
use crate::spikes::WORD;

/// Rows and columns of a tile of outputs.
const SIDE: usize = OUT;

/// The same with the neighbours that its inputs also meet, and points of a line.
const POINTS: usize = SIDE + 1;

/// Products of a tile.
const PRODUCTS: usize = (POINTS + SIDE) * (POINTS + SIDE);

/// Kernels that [`transform`] makes.
pub(super) const KERNELS: usize = (POINTS + 1) * (POINTS + 1);

/// Tiles whose products are made together.
pub(super) const AT_ONCE: usize = 8;

/// Whether maps of outputs of this size, whose inputs meet `taps` taps in all, gain from it.
pub(super) fn pays(size: [usize; 2], taps: usize) -> bool {
    tiles(size) * PRODUCTS * WORTH.0 < taps * WORTH.1
}

/// Sizes: gradients of outputs `[frames, framed, row_stride]` whose first row and column are at `before`, and of inputs
/// `[frames, input]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) frames: usize,
    pub(super) size: [usize; 2],
    pub(super) framed: [usize; 2],
    pub(super) before: [usize; 2],
    pub(super) row_stride: usize,
    pub(super) input: [usize; 2],
    /// Output channels, at most [`WORD`].
    pub(super) outputs: usize,
    /// Padded input channels.
    pub(super) inputs: usize,
}

/// Values of scratch that [`add`] needs.
pub(super) fn scratch(shape: &Shape) -> usize {
    PRODUCTS * AT_ONCE * (WORD + shape.inputs)
}

/// Where the four phases' kernels and products begin; each of the kernels in a phase has as many rows of a tile.
const BOTH: usize = 0;
const ROWS_ODD: usize = POINTS * POINTS;
const COLUMNS_ODD: usize = ROWS_ODD + POINTS * SIDE;
const NONE_ODD: usize = COLUMNS_ODD + POINTS * SIDE;

/// First product and rows of a tile of each kernel.
fn products(kernel: usize) -> (usize, usize) {
    match kernel.checked_sub(POINTS * POINTS) {
        None => (BOTH + kernel, 1),
        Some(point) if point < POINTS => (ROWS_ODD + point * SIDE, SIDE),
        Some(point) if point < 2 * POINTS => (COLUMNS_ODD + (point - POINTS) * SIDE, SIDE),
        Some(_) => (NONE_ODD, SIDE * SIDE),
    }
}

kernel! {
    /// Transforms kernels `[3 * 3, outputs, inputs]` to `[36, outputs, inputs]`.
    pub(super) fn transform(kernels: &[f32], out: &mut [f32]) = transform_body
}

#[inline(always)]
unsafe fn transform_body<S: Simd>(kernels: &[f32], out: &mut [f32]) {
    let len = kernels.len() / 9;
    assert!(
        len.is_multiple_of(PAD) && kernels.len() == 9 * len && out.len() == KERNELS * len,
        "kernels of another shape"
    );
    for at in (0..len).step_by(S::LANES) {
        // SAFETY: the shapes were just checked.
        unsafe {
            let tap = |y: usize, x: usize| S::load(kernels.as_ptr().add((3 * y + x) * len + at));
            let mut store = |kernel: usize, value: S::V| S::store(out.as_mut_ptr().add(kernel * len + at), value);
            // Rows of the kernel that odd rows meet, in their order.
            let [first, last] = [0, 2].map(|x| line_kernel::<S>([tap(2, x), tap(0, x)]));
            let middle = line_kernel::<S>([tap(2, 1), tap(0, 1)]);
            for point in 0..POINTS {
                let line = line_kernel::<S>([last[point], first[point]]);
                for x in 0..POINTS {
                    store(point * POINTS + x, line[x]);
                }
                store(POINTS * POINTS + point, middle[point]);
            }
            let line = line_kernel::<S>([tap(1, 2), tap(1, 0)]);
            for x in 0..POINTS {
                store(POINTS * POINTS + POINTS + x, line[x]);
            }
            store(KERNELS - 1, tap(1, 1));
        }
    }
}

kernel! {
    /// Adds to `target [frames, input]` what framed gradients of outputs give through transformed kernels.
    pub(super) fn add(shape: &Shape, maps: &[f32], kernels: &[f32], target: Target<'_>, scratch: &mut [f32]) = add_body
}

#[inline(always)]
unsafe fn add_body<S: Simd>(shape: &Shape, maps: &[f32], kernels: &[f32], target: Target<'_>, scratch: &mut [f32]) {
    let Shape { frames, size: [height, width], framed, before, row_stride, input, outputs, inputs } = *shape;
    let map_len = framed[0] * framed[1] * row_stride;
    assert!(maps.len() == frames * map_len && before[0] < framed[0] && before[1] < framed[1], "maps of another shape");
    assert!(outputs <= WORD && outputs.next_multiple_of(PAD) <= row_stride, "maps of another width");
    assert!(kernels.len() == KERNELS * outputs * inputs && inputs.is_multiple_of(PAD), "kernels of another shape");
    let target_len = input[0] * input[1] * target.row_stride;
    assert!(
        target.start + frames * target_len - target.row_stride + inputs <= target.values.len(),
        "a target of another shape"
    );
    assert!(scratch.len() >= self::scratch(shape), "scratch of another shape");
    let (transformed, products_at) = scratch.split_at_mut(PRODUCTS * AT_ONCE * WORD);
    let lanes = outputs.next_multiple_of(PAD);
    let (columns, per_frame) = (width.div_ceil(SIDE), tiles([height, width]));
    let corner = |tile: usize| (tile / per_frame, [tile % per_frame / columns * SIDE, tile % columns * SIDE]);
    for first in (0..frames * per_frame).step_by(AT_ONCE) {
        let count = (frames * per_frame - first).min(AT_ONCE);
        // SAFETY: the shapes were just checked; a tile's values outside of the maps are not touched.
        unsafe {
            for tile in 0..count {
                let (frame, corner) = corner(first + tile);
                for lane in (0..lanes).step_by(S::LANES) {
                    let map = maps.as_ptr().add(frame * map_len + lane);
                    input_transform::<S>(shape, map, corner, transformed.as_mut_ptr().add(lane), (tile, lanes));
                }
            }
            for kernel in 0..KERNELS {
                let (at, rows) = products(kernel);
                let product = Product {
                    left: transformed.as_ptr().add(at * AT_ONCE * lanes),
                    row_stride: lanes,
                    inner: outputs,
                    right: kernels.as_ptr().add(kernel * outputs * inputs),
                    out: products_at.as_mut_ptr().add(at * AT_ONCE * inputs),
                    columns: inputs,
                    more: false,
                };
                product.all::<S>(count * rows);
            }
            for tile in 0..count {
                let (frame, corner) = corner(first + tile);
                for lane in (0..inputs).step_by(S::LANES) {
                    let to = target.values.as_mut_ptr().add(target.start + frame * target_len + lane);
                    output_transform::<S>(shape, products_at.as_ptr().add(lane), tile, corner, (to, target.row_stride));
                }
            }
        }
    }
}

/// Where a row of a tile is, for a kernel whose first product and rows are given.
const fn row_of(first: usize, rows: usize, tile: usize, row: usize) -> usize {
    first * AT_ONCE + tile * rows + row
}

/// One line of `G g`.
#[inline(always)]
unsafe fn line_kernel<S: Simd>(g: [S::V; 2]) -> [S::V; POINTS] {
    // SAFETY: the caller has the features.
    unsafe {
        let (half, sixth) = (S::splat(0.5), S::splat(1.0 / 6.0));
        let twice = S::add(g[1], g[1]);
        [
            S::mul(half, g[0]),
            S::mul(S::splat(-0.5), S::add(g[0], g[1])),
            S::mul(sixth, S::sub(g[1], g[0])),
            S::mul(sixth, S::add(g[0], twice)),
            g[1],
        ]
    }
}

/// One line of `B^T d`.
#[inline(always)]
unsafe fn line_in<S: Simd>(d: [S::V; POINTS]) -> [S::V; POINTS] {
    // SAFETY: the caller has the features.
    unsafe {
        let two = S::splat(2.0);
        let far = S::sub(d[3], d[1]);
        [
            // 2 d0 - d1 - 2 d2 + d3, and so on.
            S::fma(two, S::sub(d[0], d[2]), far),
            S::sub(S::sub(d[3], d[2]), S::add(d[1], d[1])),
            S::fma(S::splat(-3.0), d[2], S::fma(two, d[1], d[3])),
            far,
            S::sub(S::sub(d[4], d[2]), S::add(far, far)),
        ]
    }
}

/// One line of `A^T m`.
#[inline(always)]
unsafe fn line_out<S: Simd>(m: [S::V; POINTS]) -> [S::V; SIDE] {
    // SAFETY: the caller has the features.
    unsafe {
        let (even, odd) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (two, four, eight) = (S::splat(2.0), S::splat(4.0), S::splat(8.0));
        [
            S::add(S::add(m[0], even), m[3]),
            S::fma(two, m[3], odd),
            S::fma(four, m[3], even),
            S::add(S::fma(eight, m[3], odd), m[4]),
        ]
    }
}

/// The input transform of a tile of outputs, for all phases.
#[inline(always)]
unsafe fn input_transform<S: Simd>(
    shape: &Shape,
    map: *const f32,
    [top, left]: [usize; 2],
    to: *mut f32,
    (tile, lanes): (usize, usize),
) {
    let (top, left) = (top + shape.before[0], left + shape.before[1]);
    // SAFETY: as for the caller.
    unsafe {
        let store = |first: usize, rows: usize, row: usize, value: S::V| {
            S::store(to.add(row_of(first, rows, tile, row) * lanes), value);
        };
        let mut d = [[S::splat(0.0); POINTS]; POINTS];
        for y in 0..POINTS {
            for x in 0..POINTS {
                if top + y < shape.framed[0] && left + x < shape.framed[1] {
                    d[y][x] = S::load(map.add(((top + y) * shape.framed[1] + left + x) * shape.row_stride));
                }
            }
        }
        for y in 0..SIDE {
            let line = line_in::<S>(d[y]);
            for x in 0..POINTS {
                store(COLUMNS_ODD + x * SIDE, SIDE, y, line[x]);
            }
            for x in 0..SIDE {
                store(NONE_ODD, SIDE * SIDE, y * SIDE + x, d[y][x]);
            }
        }
        let mut half = [[S::splat(0.0); POINTS]; POINTS];
        for x in 0..POINTS {
            let line = line_in::<S>([d[0][x], d[1][x], d[2][x], d[3][x], d[4][x]]);
            for y in 0..POINTS {
                half[y][x] = line[y];
            }
        }
        for y in 0..POINTS {
            for x in 0..SIDE {
                store(ROWS_ODD + y * SIDE, SIDE, x, half[y][x]);
            }
            let line = line_in::<S>(half[y]);
            for x in 0..POINTS {
                store(BOTH + y * POINTS + x, 1, 0, line[x]);
            }
        }
    }
}

/// Adds a tile's inputs, by the output transform of all phases.
#[inline(always)]
unsafe fn output_transform<S: Simd>(
    shape: &Shape,
    from: *const f32,
    tile: usize,
    [top, left]: [usize; 2],
    (to, row_stride): (*mut f32, usize),
) {
    let [height, width] = shape.input;
    // SAFETY: as for the caller.
    unsafe {
        let load =
            |first: usize, rows: usize, row: usize| S::load(from.add(row_of(first, rows, tile, row) * shape.inputs));
        let add = |y: usize, x: usize, value: S::V| {
            if y < height && x < width {
                let to = to.add((y * width + x) * row_stride);
                S::store(to, S::add(S::load(to), value));
            }
        };
        let mut half = [[S::splat(0.0); POINTS]; SIDE];
        for x in 0..POINTS {
            let line = line_out::<S>(std::array::from_fn(|y| load(BOTH + y * POINTS + x, 1, 0)));
            for y in 0..SIDE {
                half[y][x] = line[y];
            }
        }
        for y in 0..SIDE {
            let both = line_out::<S>(half[y]);
            let columns = line_out::<S>(std::array::from_fn(|x| load(COLUMNS_ODD + x * SIDE, SIDE, y)));
            for x in 0..SIDE {
                add(2 * (top + y) + 1, 2 * (left + x) + 1, both[x]);
                add(2 * (top + y), 2 * (left + x) + 1, columns[x]);
                add(2 * (top + y), 2 * (left + x), load(NONE_ODD, SIDE * SIDE, y * SIDE + x));
            }
        }
        for x in 0..SIDE {
            let rows = line_out::<S>(std::array::from_fn(|y| load(ROWS_ODD + y * SIDE, SIDE, x)));
            for y in 0..SIDE {
                add(2 * (top + y) + 1, 2 * (left + x), rows[y]);
            }
        }
    }
}
