//! Products of fully connected layers.
//!
//! All three are `out[m, n] = sum over k of a(m, k) b(k, n)`: n goes through the lanes, in panels of `b` that are put
//! in order first, k through fixed blocks whose panels stay in the cache. Rows are worked on in parallel where they are
//! worth a second thread.

#![expect(unsafe_code, reason = "vector loads and stores through pointers whose bounds are asserted at the start")]

use super::buffer::Buffer;
use super::group::{Groups, ROWS};
use super::in_pool;
use super::simd::{PAD, Simd, kernel};
use rayon::prelude::*;
use std::ops::Range;

/// Columns of a panel.
const PANEL: usize = 4 * PAD;

/// Terms of a sum that are added before the next panel comes: a block of a panel takes 128 KiB.
const BLOCK: usize = 512;

/// Rows of a task: whole groups.
const TASK: usize = 4 * ROWS;

/// Multiplications below which waking another thread costs more than it gains.
const WORTH_A_THREAD: usize = 1 << 21;

/// A matrix whose rows and columns may lie in either order.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    /// Strides of rows and of columns; one of them is 1.
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    fn new(values: &'a [f32], columns: usize) -> Self {
        Self { values, strides: [columns, 1] }
    }

    fn transposed(self) -> Self {
        let [rows, columns] = self.strides;
        Self { strides: [columns, rows], ..self }
    }
}

/// `x [N, inputs]` times the transposed `weight [outputs, inputs]`: `[N, outputs]`.
pub fn forward(x: &[f32], weight: &[f32], inputs: usize) -> Vec<f32> {
    let (samples, outputs) = (x.len() / inputs, weight.len() / inputs);
    let (x, weight) = (Matrix::new(x, inputs), Matrix::new(weight, inputs));
    if outputs <= samples {
        return product(x, weight.transposed(), [samples, inputs, outputs]);
    }
    // The smaller matrix is put in order.
    let product = product(weight, x.transposed(), [outputs, inputs, samples]);
    let mut transposed = vec![0.0; samples * outputs];
    for (output, row) in product.chunks(samples).enumerate() {
        transposed[output..].iter_mut().step_by(outputs).zip(row).for_each(|(to, value)| *to = *value);
    }
    transposed
}

/// Gradient `[outputs, inputs]` of the weights from `x [N, inputs]` and `grad [N, outputs]`.
pub fn weight_grad(x: &[f32], grad: &[f32], samples: usize) -> Vec<f32> {
    let (inputs, outputs) = (x.len() / samples, grad.len() / samples);
    product(Matrix::new(grad, outputs).transposed(), Matrix::new(x, inputs), [outputs, samples, inputs])
}

/// Gradient `[N, inputs]` of the input from `grad [N, outputs]` and `weight [outputs, inputs]`.
pub fn input_grad(grad: &[f32], weight: &[f32], outputs: usize) -> Vec<f32> {
    let (samples, inputs) = (grad.len() / outputs, weight.len() / outputs);
    product(Matrix::new(grad, outputs), Matrix::new(weight, inputs), [samples, outputs, inputs])
}

/// Gradient `[outputs]` of a bias from `grad [N, outputs]`: sums over the samples, in their order.
pub fn bias_grad(grad: &[f32], outputs: usize) -> Vec<f32> {
    let mut sums = vec![0.0; outputs];
    for sample in grad.chunks(outputs) {
        sums.iter_mut().zip(sample).for_each(|(sum, value)| *sum += value);
    }
    sums
}

/// The product of two matrices `[m, k]` and `[k, n]`.
fn product(a: Matrix<'_>, b: Matrix<'_>, sizes: [usize; 3]) -> Vec<f32> {
    let [m, k, n] = sizes;
    let mut out = vec![0.0; m * n];
    if m * k * n < WORTH_A_THREAD {
        let panels = panels(b, k, n, usize::MAX);
        rows_of(a, &panels, [k, n], 0, &mut out);
    } else {
        in_pool(|| {
            let panels = panels(b, k, n, 1);
            out.par_chunks_mut(TASK * n)
                .enumerate()
                .for_each(|(task, out)| rows_of(a, &panels, [k, n], task * TASK, out));
        });
    }
    out
}

/// `[panels, k, PANEL]`, with zeros where there are no columns; so many panels at a time.
fn panels(b: Matrix<'_>, k: usize, n: usize, at_once: usize) -> Buffer {
    let panels = n.div_ceil(PANEL);
    let at_once = at_once.min(panels).max(1);
    Buffer::made(panels * k * PANEL, at_once * k * PANEL, |task, out| {
        for (at, out) in out.chunks_mut(k * PANEL).enumerate() {
            let first = (task * at_once + at) * PANEL;
            panel(b, first..(first + PANEL).min(n), out);
        }
    })
}

/// Puts some columns in order.
fn panel(b: Matrix<'_>, columns: Range<usize>, out: &mut [f32]) {
    let [by_row, by_column] = b.strides;
    if by_column == 1 {
        for (row, out) in out.chunks_mut(PANEL).enumerate() {
            out[..columns.len()].copy_from_slice(&b.values[row * by_row..][columns.clone()]);
        }
        return;
    }
    // A cache line of every column at a time.
    for (block, out) in out.chunks_mut(PAD * PANEL).enumerate() {
        for (lane, column) in columns.clone().enumerate() {
            let from = &b.values[column * by_column + block * PAD..];
            out[lane..].iter_mut().step_by(PANEL).zip(from).for_each(|(to, value)| *to = *value);
        }
    }
}

