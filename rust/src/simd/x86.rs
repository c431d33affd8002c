//! Lanes of f32 in the registers of x86: the only file of intrinsics, each in an operation of a line or two.
//!
//! The types are reached through [`super::Float`] and meant for [`super::dispatch`] alone: code that holds one runs
//! inside an entry function that was chosen after asking the CPU.
//!
//! The exponential splits x into i / n + rest, with 2^(i / n) for i < n in a table in registers. Adding `MAGIC` leaves
//! i and the integer part in the low bits. AVX-512 scales by the integer part in one instruction, which takes what is
//! multiplied by the exponential as well as the exponential itself; AVX2 has i taken out of its table beforehand, so that
//! one shift and one integer addition build the scaled entry. The polynomial of the rest is a depressed one, with its
//! leading coefficient in the table, which saves a multiplication; its shift is added to x, at no cost by the
//! multiplication before it.
#![allow(clippy::wildcard_imports, reason = "half of the names here are intrinsics")]
#![expect(unsafe_code, reason = "intrinsics are unsafe outside functions that enable their instruction set")]

use std::arch::x86_64::*;

use super::Vector;

/// Lanes in a vector, of either kind.
const W: usize = 16;

/// Sixteen lanes in one register of AVX-512.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(__m512);

/// Sixteen lanes in two registers of AVX2.
#[derive(Clone, Copy, Debug)]
pub struct Avx2([__m256; 2]);

/// Values in a cache line.
const LINE: usize = 16;

/// Table entries: bits of scale * 2^(i / n), the smaller table's less i << 20; minimax fits over one step, exact at 0; largest
/// relative errors, rounding included, 3.0e-7 and 2.2e-7 over [-1, 0].
#[rustfmt::skip]
const TABLE_32: [u32; 32] = [
    0x3e76_0061, 0x3e7b_6361, 0x3e80_724a, 0x3e83_4251, 0x3e86_221d, 0x3e89_1205, 0x3e8c_1264, 0x3e8f_2396,
    0x3e92_45fa, 0x3e95_79f0, 0x3e98_bfda, 0x3e9c_181e, 0x3e9f_8321, 0x3ea3_014d, 0x3ea6_930e, 0x3eaa_38d1,
    0x3ead_f306, 0x3eb1_c220, 0x3eb5_a695, 0x3eb9_a0db, 0x3ebd_b16d, 0x3ec1_d8c8, 0x3ec6_176c, 0x3eca_6ddc,
    0x3ece_dc9c, 0x3ed3_6435, 0x3ed8_0533, 0x3edc_c023, 0x3ee1_9598, 0x3ee6_8625, 0x3eeb_9263, 0x3ef0_baec,
];
const TABLE_8: [u32; 8] =
    [0x3d63_52d1, 0x3d67_e5e5, 0x3d67_2ad8, 0x3d63_66ab, 0x3d60_bdf3, 0x3d5f_4a56, 0x3d5f_27d0, 0x3d60_74e1];

/// Shift of the polynomial beside the larger table, added to x beforehand.
const OFFSET_32: f32 = 1.442_676_9;
/// 1.5 * 2^23 / 32.
const MAGIC_32: f32 = 393_216.0;

/// Operations of one instruction.
macro_rules! lanewise512 {
    ($($name:ident($($arg:ident),*) = $intrinsic:ident;)*) => { $(
        #[inline(always)]
        fn $name(self, $($arg: Self),*) -> Self {
            // SAFETY: see the head of this file.
            Self(unsafe { $intrinsic(self.0, $($arg.0),*) })
        }
    )* };
}

/// Operations of one instruction per register.
macro_rules! lanewise256 {
    ($($name:ident($($arg:ident),*) = $intrinsic:ident;)*) => { $(
        #[inline(always)]
        fn $name(self, $($arg: Self),*) -> Self {
            // SAFETY: see the head of this file.
            Self(unsafe { [$intrinsic(self.0[0], $($arg.0[0]),*), $intrinsic(self.0[1], $($arg.0[1]),*)] })
        }
    )* };
}

impl Vector for Avx512 {
    type Scalar = f32;
    const W: usize = W;

    lanewise512! {
        add(o) = _mm512_add_ps;
        sub(o) = _mm512_sub_ps;
        mul(o) = _mm512_mul_ps;
        div(o) = _mm512_div_ps;
        max(o) = _mm512_max_ps;
        min(o) = _mm512_min_ps;
        fma(b, c) = _mm512_fmadd_ps;
    }

