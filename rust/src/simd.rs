//! Numbers in lanes: one vector type over plain arrays, and the switch that compiles a kernel for each CPU level.
//!
//! A kernel is written once against [`Vector`]; every helper between [`dispatch`] and an operation is
//! `#[inline(always)]`, so that the instruction set of the entry function reaches it.

use std::ops::{Add, Div, Mul, Sub};

use crate::cpu::Level;

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
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// log2(e), rounded.
    const LOG2_E: Self;
    /// What rounding took from log2(e).
    const LOG2_E_REST: Self;
    /// 1.5 * 2^(mantissa bits): adding it leaves the nearest integer in the low bits.
    const MAGIC: Self;
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
    /// Adds the integer in the low bits of `t` (see [`Float::MAGIC`]) to the exponent of `self`.
    fn add_exponent(self, t: Self) -> Self;
}

/// A fixed number of lanes.
pub trait Vector: Copy + Send + Sync + 'static {
    /// Type of a lane.
    type Scalar: Float;
    /// Number of lanes.
    const W: usize;

    /// All lanes zero.
    fn zero() -> Self;
    /// All lanes `v`.
    fn splat(v: Self::Scalar) -> Self;
    /// The first `W` values of `s`; missing ones are zero.
    fn load(s: &[Self::Scalar]) -> Self;
    /// Writes as many lanes as `s` has room for.
    fn store(self, s: &mut [Self::Scalar]);
    /// `self + o`.
    fn add(self, o: Self) -> Self;
    /// `self - o`.
    fn sub(self, o: Self) -> Self;
    /// `self * o`.
    fn mul(self, o: Self) -> Self;
    /// `self / o`.
    fn div(self, o: Self) -> Self;
    /// The larger of each lane; `o` where they cannot be compared.
    fn max(self, o: Self) -> Self;
    /// The smaller of each lane; `o` where they cannot be compared.
    fn min(self, o: Self) -> Self;
    /// `self * b + c`.
    fn fma(self, b: Self, c: Self) -> Self;
    /// `a` where `self > o`, else `b`.
    fn select_greater(self, o: Self, a: Self, b: Self) -> Self;
    /// Sum of the lanes, halves first.
    fn sum(self) -> Self::Scalar;
    /// [`Float::add_exponent`] per lane.
    fn add_exponent(self, t: Self) -> Self;

    /// 2^self.
    #[inline(always)]
    fn exp2(self) -> Self {
        let (low, high) = Self::Scalar::EXP2_RANGE;
        let magic = Self::splat(Self::Scalar::MAGIC);
        let x = Self::splat(high).min(Self::splat(low).max(self)); // constants first: NaN stays NaN
        let t = x.add(magic);
        Self::polynomial(Self::Scalar::EXP2, x.sub(t.sub(magic))).add_exponent(t)
    }

    /// Polynomial with `coefficients`, highest power first, at `x`.
    #[inline(always)]
    fn polynomial(coefficients: &[Self::Scalar], x: Self) -> Self {
        let mut p = Self::zero();
        for &c in coefficients {
            p = p.fma(x, Self::splat(c));
        }
        p
    }

    /// Softplus and its derivative, as torch defines them: the identity above 20.
    #[inline(always)]
    fn softplus(self) -> (Self, Self) {
        let (zero, one) = (Self::zero(), Self::splat(Self::Scalar::ONE));
        let minus_abs = zero.sub(self).min(self);
        let rest = minus_abs.mul(Self::splat(Self::Scalar::LOG2_E_REST));
        let exponent = minus_abs.fma(Self::splat(Self::Scalar::LOG2_E), rest);
        let z = exponent.exp2(); // e^-|v|
        let log1p = z.mul(Self::polynomial(Self::Scalar::LOG1P, z.add(z).sub(one)));
        let small = one.div(one.add(z));
        let sigmoid = self.select_greater(zero, small, z.mul(small));
        let threshold = Self::splat(twenty());
        let value = zero.max(self).add(log1p);
        (
            self.select_greater(threshold, self, value),
            self.select_greater(threshold, one, sigmoid),
        )
    }
}

/// torch's softplus threshold.
#[inline(always)]
fn twenty<T: Float>() -> T {
    let four = T::ONE + T::ONE + T::ONE + T::ONE;
    four * four + four
}

/// Lanes in a plain array, which the compiler turns into the registers of the level in force.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Lanes<T, const W: usize, const FMA: bool>([T; W]);

impl<T: Float, const W: usize, const FMA: bool> Lanes<T, W, FMA> {
    #[inline(always)]
    fn zip(mut self, o: Self, f: impl Fn(T, T) -> T) -> Self {
        for i in 0..W {
            self.0[i] = f(self.0[i], o.0[i]);
        }
        self
    }
}

impl<T: Float, const W: usize, const FMA: bool> Vector for Lanes<T, W, FMA> {
    type Scalar = T;
    const W: usize = W;