/// Rows from `first` on into `out [rows, n]`, which is zeros.
fn rows_of(a: Matrix<'_>, panels: &[f32], [k, n]: [usize; 2], first: usize, out: &mut [f32]) {
    let rows = out.len() / n;
    let mut sums = vec![0.0; rows * PANEL];
    for (at, panel) in panels.chunks(k * PANEL).enumerate() {
        let columns = at * PANEL..((at + 1) * PANEL).min(n);
        let width = columns.len().next_multiple_of(PAD);
        let sums = &mut sums[..rows * width];
        sums.fill(0.0);
        for (block, panel) in panel.chunks(BLOCK * PANEL).enumerate() {
            let [by_row, by_column] = a.strides;
            let a = Matrix { values: &a.values[first * by_row + block * BLOCK * by_column..], ..a };
            add(a, panel, width, sums);
        }
        for (out, sums) in out.chunks_mut(n).zip(sums.chunks(width)) {
            out[columns.clone()].copy_from_slice(&sums[..columns.len()]);
        }
    }
}

kernel! {
    /// Adds to `sums [m, width]` the product of the first rows and columns of `a` with a block `[k, PANEL]` of a panel.
    fn add(a: Matrix<'_>, panel: &[f32], width: usize, sums: &mut [f32]) = add_body
}

#[inline(always)]
unsafe fn add_body<S: Simd>(a: Matrix<'_>, panel: &[f32], width: usize, sums: &mut [f32]) {
    let (rows, terms) = (sums.len() / width, panel.len() / PANEL);
    assert!(rows > 0 && terms > 0 && width.is_multiple_of(PAD) && width <= PANEL, "a panel of another width");
    assert!((rows - 1) * a.strides[0] + (terms - 1) * a.strides[1] < a.values.len(), "a matrix of another shape");
    let block = Block {
        a: a.values.as_ptr(),
        strides: a.strides,
        panel: panel.as_ptr(),
        terms,
        width,
        sums: sums.as_mut_ptr(),
    };
    // SAFETY: the shapes were just checked.
    unsafe { block.rows::<S>(0..rows) };
}

struct Block {
    a: *const f32,
    strides: [usize; 2],
    panel: *const f32,
    terms: usize,
    width: usize,
    sums: *mut f32,
}

impl Groups for Block {
    fn columns(&self) -> usize {
        self.width
    }

    #[inline(always)]
    unsafe fn group<S: Simd, const R: usize, const V: usize>(&self, first: usize, from: usize) {
        let [by_row, by_column] = self.strides;
        // SAFETY: as for the caller.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; R];
            let rows: [*const f32; R] = std::array::from_fn(|row| self.a.add((first + row) * by_row));
            for term in 0..self.terms {
                let panel = self.panel.add(term * PANEL + from);
                let columns: [S::V; V] = std::array::from_fn(|vector| S::load(panel.add(vector * S::LANES)));
                for row in 0..R {
                    let factor = S::splat(*rows[row].add(term * by_column));
                    for vector in 0..V {
                        sums[row][vector] = S::fma(factor, columns[vector], sums[row][vector]);
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (vector, sum) in sums.iter().enumerate() {
                    let to = self.sums.add((first + row) * self.width + from + vector * S::LANES);
                    S::store(to, S::add(S::load(to), *sum));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(len: usize, seed: u64) -> Vec<f32> {
        (0..len as u64)
            .map(|at| ((at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed) % 2001) as f32 / 1000.0 - 1.0)
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn products_are_sums_of_products(
            (samples, inputs, outputs) in prop_oneof![
                (1_usize..40, 1_usize..90, 1_usize..90),
                (100_usize..150, 500_usize..1100, 1_usize..80),
                (1_usize..60, 500_usize..600, 100_usize..200),
            ],
            seed in any::<u64>(),
        ) {
            let (x, weight, grad) =
                (values(samples * inputs, seed), values(outputs * inputs, !seed), values(samples * outputs, seed / 3));
            let check = |found: Vec<f32>, columns: usize, terms: usize, product: &dyn Fn(usize, usize, usize) -> f32| {
                let expected = |at: usize| (0..terms).map(|term| f64::from(product(at / columns, at % columns, term)))
                    .sum::<f64>();
                found.iter().enumerate().all(|(at, &found)| (f64::from(found) - expected(at))
                    .abs() < 1e-6 * (terms + 1) as f64)
            };
            let forward = forward(&x, &weight, inputs);
            prop_assert_eq!(forward.len(), samples * outputs);
            prop_assert!(check(forward, outputs, inputs, &|n, o, i| x[n * inputs + i] * weight[o * inputs + i]));
            let weight_grad = weight_grad(&x, &grad, samples);
            prop_assert_eq!(weight_grad.len(), outputs * inputs);
            prop_assert!(check(weight_grad, inputs, samples, &|o, i, n| grad[n * outputs + o] * x[n * inputs + i]));
            let input_grad = input_grad(&grad, &weight, outputs);
            prop_assert_eq!(input_grad.len(), samples * inputs);
            prop_assert!(check(input_grad, inputs, outputs, &|n, i, o| grad[n * outputs + o] * weight[o * inputs + i]));
        }
    }
}
