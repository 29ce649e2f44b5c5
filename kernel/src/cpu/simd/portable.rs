//! Plain arrays.

use super::Simd;

/// Plain arrays: what the compiler makes of them depends on the target.
#[derive(Debug, Clone, Copy)]
pub(in crate::cpu) struct Portable;

const WIDTH: usize = 8;

#[inline(always)]
fn zip(a: [f32; WIDTH], b: [f32; WIDTH], f: impl Fn(f32, f32) -> f32) -> [f32; WIDTH] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

impl Simd for Portable {
    type V = [f32; WIDTH];
    const LANES: usize = WIDTH;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: the caller vouches for `LANES` values.
        unsafe { from.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: Self::V) {
        // SAFETY: as above.
        unsafe { to.cast::<Self::V>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        [value; WIDTH]
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn abs(a: Self::V) -> Self::V {
        a.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }
    #[inline(always)]
    unsafe fn at_least(a: Self::V, b: Self::V) -> u64 {
        (0..WIDTH).fold(0, |bits, lane| bits | (u64::from(a[lane] >= b[lane]) << lane))
    }
    #[inline(always)]
    unsafe fn keep(bits: u64, a: Self::V) -> Self::V {
        std::array::from_fn(|lane| if bits >> lane & 1 == 1 { a[lane] } else { 0.0 })
    }
}
