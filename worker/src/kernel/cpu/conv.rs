//! Convolution as matrix products over a few frames at a time (im2col), never over the whole batch at once.

use super::super::ConvRule;
use rayon::prelude::*;

/// Output positions that one matrix product should cover at least.
const POSITIONS: usize = 512;

/// Partial sums of the weight gradient. Fixed, so that the order of additions is.
const PARTS: usize = 8;

/// Sizes of a convolution and its cut into groups of frames.
pub(super) struct Plan {
    frames: usize,
    channels: usize,
    height: usize,
    width: usize,
    outputs: usize,
    kernel: usize,
    rule: ConvRule,
    out_height: usize,
    out_width: usize,
    group: usize,
}

impl Plan {
    pub(super) fn new(
        [frames, channels, height, width]: [usize; 4],
        [outputs, _, kernel, _]: [usize; 4],
        rule: ConvRule,
    ) -> Self {
        let positions = |size: usize| (size + 2 * rule.padding - kernel) / rule.stride + 1;
        let (out_height, out_width) = (positions(height), positions(width));
        let group = POSITIONS.div_ceil((out_height * out_width).max(1)).clamp(1, frames.max(1));
        Self { frames, channels, height, width, outputs, kernel, rule, out_height, out_width, group }
    }

    pub(super) fn output_shape(&self) -> [usize; 4] {
        [self.frames, self.outputs, self.out_height, self.out_width]
    }

