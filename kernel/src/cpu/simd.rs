//! Vectors of f32 in the widest form that the processor has, found out at run time.
//!
//! Kernels are written once over [`Simd`] and compiled for AVX-512, for AVX2 with FMA, and for arrays that the compiler
//! turns into whatever the target has by default (NEON on 64-bit ARM). Lanes are always independent outputs, and every
//! multiply-add is fused on every target, so the results are the same bits whichever form runs.

#![expect(unsafe_code, reason = "intrinsics take pointers and need the processor features that `level` has found")]

use std::sync::OnceLock;

pub(super) use bloctrain_memory::size::PAD;

/// The forms that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

/// The best form on this processor; `BLOCTRAIN_SIMD=avx2` or `portable` chooses a lesser one, for tests.
pub(super) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| detect(std::env::var("BLOCTRAIN_SIMD").ok().as_deref()))
}

#[cfg(target_arch = "x86_64")]
fn detect(wanted: Option<&str>) -> Level {
    let bits = is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("popcnt");
    let avx2 = bits && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    match wanted {
        Some("portable") => Level::Portable,
        Some("avx2") if avx2 => Level::Avx2,
        _ if bits && is_x86_feature_detected!("avx512f") => Level::Avx512,
        _ if avx2 => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect(_wanted: Option<&str>) -> Level {
    Level::Portable
}

/// A vector of f32.
///
/// # Safety
/// Every function needs the processor features of its implementation; `load` and `store` need `LANES` values behind
/// their pointer.
pub(super) trait Simd: Copy {
    /// The vector.
    type V: Copy;
    /// Its lanes; they divide [`PAD`].
    const LANES: usize;

    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, value: Self::V);
    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn abs(a: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Bit i says whether lane i of `a` is at least that of `b`.
    unsafe fn at_least(a: Self::V, b: Self::V) -> u64;
    /// Lanes of `a` where `bits` has a one, elsewhere zero.
    unsafe fn keep(bits: u64, a: Self::V) -> Self::V;
}

/// Plain arrays: what the compiler makes of them depends on the target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable;

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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// 512-bit vectors.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Avx512;

    // SAFETY of every block below: the caller of a `Simd` function has the features that the implementation is named
    // after, and vouches for the memory behind pointers.
    impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, value: __m512) {
            unsafe { _mm512_storeu_ps(to, value) }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> __m512 {
            unsafe { _mm512_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn abs(a: __m512) -> __m512 {
            unsafe { _mm512_abs_ps(a) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn at_least(a: __m512, b: __m512) -> u64 {
            unsafe { u64::from(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b)) }
        }
        #[inline(always)]
        unsafe fn keep(bits: u64, a: __m512) -> __m512 {
            unsafe { _mm512_maskz_mov_ps(bits as u16, a) }
        }
    }

    /// 256-bit vectors with FMA.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Avx2;

    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, value: __m256) {
            unsafe { _mm256_storeu_ps(to, value) }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> __m256 {
            unsafe { _mm256_set1_ps(value) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn abs(a: __m256) -> __m256 {
            unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn at_least(a: __m256, b: __m256) -> u64 {
            unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(a, b)) as u64 }
        }
        #[inline(always)]
        unsafe fn keep(bits: u64, a: __m256) -> __m256 {
            unsafe {
                let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
                let mask = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits as i32), lanes), lanes);
                _mm256_and_ps(a, _mm256_castsi256_ps(mask))
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

/// Defines `fn name(arguments)` that runs the generic kernel `body::<S>` in the best form that the processor has.
macro_rules! kernel {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:ident) => {
        $(#[$doc])*
        $vis fn $name($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,bmi1,bmi2,popcnt")]
            unsafe fn avx512($($argument: $type),*) $(-> $result)? {
                // SAFETY: the features of this function are those that the vectors need.
                unsafe { $body::<$crate::cpu::simd::Avx512>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt")]
            unsafe fn avx2($($argument: $type),*) $(-> $result)? {
                // SAFETY: as above.
                unsafe { $body::<$crate::cpu::simd::Avx2>($($argument),*) }
            }
            // SAFETY: `level` has asked the processor; slices are checked by the kernels themselves.
            match $crate::cpu::simd::level() {
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Level::Avx512 => unsafe { avx512($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Level::Avx2 => unsafe { avx2($($argument),*) },
                $crate::cpu::simd::Level::Portable => unsafe {
                    $body::<$crate::cpu::simd::Portable>($($argument),*)
                },
            }
        }
    };
}
pub(super) use kernel;
