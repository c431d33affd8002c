//! Lanes as a plain array: the vector type of every level until one is written with intrinsics.

use super::{Float, Vector};

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
    fn splat(v: T) -> Self {
        Self([v; W])
    }
    #[inline(always)]
    fn from_lanes(lanes: &[T]) -> Self {
        let mut copy = [T::ZERO; W];
        copy.copy_from_slice(&lanes[..W]);
        Self(copy)
    }
    #[inline(always)]
    fn write_lanes(self, lanes: &mut [T]) {
        lanes[..W].copy_from_slice(&self.0);
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
            self.0[i] = if FMA { self.0[i].fused(b.0[i], c.0[i]) } else { self.0[i] * b.0[i] + c.0[i] };
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
    fn less(self, o: Self) -> u32 {
        (0..W).fold(0, |bits, i| bits | u32::from(self.0[i] < o.0[i]) << i)
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
    fn exp2_in_range(self) -> Self {
        let magic = Self::splat(T::MAGIC);
        let t = self.add(magic);
        Self::polynomial(T::EXP2, self.sub(t.sub(magic))).zip(t, T::add_exponent)
    }
}
