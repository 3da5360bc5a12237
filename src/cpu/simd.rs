//! What the kernels need of an instruction set in addition to `fearless_simd`'s vectors.

use fearless_simd::{Fallback, Level, prelude::*};

/// An instruction set that kernels are compiled for.
pub(super) trait Wide: Simd {
    /// Batch rows that share a load of weights: as many sums as the registers hold.
    const ROWS: usize;

    /// Whether `a.max(b)` and `a.min(b)` are NaN where b is. Comparisons keep NaN too, but take longer.
    const KEEPS_NAN: bool = false;

    /// Whether [`Wide::half`] and [`Wide::byte`] are instructions, not loops.
    const DECODES: bool = false;

    /// Whether [`Wide::dot`] is one instruction.
    const DOTS: bool = false;

    /// One vector of f16 numbers, given as bits.
    #[inline(always)]
    fn half(self, bits: &[u16]) -> Self::f32s {
        // Exponent and fraction in the places of an f32, then the exponent's bias: exact, down to
        // the smallest numbers.
        let all = Self::u32s::from_fn(self, |lane| u32::from(bits[lane]));
        let sign = (all & 0x8000) << 16;
        let magnitude = ((all & 0x7fff) << 13).bitcast::<Self::f32s>() * f32::from_bits((127 + 112) << 23);
        (magnitude.bitcast::<Self::u32s>() | sign).bitcast()
    }

    /// One vector of 8-bit integers.
    #[inline(always)]
    fn byte(self, integers: &[i8]) -> Self::f32s {
        Self::f32s::from_fn(self, |lane| f32::from(integers[lane]))
    }

    /// `sums + Σ x[j] weights[4 lane + j]` in every lane.
    #[inline(always)]
    fn dot(self, sums: Self::i32s, x: [u8; 4], weights: &[i8]) -> Self::i32s {
        sums + Self::i32s::from_fn(self, |lane| {
            (0..4).map(|j| i32::from(x[j]) * i32::from(weights[4 * lane + j])).sum()
        })
    }
}

/// Numbers in a vector.
pub(super) const fn lanes<S: Simd>() -> usize {
    S::f32s::LEN
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
mod x86 {
    #[cfg(target_arch = "x86")]
    use std::arch::x86::*;
    #[cfg(target_arch = "x86_64")]
    use std::arch::x86_64::*;

    use fearless_simd::x86::{Avx2, Avx512, Sse2};
    use fearless_simd::{f32x8, f32x16, i8x16, i8x64, i32x16, prelude::*, u16x8, u16x16};

    use super::Wide;

    fearless_simd::kernel!(
        #[inline(always)]
        fn half_512(token: Avx512, bits: u16x16<Avx512>) -> f32x16<Avx512> {
            _mm512_cvtph_ps(bits.into()).simd_into(token)
        }
    );
    fearless_simd::kernel!(
        #[inline(always)]
        fn byte_512(token: Avx512, integers: i8x16<Avx512>) -> f32x16<Avx512> {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(integers.into())).simd_into(token)
        }
    );
    fearless_simd::kernel!(
        #[inline(always)]
        fn dot_512(token: Avx512, sums: i32x16<Avx512>, x: i32, weights: i8x64<Avx512>) -> i32x16<Avx512> {
            _mm512_dpbusd_epi32(sums.into(), _mm512_set1_epi32(x), weights.into()).simd_into(token)
        }
    );
    fearless_simd::kernel!(
        #[inline(always)]
        fn half_256(token: Avx2, bits: u16x8<Avx2>) -> f32x8<Avx2> {
            _mm256_cvtph_ps(bits.into()).simd_into(token)
        }
    );
    fearless_simd::kernel!(
        #[inline(always)]
        fn byte_256(token: Avx2, integers: i64) -> f32x8<Avx2> {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_set1_epi64x(integers))).simd_into(token)
        }
    );

    impl Wide for Avx512 {
        const ROWS: usize = 6;
        const KEEPS_NAN: bool = true;
        const DECODES: bool = true;
        const DOTS: bool = true;

        #[inline(always)]
        fn half(self, bits: &[u16]) -> f32x16<Self> {
            half_512(self, u16x16::from_slice(self, bits))
        }

        #[inline(always)]
        fn byte(self, integers: &[i8]) -> f32x16<Self> {
            byte_512(self, i8x16::from_slice(self, integers))
        }

        #[inline(always)]
        fn dot(self, sums: i32x16<Self>, x: [u8; 4], weights: &[i8]) -> i32x16<Self> {
            dot_512(self, sums, i32::from_le_bytes(x), i8x64::from_slice(self, weights))
        }
    }

    impl Wide for Avx2 {
        const ROWS: usize = 3;
        const KEEPS_NAN: bool = true;
        const DECODES: bool = true;

        #[inline(always)]
        fn half(self, bits: &[u16]) -> f32x8<Self> {
            half_256(self, u16x8::from_slice(self, bits))
        }

        #[inline(always)]
        fn byte(self, integers: &[i8]) -> f32x8<Self> {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(bytemuck::cast_slice(integers));
            byte_256(self, i64::from_le_bytes(bytes))
        }
    }

    impl Wide for Sse2 {
        const ROWS: usize = 2;
        const KEEPS_NAN: bool = true;
    }
}

#[cfg(target_arch = "aarch64")]
impl Wide for fearless_simd::aarch64::Neon {
    const ROWS: usize = 4;
    const KEEPS_NAN: bool = true;
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
impl Wide for fearless_simd::wasm32::WasmSimd128 {
    const ROWS: usize = 2;
}

impl Wide for Fallback {
    const ROWS: usize = 2;
}

/// Proof that the CPU has an instruction set.
#[derive(Clone, Copy, Debug)]
pub(super) enum Token {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    Avx512(fearless_simd::x86::Avx512),
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    Avx2(fearless_simd::x86::Avx2),
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    Sse2(fearless_simd::x86::Sse2),
    #[cfg(target_arch = "aarch64")]
    Neon(fearless_simd::aarch64::Neon),
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128(fearless_simd::wasm32::WasmSimd128),
    Portable(Fallback),
}

impl Token {
    /// The widest one.
    pub fn best() -> Self {
        Self::available().into_iter().next().unwrap_or(Self::Portable(Fallback::new()))
    }

    /// Those of this CPU, the widest first.
    pub fn available() -> Vec<Self> {
        let level = Level::new();
        let mut tokens = Vec::new();
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            tokens.extend(level.as_avx512().map(Self::Avx512));
            tokens.extend(level.as_avx2().map(Self::Avx2));
            tokens.extend(level.as_sse2().map(Self::Sse2));
        }
        #[cfg(target_arch = "aarch64")]
        tokens.extend(level.as_neon().map(Self::Neon));
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        tokens.extend(level.as_wasm_simd128().map(Self::Simd128));
        let _ = level;
        tokens.push(Self::Portable(Fallback::new()));
        tokens
    }
}

/// Evaluates an expression with `$simd` as the token's own type.
macro_rules! on {
    ($token:expr, $simd:ident => $value:expr) => {
        match $token {
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            $crate::cpu::simd::Token::Avx512($simd) => $value,
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            $crate::cpu::simd::Token::Avx2($simd) => $value,
            #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
            $crate::cpu::simd::Token::Sse2($simd) => $value,
            #[cfg(target_arch = "aarch64")]
            $crate::cpu::simd::Token::Neon($simd) => $value,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            $crate::cpu::simd::Token::Simd128($simd) => $value,
            $crate::cpu::simd::Token::Portable($simd) => $value,
        }
    };
}
pub(super) use on;
