//! Vectors of 64-bit ARM: pairs of NEON's, so that kernels have the registers that they have on AVX2.

use super::Simd;
use std::arch::aarch64::*;

/// Two 128-bit vectors.
#[derive(Debug, Clone, Copy)]
pub(in crate::cpu) struct Neon;

/// Bit i of a mask.
const BITS: [u32; 4] = [1, 2, 4, 8];

/// Lanes 0 to 3, and 4 to 7.
#[derive(Debug, Clone, Copy)]
pub(in crate::cpu) struct Pair(float32x4_t, float32x4_t);

// SAFETY of every block below: every 64-bit ARM processor has NEON, and the caller vouches for the memory behind
// pointers.
impl Simd for Neon {
    type V = Pair;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Pair {
        unsafe { Pair(vld1q_f32(from), vld1q_f32(from.add(4))) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: Pair) {
        unsafe {
            vst1q_f32(to, value.0);
            vst1q_f32(to.add(4), value.1);
        }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Pair {
        unsafe { Pair(vdupq_n_f32(value), vdupq_n_f32(value)) }
    }
    #[inline(always)]
    unsafe fn add(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(vaddq_f32(a.0, b.0), vaddq_f32(a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn sub(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(vsubq_f32(a.0, b.0), vsubq_f32(a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn mul(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(vmulq_f32(a.0, b.0), vmulq_f32(a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn div(a: Pair, b: Pair) -> Pair {
        unsafe { Pair(vdivq_f32(a.0, b.0), vdivq_f32(a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn max(a: Pair, b: Pair) -> Pair {
        // As on x86-64 where neither is larger: the second.
        unsafe { Pair(vbslq_f32(vcgtq_f32(a.0, b.0), a.0, b.0), vbslq_f32(vcgtq_f32(a.1, b.1), a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn abs(a: Pair) -> Pair {
        unsafe { Pair(vabsq_f32(a.0), vabsq_f32(a.1)) }
    }
    #[inline(always)]
    unsafe fn fma(a: Pair, b: Pair, c: Pair) -> Pair {
        unsafe { Pair(vfmaq_f32(c.0, a.0, b.0), vfmaq_f32(c.1, a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn at_least(a: Pair, b: Pair) -> u64 {
        unsafe {
            let lanes = vld1q_u32(BITS.as_ptr());
            let low = vaddvq_u32(vandq_u32(vcgeq_f32(a.0, b.0), lanes));
            let high = vaddvq_u32(vandq_u32(vcgeq_f32(a.1, b.1), lanes));
            u64::from(low | high << 4)
        }
    }
    #[inline(always)]
    unsafe fn keep(bits: u64, a: Pair) -> Pair {
        unsafe {
            let lanes = vld1q_u32(BITS.as_ptr());
            let kept = |value: float32x4_t, bits: u64| {
                let mask = vtstq_u32(vdupq_n_u32(bits as u32), lanes);
                vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(value), mask))
            };
            Pair(kept(a.0, bits), kept(a.1, bits >> 4))
        }
    }
}
