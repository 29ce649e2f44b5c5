//! Products of matrices, cut into groups of rows and columns whose sums stay in registers.

#![expect(unsafe_code, reason = "groups are computed through pointers that whoever makes a product vouches for")]

use super::simd::{PAD, Simd};
use std::ops::Range;

/// Rows of a group.
pub(super) const ROWS: usize = 6;

/// Where results are added: values of some frames, where the first begins, and the values from one position to the
/// next.
pub(super) struct Target<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) start: usize,
    pub(super) row_stride: usize,
}

/// A product that is computed one group at a time.
pub(super) trait Groups {
    /// Columns of the result: a multiple of [`PAD`], at most four of them.
    fn columns(&self) -> usize;

    /// Computes `R` rows from `first` on in `V` vectors of columns from `from` on.
    ///
    /// # Safety
    /// These rows and columns exist, and the processor has the features of `S`.
    unsafe fn group<S: Simd, const R: usize, const V: usize>(&self, first: usize, from: usize);

    /// Computes some rows.
    ///
    /// # Safety
    /// As for [`group`](Self::group).
    #[inline(always)]
    unsafe fn rows<S: Simd>(&self, rows: Range<usize>) {
        for first in rows.clone().step_by(ROWS) {
            // SAFETY: as for the caller.
            unsafe {
                match rows.end - first {
                    1 => self.whole::<S, 1>(first),
                    2 => self.whole::<S, 2>(first),
                    3 => self.whole::<S, 3>(first),
                    4 => self.whole::<S, 4>(first),
                    5 => self.whole::<S, 5>(first),
                    _ => self.whole::<S, ROWS>(first),
                }
            }
        }
    }

    /// Computes all columns of `R` rows.
    ///
    /// # Safety
    /// As for [`group`](Self::group).
    #[inline(always)]
    unsafe fn whole<S: Simd, const R: usize>(&self, first: usize) {
        // SAFETY: as for the caller.
        unsafe {
            if S::LANES < PAD {
                for from in (0..self.columns()).step_by(PAD) {
                    self.group::<S, R, 2>(first, from);
                }
                return;
            }
            match self.columns() / PAD {
                1 => self.group::<S, R, 1>(first, 0),
                2 => self.group::<S, R, 2>(first, 0),
                3 => self.group::<S, R, 3>(first, 0),
                _ => self.group::<S, R, 4>(first, 0),
            }
        }
    }
}

/// The vectors of `R` rows, of which `at(row, vector)` is the address.
///
/// In loops: what is in a closure is compiled by itself where the compiler does not inline it, and then without the
/// features of the processor, with a call for every intrinsic. `scripts/check-inlined` looks for such calls.
///
/// # Safety
/// As for [`Simd::load`].
#[inline(always)]
pub(super) unsafe fn loaded<S: Simd, const R: usize, const V: usize>(
    at: impl Fn(usize, usize) -> *mut f32,
) -> [[S::V; V]; R] {
    // SAFETY: as for the caller.
    unsafe {
        let mut vectors = [[S::splat(0.0); V]; R];
        for (row, vectors) in vectors.iter_mut().enumerate() {
            for (vector, value) in vectors.iter_mut().enumerate() {
                *value = S::load(at(row, vector).cast_const());
            }
        }
        vectors
    }
}
