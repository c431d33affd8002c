//! The constants of the exponential and the logarithm, for f32 and f64.

use std::ops::{Add, Div, Mul, Sub};
use std::sync::Mutex;

use super::{Lanes, Vector};

/// f32 or f64, with the constants of its exponential and logarithm.
pub trait Float:
    Copy
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + 'static
{
    /// 64 bytes of lanes with fused multiply-add.
    type Fused: Vector<Scalar = Self>;
    /// 64 bytes of lanes without it.
    type Plain: Vector<Scalar = Self>;
    /// 64 bytes of lanes in the registers of AVX-512; for [`super::dispatch`] alone.
    #[cfg(target_arch = "x86_64")]
    type Avx512: Vector<Scalar = Self>;
    /// 64 bytes of lanes in the registers of AVX2; for [`super::dispatch`] alone.
    #[cfg(target_arch = "x86_64")]
    type Avx2: Vector<Scalar = Self>;
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// log2(e), rounded.
    const LOG2_E: Self;
    /// 1.5 * 2^(mantissa bits): adding it leaves the nearest integer in the low bits.
    const MAGIC: Self;
    /// Where torch's softplus becomes the identity, for a type that can tell the difference.
    const SOFTPLUS_LINEAR_ABOVE: Option<Self>;
    /// Range of `exp2`: below, results vanish beside 1 (and stay normal); above, they saturate near the largest number.
    const EXP2_RANGE: (Self, Self);
    /// 2^f for f in [-1/2, 1/2], highest power first.
    const EXP2: &'static [Self];
    /// log(1 + z) / z in powers of 2z - 1 for z in [0, 1], highest power first.
    const LOG1P: &'static [Self];

    /// `self * b + c` in one rounding.
    fn fused(self, b: Self, c: Self) -> Self;
    /// e^self, of the standard library.
    fn exp(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The nearest value.
    fn from_f64(value: f64) -> Self;
    /// Buffers kept between calls.
    fn kept() -> &'static Mutex<Vec<Vec<Self>>>;
    /// Adds the integer in the low bits of `t` (see [`Float::MAGIC`]) to the exponent of `self`.
    fn add_exponent(self, t: Self) -> Self;
}

impl Float for f32 {
    type Fused = Lanes<f32, 16, true>;
    type Plain = Lanes<f32, 16, false>;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = super::x86::Avx512;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = super::x86::Avx2;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOG2_E: Self = std::f32::consts::LOG2_E;
    const MAGIC: Self = 12_582_912.0; // 1.5 * 2^23
    const SOFTPLUS_LINEAR_ABOVE: Option<Self> = None; // e^-20 vanishes beside 20
    const EXP2_RANGE: (Self, Self) = (-100.0, 127.99);
    const EXP2: &'static [Self] = EXP2_F32;
    const LOG1P: &'static [Self] = LOG1P_F32;

    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
    fn kept() -> &'static Mutex<Vec<Vec<Self>>> {
        static KEPT: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());
        &KEPT
    }
    fn exp(self) -> Self {
        self.exp()
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as Self
    }
    #[inline(always)]
    fn add_exponent(self, t: Self) -> Self {
        Self::from_bits(self.to_bits().wrapping_add(t.to_bits() << 23))
    }
}

impl Float for f64 {
    type Fused = Lanes<f64, 8, true>;
    type Plain = Lanes<f64, 8, false>;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = Self::Fused;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = Self::Fused;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOG2_E: Self = std::f64::consts::LOG2_E;
    const MAGIC: Self = 6_755_399_441_055_744.0; // 1.5 * 2^52
    const SOFTPLUS_LINEAR_ABOVE: Option<Self> = Some(20.0);
    const EXP2_RANGE: (Self, Self) = (-1000.0, 1023.99);
    const EXP2: &'static [Self] = EXP2_F64;
    const LOG1P: &'static [Self] = LOG1P_F64;

    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
    fn kept() -> &'static Mutex<Vec<Vec<Self>>> {
        static KEPT: Mutex<Vec<Vec<f64>>> = Mutex::new(Vec::new());
        &KEPT
    }
    fn exp(self) -> Self {
        self.exp()
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as Self
    }
    #[inline(always)]
    fn add_exponent(self, t: Self) -> Self {
        Self::from_bits(self.to_bits().wrapping_add(t.to_bits() << 52))
    }
}

// Chebyshev fits computed with 40 digits; largest relative errors 5e-9, 2e-18, 1.6e-7 (rounded) and 4e-20.
const LOG1P_F32: &[f32] = &[
    -6.203_236_4e-6,
    2.050_886_9e-5,
    -5.303_138e-5,
    0.000_180_901_33,
    -0.000_642_599_5,
    0.002_289_702_2,
    -0.008_461_024,
    0.033_152_252,
    -0.144_263_55,
    0.810_930_2,
];
const LOG1P_F64: &[f64] = &[
    -7.639_034_617_203_805e-12,
    2.393_309_585_205_119e-11,
    -3.311_708_625_349_981e-11,
    1.047_404_407_930_581_7e-10,
    -4.320_052_482_920_615e-10,
    1.369_759_115_620_633_5e-9,
    -4.223_406_579_280_072_5e-9,
    1.349_266_592_612_413_9e-8,
    -4.340_024_385_983_651e-8,
    1.399_090_067_786_679_5e-7,
    -4.535_012_438_921_737e-7,
    1.479_865_835_587_477_8e-6,
    -4.866_890_266_009_066e-6,
    0.000_016_156_949_749_191_343,
    -0.000_054_260_895_873_032_936,
    0.000_184_903_001_705_013_34,
    -0.000_642_150_372_710_966_9,
    0.002_288_240_907_698_034_8,
    -0.008_461_080_413_859_538,
    0.033_152_438_438_550_7,
    -0.144_263_549_549_662_08,
    0.810_930_216_216_328_8,
];
#[expect(clippy::approx_constant, reason = "a fitted coefficient near ln 2, not ln 2")]
const EXP2_F32: &[f32] = &[0.001_326_473, 0.009_671_513, 0.055_507_336, 0.240_222_42, 0.693_147, 1.0];
#[expect(clippy::approx_constant, reason = "a fitted coefficient near ln 2, not ln 2")]
const EXP2_F64: &[f64] = &[
    2.573_356_830_875_689_2e-11,
    4.456_675_341_049_206e-10,
    7.054_894_386_348_348e-9,
    1.017_805_119_296_064_9e-7,
    1.321_548_681_599_997_7e-6,
    0.000_015_252_733_856_293_466,
    0.000_154_035_303_933_627_55,
    0.001_333_355_814_639_035_3,
    0.009_618_129_107_628_484,
    0.055_504_108_664_821_7,
    0.240_226_506_959_100_72,
    0.693_147_180_559_945_3,
    1.0,
];
