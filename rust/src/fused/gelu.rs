//! The normal distribution in lanes, for the exact GELU x cdf(x) and its derivative cdf(x) + x density(x).
//!
//! The tail cdf(-a) for a >= 0 is e^(-a^2 / 2) times a smooth function of s = 2 / (1 + a / 4) - 1 in (-1, 1], fitted by
//! a polynomial: one exponential serves the distribution and its density, and small tails keep their digits.

use crate::simd::{Float, Vector};

/// The constants of the normal distribution.
pub trait Normal: Float {
    /// 1 / 4.
    const QUARTER: Self;
    /// -log2(e) / 2.
    const HALF_LOG2_E: Self;
    /// 1 / sqrt(2 pi).
    const DENSITY_AT_0: Self;
    /// cdf(-a) e^(a^2 / 2) in powers of s, highest first.
    const TAIL: &'static [Self];
}

impl Normal for f32 {
    const QUARTER: Self = 0.25;
    const HALF_LOG2_E: Self = -0.5 * std::f32::consts::LOG2_E;
    const DENSITY_AT_0: Self = 0.398_942_3;
    // Minimax in a cdf(-a): 9e-9 before rounding.
    const TAIL: &'static [Self] =
        &[-0.002_601_678_3, 0.013_552_311, 0.026_584_525, 0.073_751_815, 0.123_835_59, 0.170_470_43, 0.094_407_03];
}

impl Normal for f64 {
    const QUARTER: Self = 0.25;
    const HALF_LOG2_E: Self = -0.5 * std::f64::consts::LOG2_E;
    const DENSITY_AT_0: Self = 0.398_942_280_401_432_7;
    // Chebyshev, computed with 40 digits: 9e-17.
    const TAIL: &'static [Self] = &[
        -1.918_903_993_163_124_7e-10,
        -4.664_136_786_447_644e-11,
        2.057_827_968_860_076e-9,
        -4.641_674_977_925_542_7e-10,
        -1.201_879_133_911_729_5e-8,
        1.049_384_351_259_272_7e-8,
        5.297_866_372_316_835e-8,
        -9.536_586_662_990_955e-8,
        -2.061_419_971_479_295_5e-7,
        6.623_130_214_958_578e-7,
        8.294_827_885_428_636e-7,
        -4.303_912_983_332_932e-6,
        -4.631_581_794_464_252e-6,
        2.864_844_581_060_750_6e-5,
        4.555_489_923_275_077e-5,
        -0.000_187_184_287_354_132_88,
        -0.000_638_813_852_397_679_9,
        0.000_507_562_076_883_166_3,
        0.008_492_095_482_167_752,
        0.030_864_804_106_219_73,
        0.071_707_407_337_734_84,
        0.124_379_255_339_265_51,
        0.170_397_721_548_455_46,
        0.094_410_641_301_969_29,
    ];
}

/// Vectors computed side by side: the chain of one is far longer than what a core looks ahead.
const ABREAST: usize = 4;

/// cdf and density of the normal distribution.
#[inline(always)]
fn normal<V: Vector<Scalar: Normal>, const C: usize>(x: &[V; C]) -> ([V; C], [V; C]) {
    let one = V::splat(V::Scalar::ONE);
    let low = V::splat(V::Scalar::EXP2_RANGE.0);
    let (mut bell, mut s, mut tail) = ([one; C], [one; C], [V::splat(V::Scalar::TAIL[0]); C]);
    for i in 0..C {
        let exponent = x[i].mul(x[i]).mul(V::splat(V::Scalar::HALF_LOG2_E));
        bell[i] = low.max(exponent).exp2_in_range(); // constant first: NaN stays NaN
    }
    for i in 0..C {
        s[i] = one.add(one).div(x[i].abs().fma(V::splat(V::Scalar::QUARTER), one)).sub(one);
    }
    for &coefficient in &V::Scalar::TAIL[1..] {
        for i in 0..C {
            tail[i] = tail[i].fma(s[i], V::splat(coefficient));
        }
    }
    for i in 0..C {
        tail[i] = tail[i].mul(bell[i]);
        tail[i] = x[i].select_greater(V::zero(), one.sub(tail[i]), tail[i]);
        bell[i] = bell[i].mul(V::splat(V::Scalar::DENSITY_AT_0));
    }
    (tail, bell)
}