    #[inline(always)]
    fn prefetch(values: &[f32]) {
        for line in values.chunks(LINE) {
            // SAFETY: a hint, which every x86-64 has.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
        }
    }
    #[inline(always)]
    fn splat(v: f32) -> Self {
        // SAFETY: see the head of this file.
        Self(unsafe { _mm512_set1_ps(v) })
    }
    #[inline(always)]
    fn from_lanes(lanes: &[f32]) -> Self {
        let lanes = &lanes[..W];
        // SAFETY: see the head of this file; `lanes` has W elements.
        Self(unsafe { _mm512_loadu_ps(lanes.as_ptr()) })
    }
    #[inline(always)]
    fn write_lanes(self, lanes: &mut [f32]) {
        let lanes = &mut lanes[..W];
        // SAFETY: see the head of this file; `lanes` has W elements.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn less(self, o: Self) -> u32 {
        // SAFETY: see the head of this file.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, o.0).into() }
    }
    #[inline(always)]
    fn select_greater(self, o: Self, a: Self, b: Self) -> Self {
        // SAFETY: see the head of this file.
        Self(unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, o.0), b.0, a.0) })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see the head of this file.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
    #[inline(always)]
    fn exp2_in_range(self) -> Self {
        let t = self.add(Self::splat(MAGIC_32));
        let whole = t.sub(Self::splat(MAGIC_32));
        self.sub(whole).add(Self::splat(OFFSET_32)).power(t).scale(whole) // added last: the rest is exact
    }
    #[inline(always)]
    fn exp2_of_product(self, o: Self) -> Self {
        let (power, whole) = self.split_product(o);
        power.scale(whole)
    }
    #[inline(always)]
    fn exp2_of_product_times(self, o: Self, h: Self, c: Self) -> Self {
        let (power, whole) = self.split_product(o);
        power.fma(h.scale(whole), c)
    }
    #[inline(always)]
    fn sum_each(v: &[Self; W], out: &mut [f32; W]) {
        let (a, b) = (Self::quarters(&v[..4]), Self::quarters(&v[4..8]));
        let (c, d) = (Self::quarters(&v[8..12]), Self::quarters(&v[12..]));
        Self::fold(Self::fold(a, b), Self::fold(c, d)).write_lanes(out);
    }
}

impl Avx512 {
    /// Numbers of which the first, times 2 to the floor of the second, is 2^(self * o).
    #[inline(always)]
    fn split_product(self, o: Self) -> (Self, Self) {
        let x = self.fma(o, Self::splat(OFFSET_32));
        let t = x.add(Self::splat(MAGIC_32 - 1.4375)); // a multiple of 1 / 32 near the offset
        let whole = t.sub(Self::splat(MAGIC_32));
        (x.sub(whole).power(t), whole)
    }
    /// 2^(self - OFFSET_32), times the table entry of `t`.
    #[inline(always)]
    fn power(self, t: Self) -> Self {
        // SAFETY: see the head of this file; the table has 32 entries.
        let entry = Self(unsafe {
            let (low, high) = (TABLE_32.as_ptr().cast(), TABLE_32[W..].as_ptr().cast());
            let t = _mm512_castps_si512(t.0);
            _mm512_castsi512_ps(_mm512_permutex2var_epi32(_mm512_loadu_si512(low), t, _mm512_loadu_si512(high)))
        });
        self.fma(self, Self::splat(2.081_260_2)).mul(entry)
    }
    /// self * 2^floor(o).
    #[inline(always)]
    fn scale(self, o: Self) -> Self {
        // SAFETY: see the head of this file.
        Self(unsafe { _mm512_scalef_ps(self.0, o.0) })
    }
    /// In each quarter: the sums of the same quarters of four vectors.
    #[inline(always)]
    fn quarters(v: &[Self]) -> Self {
        let (a, b, c, d) = (v[0].0, v[1].0, v[2].0, v[3].0);
        // SAFETY: see the head of this file.
        Self(unsafe {
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            _mm512_add_ps(_mm512_shuffle_ps::<0x44>(ab, cd), _mm512_shuffle_ps::<0xEE>(ab, cd))
        })
    }
    /// Quarters of `a` added in pairs, then those of `b`.
    #[inline(always)]
    fn fold(a: Self, b: Self) -> Self {
        // SAFETY: see the head of this file.
        Self(unsafe { _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a.0, b.0), _mm512_shuffle_f32x4::<0xDD>(a.0, b.0)) })
    }
}

impl Vector for Avx2 {
    type Scalar = f32;
    const W: usize = W;

