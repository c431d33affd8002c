//! Numbers in lanes: vector types of plain arrays and of registers, and the switch that compiles a kernel for each level.
//!
//! A kernel is written once against [`Vector`]; every helper between [`dispatch`] and an operation is
//! `#[inline(always)]`, so that the instruction set of the entry function reaches it.

mod float;
mod lanes;
mod subnormal;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use float::Float;
pub use lanes::Lanes;
pub use subnormal::without_subnormals;

use crate::cpu::Level;

/// A fixed number of lanes.
pub trait Vector: Copy + Send + Sync + 'static {
    /// Type of a lane.
    type Scalar: Float;
    /// Number of lanes.
    const W: usize;

    /// All lanes `v`.
    fn splat(v: Self::Scalar) -> Self;
    /// The first `W` values of `lanes`, which has at least as many.
    fn from_lanes(lanes: &[Self::Scalar]) -> Self;
    /// Writes all lanes to the front of `lanes`, which has room for them.
    fn write_lanes(self, lanes: &mut [Self::Scalar]);
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
    /// A bit for each lane below that of `o`, the first lane lowest; none where they cannot be compared.
    fn less(self, o: Self) -> u32;
    /// Sum of the lanes, halves first.
    fn sum(self) -> Self::Scalar;
    /// 2^self for lanes in [`Float::EXP2_RANGE`] (and NaN); any value outside.
    fn exp2_in_range(self) -> Self;

    /// All lanes zero.
    #[inline(always)]
    fn zero() -> Self {
        Self::splat(Self::Scalar::ZERO)
    }

    /// Whether all lanes are below those of `o`; not when they cannot be compared.
    #[inline(always)]
    fn all_less(self, o: Self) -> bool {
        self.less(o) == (1 << Self::W) - 1
    }

    /// The first `W` values of `s`; missing ones are zero.
    #[inline(always)]
    fn load(s: &[Self::Scalar]) -> Self {
        if s.len() >= Self::W {
            return Self::from_lanes(s);
        }
        let mut lanes = [Self::Scalar::ZERO; 16];
        lanes[..s.len()].copy_from_slice(s);
        Self::from_lanes(&lanes)
    }

    /// Writes as many lanes as `s` has room for.
    #[inline(always)]
    fn store(self, s: &mut [Self::Scalar]) {
        if s.len() >= Self::W {
            return self.write_lanes(s);
        }
        let mut lanes = [Self::Scalar::ZERO; 16];
        self.write_lanes(&mut lanes);
        s.copy_from_slice(&lanes[..s.len()]);
    }

    /// Asks for `values` to be brought to the second cache; a hint. Lines of a column share one set of the first cache.
    #[inline(always)]
    fn prefetch(_values: &[Self::Scalar]) {}

    /// Writes the sum of the lanes of `v[i]` to `out[i]`.
    #[inline(always)]
    fn sum_each(v: &[Self; 16], out: &mut [Self::Scalar; 16]) {
        out.iter_mut().zip(v).for_each(|(out, v)| *out = v.sum());
    }

    /// The magnitude of each lane.
    #[inline(always)]
    fn abs(self) -> Self {
        self.max(Self::zero().sub(self))
    }

    /// 2^(self * o) for products in range.
    #[inline(always)]
    fn exp2_of_product(self, o: Self) -> Self {
        self.mul(o).exp2_in_range()
    }

    /// 2^(self * o) * h + c for products in range.
    #[inline(always)]
    fn exp2_of_product_times(self, o: Self, h: Self, c: Self) -> Self {
        self.exp2_of_product(o).fma(h, c)
    }

    /// 2^self, saturating at both ends of [`Float::EXP2_RANGE`].
    #[inline(always)]
    fn exp2(self) -> Self {
        let (low, high) = Self::Scalar::EXP2_RANGE;
        Self::splat(high).min(Self::splat(low).max(self)).exp2_in_range() // constants first: NaN stays NaN
    }

    /// Polynomial with one or more `coefficients`, highest power first, at `x`.
    #[inline(always)]
    fn polynomial(coefficients: &[Self::Scalar], x: Self) -> Self {
        let mut p = Self::splat(coefficients[0]);
        for &c in &coefficients[1..] {
            p = p.fma(x, Self::splat(c));
        }
        p
    }

    /// The same of an even number of coefficients, even and odd powers apart: half as long a chain of operations.
    #[inline(always)]
    fn two_chains(coefficients: &[Self::Scalar], x: Self) -> Self {
        let square = x.mul(x);
        let (mut odd, mut even) = (Self::splat(coefficients[0]), Self::splat(coefficients[1]));
        for pair in coefficients[2..].chunks_exact(2) {
            odd = odd.fma(square, Self::splat(pair[0]));
            even = even.fma(square, Self::splat(pair[1]));
        }
        odd.fma(x, even)
    }

    /// Softplus and its derivative, as torch defines them: the identity above 20.
    #[inline(always)]
    fn softplus(self) -> (Self, Self) {
        let (zero, one) = (Self::zero(), Self::splat(Self::Scalar::ONE));
        let minus_abs = zero.sub(self).min(self);
        let log2_e = Self::splat(Self::Scalar::LOG2_E);
        let lowest = Self::splat(Self::Scalar::EXP2_RANGE.0).div(log2_e);
        let z = lowest.max(minus_abs).exp2_of_product(log2_e); // e^-|v|
        let log1p = Self::two_chains(Self::Scalar::LOG1P, z.fma(one.add(one), zero.sub(one)));
        let small = one.div(one.add(z));
        let sigmoid = self.select_greater(zero, small, z.mul(small));
        let value = log1p.fma(z, zero.max(self));
        match Self::Scalar::SOFTPLUS_LINEAR_ABOVE.map(Self::splat) {
            None => (value, sigmoid),
            Some(limit) => (self.select_greater(limit, self, value), self.select_greater(limit, one, sigmoid)),
        }
    }
}

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
#[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "entry to code compiled for one instruction set"))]
pub fn dispatch<K: Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        // SAFETY: a level is only ever handed out by `cpu::level` or after `Level::is_available`, which asked the CPU.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { run_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Portable => unsafe { run_portable(kernel) },
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
    kernel.run::<<K::Scalar as Float>::Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
fn run_portable<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<<K::Scalar as Float>::Fused>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<<K::Scalar as Float>::Avx2>()
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
                let softplus = if x > 20.0 { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() };
                let sigmoid = if x > 20.0 { 1.0 } else { 1.0 / (1.0 + (-x).exp()) };
                for (got, want) in dispatch(level, Functions(x)).iter().zip([x.exp2(), softplus, sigmoid]) {
                    assert!((got / want - 1.0).abs() < 3e-14, "{level:?} f64 at {x}: {got} {want}");
                }
                if x > -69.0 {
                    for (got, want) in dispatch(level, Functions(x as f32)).iter().zip([x.exp2(), softplus, sigmoid]) {
                        assert!(
                            (f64::from(*got) / want - 1.0).abs() < 4e-7 + x.abs() * 7e-8,
                            "{level:?} f32 at {x}: {got} {want}"
                        );
                    }
                }
            }
        }
    }
}
