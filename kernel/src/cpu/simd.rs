//! Vectors of f32 in the widest form that the processor has, found out at run time.
//!
//! Kernels are written once over [`Simd`] and compiled for AVX-512, for AVX2 with FMA, for NEON, and for arrays that
//! the compiler turns into whatever the target has by default. Lanes are always independent outputs, and every
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
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

/// The best form on this processor; `BLOCTRAIN_SIMD=avx2` or `portable` chooses a lesser one, for tests.
pub(super) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| detect(std::env::var("BLOCTRAIN_SIMD").ok().as_deref()))
}

#[cfg(target_arch = "x86_64")]
fn detect(wanted: Option<&str>) -> Level {
    let bits =
        is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("popcnt");
    let avx2 = bits && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    match wanted {
        Some("portable") => Level::Portable,
        Some("avx2") if avx2 => Level::Avx2,
        _ if bits && is_x86_feature_detected!("avx512f") => Level::Avx512,
        _ if avx2 => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(target_arch = "aarch64")]
fn detect(wanted: Option<&str>) -> Level {
    // Every 64-bit ARM processor has NEON.
    if wanted == Some("portable") { Level::Portable } else { Level::Neon }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
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

mod portable;
pub(super) use portable::Portable;

#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
pub(super) use neon::Neon;

/// Defines `fn name(arguments)` that runs the generic kernel `body::<S>` in the best form that the processor has.
macro_rules! kernel {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? =
        $body:ident) => {
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
                #[cfg(target_arch = "aarch64")]
                $crate::cpu::simd::Level::Neon => unsafe { $body::<$crate::cpu::simd::Neon>($($argument),*) },
                $crate::cpu::simd::Level::Portable => unsafe {
                    $body::<$crate::cpu::simd::Portable>($($argument),*)
                },
            }
        }
    };
}
pub(super) use kernel;