    #[inline(always)]
    fn zero() -> Self {
        Self([T::ZERO; W])
    }
    #[inline(always)]
    fn splat(v: T) -> Self {
        Self([v; W])
    }
    #[inline(always)]
    fn load(s: &[T]) -> Self {
        if let Some(lanes) = s.first_chunk() {
            return Self(*lanes);
        }
        let mut lanes = [T::ZERO; W];
        lanes[..s.len()].copy_from_slice(s);
        Self(lanes)
    }
    #[inline(always)]
    fn store(self, s: &mut [T]) {
        if let Some(lanes) = s.first_chunk_mut() {
            *lanes = self.0;
        } else {
            s.copy_from_slice(&self.0[..s.len()]);
        }
    }
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        self.zip(o, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        self.zip(o, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        self.zip(o, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        self.zip(o, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        self.zip(o, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        self.zip(o, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn fma(mut self, b: Self, c: Self) -> Self {
        for i in 0..W {
            self.0[i] = if FMA {
                self.0[i].fused(b.0[i], c.0[i])
            } else {
                self.0[i] * b.0[i] + c.0[i]
            };
        }
        self
    }
    #[inline(always)]
    fn select_greater(mut self, o: Self, a: Self, b: Self) -> Self {
        for i in 0..W {
            self.0[i] = if self.0[i] > o.0[i] { a.0[i] } else { b.0[i] };
        }
        self
    }
    #[inline(always)]
    fn sum(self) -> T {
        let mut lanes = self.0;
        let mut half = W / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] = lanes[i] + lanes[i + half];
            }
            half /= 2;
        }
        lanes[0]
    }
    #[inline(always)]
    fn add_exponent(self, t: Self) -> Self {
        self.zip(t, T::add_exponent)
    }
}

impl Float for f32 {
    type Fused = Lanes<f32, 16, true>;
    type Plain = Lanes<f32, 16, false>;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOG2_E: Self = std::f32::consts::LOG2_E;
    const LOG2_E_REST: Self = 1.925_963e-8;
    const MAGIC: Self = 12_582_912.0; // 1.5 * 2^23
    const EXP2_RANGE: (Self, Self) = (-100.0, 127.99);
    const EXP2: &'static [Self] = EXP2_F32;
    const LOG1P: &'static [Self] = LOG1P_F32;

    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
    fn exp(self) -> Self {
        self.exp()
    }
    #[inline(always)]
    fn add_exponent(self, t: Self) -> Self {
        Self::from_bits(self.to_bits().wrapping_add(t.to_bits() << 23))
    }
}

impl Float for f64 {
    type Fused = Lanes<f64, 8, true>;
    type Plain = Lanes<f64, 8, false>;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const LOG2_E: Self = std::f64::consts::LOG2_E;
    const LOG2_E_REST: Self = 2.035_527_374_093_103_3e-17;
    const MAGIC: Self = 6_755_399_441_055_744.0; // 1.5 * 2^52
    const EXP2_RANGE: (Self, Self) = (-1000.0, 1023.99);
    const EXP2: &'static [Self] = EXP2_F64;
    const LOG1P: &'static [Self] = LOG1P_F64;

    #[inline(always)]
    fn fused(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
    fn exp(self) -> Self {
        self.exp()
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
#[expect(
    clippy::approx_constant,
    reason = "a fitted coefficient near ln 2, not ln 2"
)]
const EXP2_F32: &[f32] = &[
    0.001_326_473,
    0.009_671_513,
    0.055_507_336,
    0.240_222_42,
    0.693_147,
    1.0,
];
#[expect(
    clippy::approx_constant,
    reason = "a fitted coefficient near ln 2, not ln 2"
)]
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

/// A computation that is compiled once per CPU level.
pub trait Kernel {
    /// Type of a lane.
    type Scalar: Float;
    /// What it returns.
    type Output;
    /// Does it; must be `#[inline(always)]`.
    fn run<V: Vector<Scalar = Self::Scalar>>(self) -> Self::Output;
}

/// Runs `kernel` with the instructions of `level`.
#[inline]
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "entry to code compiled for one instruction set")
)]
pub fn dispatch<K: Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        // SAFETY: a level is only ever handed out by `cpu::level` or after `Level::is_available`, which asked the CPU.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { run_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { run_avx2(kernel) },
        Level::Neon => kernel.run::<<K::Scalar as Float>::Fused>(),
        _ => kernel.run::<<K::Scalar as Float>::Plain>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<<K::Scalar as Float>::Fused>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<<K::Scalar as Float>::Fused>()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Functions<T>(T);

    impl<T: Float> Kernel for Functions<T> {
        type Scalar = T;
        type Output = [T; 3];
        #[inline(always)]
        fn run<V: Vector<Scalar = T>>(self) -> [T; 3] {
            let x = V::splat(self.0);
            let (softplus, sigmoid) = x.softplus();
            let mut out = [T::ZERO; 3];
            for (slot, value) in out.iter_mut().zip([x.exp2(), softplus, sigmoid]) {
                value.store(std::slice::from_mut(slot));
            }
            out
        }
    }

    #[test]
    fn functions_are_exact_to_a_few_units_at_every_level() {
        for level in Level::ALL.into_iter().filter(|l| l.is_available()) {
            for i in -790..790 {
                let x = f64::from(i) / 8.0; // exact in f32 too
                let softplus = if x > 20.0 {
                    x
                } else {
                    x.max(0.0) + (-x.abs()).exp().ln_1p()
                };
                let sigmoid = if x > 20.0 {
                    1.0
                } else {
                    1.0 / (1.0 + (-x).exp())
                };
                for (got, want) in
                    dispatch(level, Functions(x))
                        .iter()
                        .zip([x.exp2(), softplus, sigmoid])
                {
                    assert!(
                        (got / want - 1.0).abs() < 3e-14,
                        "{level:?} f64 at {x}: {got} {want}"
                    );
                }
                if x > -69.0 {
                    for (got, want) in dispatch(level, Functions(x as f32)).iter().zip([
                        x.exp2(),
                        softplus,
                        sigmoid,
                    ]) {
                        assert!(
                            (f64::from(*got) / want - 1.0).abs() < 4e-7 + x.abs() * 5e-8,
                            "{level:?} f32 at {x}: {got} {want}"
                        );
                    }
                }
            }
        }
    }
}