    /// Values of one input frame.
    fn input(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Output positions of one frame.
    fn area(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Values of one output frame.
    fn output(&self) -> usize {
        self.outputs * self.area()
    }

    /// Inputs of one output: rows of the column matrix.
    fn depth(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    /// Output columns `(first, last + 1)` whose input column `x * stride + k - padding` is inside the image.
    fn inside(&self, k: usize, size: usize, positions: usize) -> (usize, usize) {
        let (stride, padding) = (self.rule.stride, self.rule.padding);
        let first = padding.saturating_sub(k).div_ceil(stride);
        let last = if size + padding > k { (size + padding - k - 1) / stride + 1 } else { 0 };
        (first.min(positions), last.min(positions).max(first.min(positions)))
    }

    /// Calls `row(depth, out_y, in_y, first, last)` for every run of output positions of a kernel element, with the
    /// columns `first..last` inside the image.
    fn rows(&self, mut row: impl FnMut(usize, usize, usize, usize, usize, usize)) {
        for channel in 0..self.channels {
            for ky in 0..self.kernel {
                let (first_y, last_y) = self.inside(ky, self.height, self.out_height);
                for kx in 0..self.kernel {
                    let (first, last) = self.inside(kx, self.width, self.out_width);
                    let depth = (channel * self.kernel + ky) * self.kernel + kx;
                    for y in first_y..last_y {
                        let in_y = y * self.rule.stride + ky - self.rule.padding;
                        row(depth, y, (channel * self.height + in_y) * self.width, kx, first, last);
                    }
                }
            }
        }
    }

    /// Column matrix `[depth, frames * area]` of some frames. `columns` must be zero where the padding is; it stays so.
    fn gather(&self, x: &[f32], frames: usize, columns: &mut [f32]) {
        let total = frames * self.area();
        let stride = self.rule.stride;
        for frame in 0..frames {
            let x = &x[frame * self.input()..][..self.input()];
            self.rows(|depth, y, start, kx, first, last| {
                if first == last {
                    return;
                }
                let to = &mut columns[depth * total + frame * self.area() + y * self.out_width..][..self.out_width][first..last];
                let from = start + first * stride + kx - self.rule.padding;
                if stride == 1 {
                    to.copy_from_slice(&x[from..from + to.len()]);
                } else {
                    to.iter_mut().enumerate().for_each(|(index, value)| *value = x[from + index * stride]);
                }
            });
        }
    }

    /// Adds a column matrix back to the frames that it came from.
    fn scatter(&self, columns: &[f32], frames: usize, x: &mut [f32]) {
        let total = frames * self.area();
        let stride = self.rule.stride;
        for frame in 0..frames {
            let x = &mut x[frame * self.input()..][..self.input()];
            self.rows(|depth, y, start, kx, first, last| {
                if first == last {
                    return;
                }
                let from = &columns[depth * total + frame * self.area() + y * self.out_width..][..self.out_width][first..last];
                let to = start + first * stride + kx - self.rule.padding;
                if stride == 1 {
                    x[to..to + from.len()].iter_mut().zip(from).for_each(|(sum, value)| *sum += value);
                } else {
                    from.iter().enumerate().for_each(|(index, value)| x[to + index * stride] += value);
                }
            });
        }
    }

    /// `[frames, O, area]` to `[O, frames * area]`.
    fn by_channel(&self, y: &[f32], frames: usize, out: &mut [f32]) {
        let area = self.area();
        for frame in 0..frames {
            for channel in 0..self.outputs {
                let from = &y[(frame * self.outputs + channel) * area..][..area];
                out[(channel * frames + frame) * area..][..area].copy_from_slice(from);
            }
        }
    }

    /// `[O, frames * area]` to `[frames, O, area]`.
    fn by_frame(&self, y: &[f32], frames: usize, out: &mut [f32]) {
        let area = self.area();
        for frame in 0..frames {
            for channel in 0..self.outputs {
                let from = &y[(channel * frames + frame) * area..][..area];
                out[(frame * self.outputs + channel) * area..][..area].copy_from_slice(from);
            }
        }
    }
}

/// A matrix in memory: values, step between columns, step between rows.
struct Matrix<'a>(&'a [f32], usize, usize);

/// `out [m, n] (+)= a [m, k] * b [k, n]`, `out` row-major.
#[expect(unsafe_code, reason = "the gemm crate takes pointers")]
fn multiply([m, n, k]: [usize; 3], out: &mut [f32], add: bool, a: &Matrix<'_>, b: &Matrix<'_>) {
    if m == 0 || n == 0 || k == 0 {
        if !add {
            out.fill(0.0);
        }
        return;
    }
    let last = |matrix: &Matrix<'_>, rows: usize, columns: usize| (rows - 1) * matrix.2 + (columns - 1) * matrix.1;
    assert!(out.len() >= m * n && last(a, m, k) < a.0.len() && last(b, k, n) < b.0.len(), "matrix outside its slice");
    // SAFETY: the assertion above bounds every element that the product reads or writes; `out` is borrowed mutably and
    // overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.0.as_ptr(),
            a.1 as isize,
            a.2 as isize,
            b.0.as_ptr(),
            b.1 as isize,
            b.2 as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Output `[N, O, H', W']`.
pub(super) fn forward(plan: &Plan, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0_f32; plan.frames * plan.output()];
    let depth = plan.depth();
    y.par_chunks_mut((plan.group * plan.output()).max(1)).enumerate().for_each_init(
        || (vec![0.0_f32; depth * plan.group * plan.area()], vec![0.0_f32; plan.group * plan.output()]),
        |(columns, product), (group, y)| {
            let frames = y.len() / plan.output();
            if frames < plan.group {
                columns.fill(0.0); // another width of the matrix: its padding is elsewhere
            }
            plan.gather(&x[group * plan.group * plan.input()..], frames, columns);
            let total = frames * plan.area();
            let (weight, columns_matrix) = (Matrix(weight, 1, depth), Matrix(columns, 1, total));
            if frames == 1 {
                multiply([plan.outputs, total, depth], y, false, &weight, &columns_matrix);
            } else {
                multiply([plan.outputs, total, depth], product, false, &weight, &columns_matrix);
                plan.by_frame(product, frames, y);
            }
            if frames < plan.group {
                columns.fill(0.0);
            }
        },
    );
    y
}

/// Gradient for the input `[N, C, H, W]`.
pub(super) fn input_grad(plan: &Plan, weight: &[f32], grad: &[f32]) -> Vec<f32> {
    let mut x_grad = vec![0.0_f32; plan.frames * plan.input()];
    let depth = plan.depth();
    x_grad.par_chunks_mut((plan.group * plan.input()).max(1)).enumerate().for_each_init(
        || (vec![0.0_f32; depth * plan.group * plan.area()], vec![0.0_f32; plan.group * plan.output()]),
        |(columns, ordered), (group, x_grad)| {
            let frames = x_grad.len() / plan.input();
            let grad = &grad[group * plan.group * plan.output()..][..frames * plan.output()];
            let total = frames * plan.area();
            plan.by_channel(grad, frames, ordered);
            multiply([depth, total, plan.outputs], columns, false, &Matrix(weight, depth, 1), &Matrix(ordered, 1, total));
            plan.scatter(columns, frames, x_grad);
        },
    );
    x_grad
}

/// Gradient for the weights `[O, C, k, k]`.
pub(super) fn weight_grad(plan: &Plan, x: &[f32], grad: &[f32]) -> Vec<f32> {
    let depth = plan.depth();
    let groups = plan.frames.div_ceil(plan.group);
    let per_part = groups.div_ceil(PARTS).max(1);
    let parts: Vec<Vec<f32>> = (0..groups.div_ceil(per_part))
        .into_par_iter()
        .map(|part| {
            let mut sum = vec![0.0_f32; plan.outputs * depth];
            let mut columns = vec![0.0_f32; depth * plan.group * plan.area()];
            let mut ordered = vec![0.0_f32; plan.group * plan.output()];
            for group in part * per_part..((part + 1) * per_part).min(groups) {
                let first = group * plan.group;
                let frames = plan.group.min(plan.frames - first);
                if frames < plan.group {
                    columns.fill(0.0);
                }
                let total = frames * plan.area();
                plan.gather(&x[first * plan.input()..], frames, &mut columns);
                plan.by_channel(&grad[first * plan.output()..], frames, &mut ordered);
                multiply([plan.outputs, depth, total], &mut sum, true, &Matrix(&ordered, 1, total), &Matrix(&columns, total, 1));
            }
            sum
        })
        .collect();
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_else(|| vec![0.0; plan.outputs * depth]);
    for part in parts {
        sum.iter_mut().zip(&part).for_each(|(sum, value)| *sum += value);
    }
    sum
}