/// Turns C vectors into x cdf(x); returns the derivatives.
#[inline(always)]
fn activate<V: Vector<Scalar: Normal>, const C: usize>(x: &mut [V; C]) -> [V; C] {
    let (cdf, mut slope) = normal(x);
    for i in 0..C {
        slope[i] = x[i].fma(slope[i], cdf[i]);
        x[i] = x[i].mul(cdf[i]);
    }
    slope
}

/// x cdf(x).
#[inline(always)]
pub(super) fn gelu<V: Vector<Scalar: Normal>>(x: V) -> V {
    gelu_and_slope(x).0
}

/// x cdf(x) and its derivative.
#[inline(always)]
pub(super) fn gelu_and_slope<V: Vector<Scalar: Normal>>(x: V) -> (V, V) {
    let mut x = [x];
    let slope = activate(&mut x);
    (x[0], slope[0])
}

/// Turns every x into x cdf(x).
#[inline(always)]
pub(super) fn gelu_row<V: Vector<Scalar: Normal>>(row: &mut [V]) {
    let (blocks, rest) = row.as_chunks_mut::<ABREAST>();
    for x in blocks {
        activate(x);
    }
    for x in rest {
        *x = gelu(*x);
    }
}

/// Turns every x into x cdf(x) and fills in the derivatives.
#[inline(always)]
pub(super) fn gelu_and_slope_row<V: Vector<Scalar: Normal>>(row: &mut [V], slopes: &mut [V]) {
    let (blocks, rest) = row.as_chunks_mut::<ABREAST>();
    let (slope_blocks, slope_rest) = slopes.as_chunks_mut::<ABREAST>();
    for (x, slope) in blocks.iter_mut().zip(slope_blocks) {
        *slope = activate(x);
    }
    for (x, slope) in rest.iter_mut().zip(slope_rest) {
        (*x, *slope) = gelu_and_slope(*x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Level;
    use crate::simd::{Kernel, dispatch};

    struct Gelu<T>(T);

    impl<T: Normal> Kernel for Gelu<T> {
        type Scalar = T;
        type Output = [T; 2];
        #[inline(always)]
        fn run<V: Vector<Scalar = T>>(self) -> [T; 2] {
            let (value, slope) = gelu_and_slope(V::splat(self.0));
            let mut out = [T::ZERO; 2];
            value.store(&mut out[..1]);
            slope.store(&mut out[1..]);
            out
        }
    }

    /// cdf(x) by the series x + x^3 / 3 + x^5 / 15 + ...
    fn exact(x: f64) -> [f64; 2] {
        let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        let (mut term, mut sum, mut k) = (x, x, 1.0);
        while term.abs() > 1e-30 {
            k += 2.0;
            term *= x * x / k;
            sum += term;
        }
        let cdf = 0.5 + density * sum;
        [x * cdf, cdf + x * density]
    }

    #[test]
    fn gelu_and_its_slope_are_exact_at_every_level() {
        for level in Level::ALL.into_iter().filter(|l| l.is_available()) {
            for i in -1024..=1024 {
                let x = f64::from(i) / 128.0; // exact in f32 too
                let want = exact(x);
                for (got, want) in dispatch(level, Gelu(x)).iter().zip(want) {
                    assert!((got - want).abs() < 1e-14, "{level:?} f64 at {x}: {got} {want}");
                }
                for (got, want) in dispatch(level, Gelu(x as f32)).iter().zip(want) {
                    let limit = 2e-7 + 1e-7 * want.abs();
                    assert!((f64::from(*got) - want).abs() < limit, "{level:?} f32 at {x}: {got} {want}");
                }
            }
        }
    }

    #[test]
    fn far_out_gelu_is_the_identity_or_nothing() {
        for level in Level::ALL.into_iter().filter(|l| l.is_available()) {
            assert_eq!(dispatch(level, Gelu(1e20_f32)), [1e20, 1.0]);
            assert!(dispatch(level, Gelu(-40.0_f32))[0].abs() < 1e-28);
            assert!(dispatch(level, Gelu(f32::NAN)).iter().all(|v| v.is_nan()));
        }
    }
}
