//! Layer norm over channels and a GELU gate in one pass: y = (n * weight + bias) * gelu(gate).

use crate::cpu;
use crate::error::{Result, expect_len};
use crate::simd::{Kernel, Vector, dispatch};
use crate::threads::for_each;

use super::TASK;
use super::gelu::{Normal, gelu};
use super::map::{Group, Map, ragged, whole};

/// Inputs.
#[derive(Clone, Copy, Debug)]
pub struct NormGate<'a, T> {
    /// Tokens.
    pub tokens: usize,
    /// D.
    pub channels: usize,
    /// x (tokens, D).
    pub x: Map<'a, T>,
    /// weight (D,).
    pub weight: &'a [T],
    /// bias (D,).
    pub bias: &'a [T],
    /// gate (tokens, D).
    pub gate: Map<'a, T>,
    /// Added to the variance.
    pub eps: T,
}

impl<T: Normal> NormGate<'_, T> {
    /// Compares every length with the shape.
    pub(super) fn check(&self) -> Result<()> {
        self.x.check("x", self.tokens, self.channels)?;
        self.gate.check("gate", self.tokens, self.channels)?;
        expect_len("weight", self.weight.len(), self.channels)?;
        expect_len("bias", self.bias.len(), self.channels)
    }

    /// Tokens that make one task.
    pub(super) fn tokens_per_task(&self) -> usize {
        TASK.div_ceil(self.channels)
    }

    /// Mean and 1 / standard deviation of a token.
    #[inline(always)]
    pub(super) fn moments<V: Vector<Scalar = T>>(&self, x: &[T]) -> (V, V) {
        let count = T::from_f64(self.channels as f64);
        let mut sum = V::zero();
        for group in whole::<V>(self.channels) {
            sum = sum.add(group.load(x, 0));
        }
        if let Some(group) = ragged::<V>(self.channels) {
            sum = sum.add(group.load(x, 0));
        }
        let mean = V::splat(sum.sum() / count);
        let mut squares = V::zero();
        for group in whole::<V>(self.channels) {
            let centred = group.load::<V>(x, 0).sub(mean);
            squares = centred.fma(centred, squares);
        }
        if let Some(group) = ragged::<V>(self.channels) {
            let centred = group.only(group.load::<V>(x, 0).sub(mean));
            squares = centred.fma(centred, squares);
        }
        (mean, V::splat(T::ONE / (squares.sum() / count + self.eps).sqrt()))
    }

    /// Normalised, scaled, shifted and gated channels of a token.
    #[inline(always)]
    fn gated<V: Vector<Scalar = T>, const WHOLE: bool>(
        &self,
        group: Group<WHOLE>,
        (x, gate): (&[T], &[T]),
        (mean, scale): (V, V),
    ) -> V {
        let normal = group.load::<V>(x, 0).sub(mean).mul(scale);
        let affine = normal.fma(group.load(self.weight, 0), group.load(self.bias, 0));
        affine.mul(gelu(group.load(gate, 0)))
    }
}

/// Writes y (tokens, D).
///
/// # Errors
/// [`crate::error::Error::Argument`] when a length does not fit the shape.
pub fn norm_forward<T: Normal>(problem: &NormGate<'_, T>, y: &mut [T], threads: usize) -> Result<()> {
    problem.check()?;
    expect_len("y", y.len(), problem.tokens * problem.channels)?;
    if y.is_empty() {
        return Ok(());
    }
    let level = cpu::level()?;
    let tokens = problem.tokens_per_task();
    let parts = y.chunks_mut(tokens * problem.channels).enumerate();
    for_each(threads, parts, |(i, y)| dispatch(level, Tokens { problem, first: i * tokens, y }))
}

/// Some tokens of y.
struct Tokens<'a, 'p, T> {
    problem: &'a NormGate<'p, T>,
    first: usize,
    y: &'a mut [T],
}

impl<T: Normal> Kernel for Tokens<'_, '_, T> {
    type Scalar = T;
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Scalar = T>>(self) {
        let Self { problem, first, y } = self;
        for (i, y) in y.chunks_mut(problem.channels).enumerate() {
            let inputs = (problem.x.at(first + i), problem.gate.at(first + i));
            let moments = problem.moments::<V>(inputs.0);
            for group in whole::<V>(problem.channels) {
                group.store(problem.gated(group, inputs, moments), y, 0);
            }
            if let Some(group) = ragged::<V>(problem.channels) {
                group.store(problem.gated(group, inputs, moments), y, 0);
            }
        }
    }
}