    lanewise256! {
        add(o) = _mm256_add_ps;
        sub(o) = _mm256_sub_ps;
        mul(o) = _mm256_mul_ps;
        div(o) = _mm256_div_ps;
        max(o) = _mm256_max_ps;
        min(o) = _mm256_min_ps;
        fma(b, c) = _mm256_fmadd_ps;
    }

    #[inline(always)]
    fn prefetch(values: &[f32]) {
        for line in values.chunks(LINE) {
            // SAFETY: a hint, which every x86-64 has.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
        }
    }
    #[inline(always)]
    fn splat(v: f32) -> Self {
        // SAFETY: see the head of this file.
        Self([unsafe { _mm256_set1_ps(v) }; 2])
    }
    #[inline(always)]
    fn from_lanes(lanes: &[f32]) -> Self {
        let (low, high) = lanes[..W].split_at(W / 2);
        // SAFETY: see the head of this file; each half has W / 2 elements.
        Self(unsafe { [_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())] })
    }
    #[inline(always)]
    fn write_lanes(self, lanes: &mut [f32]) {
        let (low, high) = lanes[..W].split_at_mut(W / 2);
        // SAFETY: see the head of this file; each half has W / 2 elements.
        unsafe {
            _mm256_storeu_ps(low.as_mut_ptr(), self.0[0]);
            _mm256_storeu_ps(high.as_mut_ptr(), self.0[1]);
        }
    }
    #[inline(always)]
    fn less(self, o: Self) -> u32 {
        // SAFETY: see the head of this file.
        let half = |i| unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(self.0[i], o.0[i])) as u32 };
        half(0) | half(1) << 8
    }
    #[inline(always)]
    fn select_greater(self, o: Self, a: Self, b: Self) -> Self {
        // SAFETY: see the head of this file.
        Self(unsafe {
            let low = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0[0], o.0[0]);
            let high = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0[1], o.0[1]);
            [_mm256_blendv_ps(b.0[0], a.0[0], low), _mm256_blendv_ps(b.0[1], a.0[1], high)]
        })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = [0.0; W];
        self.write_lanes(&mut lanes);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        lanes[0]
    }
    #[inline(always)]
    fn exp2_in_range(self) -> Self {
        const MAGIC: f32 = 1_572_864.0; // 1.5 * 2^23 / 8
        let t = self.add(Self::splat(MAGIC));
        let rest = self.sub(t.sub(Self::splat(MAGIC))).add(Self::splat(1.443_056_1));
        let p = rest.fma(rest, Self::splat(6.242_154)).fma(rest, Self::splat(6.005_561));
        p.mul(t.scale())
    }
    #[inline(always)]
    fn sum_each(v: &[Self; W], out: &mut [f32; W]) {
        let (a, b) = (Self::halves(&v[..4]), Self::halves(&v[4..8]));
        let (c, d) = (Self::halves(&v[8..12]), Self::halves(&v[12..]));
        Self([Self::fold(a, b), Self::fold(c, d)]).write_lanes(out);
    }
}

impl Avx2 {
    /// Table entries with the exponent of `t`.
    #[inline(always)]
    fn scale(self) -> Self {
        Self([Self::scale_half(self.0[0]), Self::scale_half(self.0[1])])
    }
    #[inline(always)]
    fn scale_half(t: __m256) -> __m256 {
        // SAFETY: see the head of this file; the table has 8 entries.
        unsafe {
            let t = _mm256_castps_si256(t);
            let entry = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(TABLE_8.as_ptr().cast()), t);
            _mm256_castsi256_ps(_mm256_add_epi32(entry, _mm256_slli_epi32::<20>(t)))
        }
    }
    /// In each half: the sums of the same halves of the registers of four vectors.
    #[inline(always)]
    fn halves(v: &[Self]) -> __m256 {
        // SAFETY: see the head of this file.
        unsafe {
            let (a, b) = (_mm256_add_ps(v[0].0[0], v[0].0[1]), _mm256_add_ps(v[1].0[0], v[1].0[1]));
            let (c, d) = (_mm256_add_ps(v[2].0[0], v[2].0[1]), _mm256_add_ps(v[3].0[0], v[3].0[1]));
            let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            _mm256_add_ps(_mm256_shuffle_ps::<0x44>(ab, cd), _mm256_shuffle_ps::<0xEE>(ab, cd))
        }
    }
    /// The halves of `a` added, then those of `b`.
    #[inline(always)]
    fn fold(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see the head of this file.
        unsafe { _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b)) }
    }
}
