//! Backward of layer norm and gate. With n = (x - mean) scale and dl = dy gelu(gate), per token:
//!
//! ```text
//! dgate = dy (n weight + bias) gelu'(gate);  dweight = sum of dl n;  dbias = sum of dl
//! dn = dl weight;  dx = scale (dn - mean of dn - n mean of (dn n))
//! ```

use crate::cpu;
use crate::error::{Result, expect_len};
use crate::simd::{Kernel, Vector, dispatch};
use crate::threads::for_each;

use super::add_to;
use super::gelu::{Normal, gelu_and_slope};
use super::map::{Group, Map, ragged, whole};
use super::norm::NormGate;

/// Where the gradients go; what is there before does not matter.
#[derive(Debug)]
pub struct NormGradients<'a, T> {
    /// Of x (tokens, D).
    pub x: &'a mut [T],
    /// Of the gate (tokens, D).
    pub gate: &'a mut [T],
    /// Of the weight (D,).
    pub weight: &'a mut [T],
    /// Of the bias (D,).
    pub bias: &'a mut [T],
}

/// Gradients for `dy` (tokens, D).
///
/// # Errors
/// [`crate::error::Error::Argument`] when a length does not fit the shape.
pub fn norm_backward<T: Normal>(
    problem: &NormGate<'_, T>,
    dy: Map<'_, T>,
    gradients: &mut NormGradients<'_, T>,
    threads: usize,
) -> Result<()> {
    let NormGate { tokens, channels, .. } = *problem;
    problem.check()?;
    dy.check("dy", tokens, channels)?;
    expect_len("dx", gradients.x.len(), tokens * channels)?;
    expect_len("dgate", gradients.gate.len(), tokens * channels)?;
    expect_len("dweight", gradients.weight.len(), channels)?;
    expect_len("dbias", gradients.bias.len(), channels)?;
    gradients.weight.fill(T::ZERO);
    gradients.bias.fill(T::ZERO);
    if tokens * channels == 0 {
        return Ok(());
    }
    let level = cpu::level()?;
    let size = problem.tokens_per_task() * channels;
    let mut sums = vec![T::ZERO; (tokens * channels).div_ceil(size) * 2 * channels];
    let outputs = gradients.x.chunks_mut(size).zip(gradients.gate.chunks_mut(size)).zip(sums.chunks_mut(2 * channels));
    for_each(threads, outputs.enumerate(), |(i, ((d_x, d_gate), sums))| {
        let (d_weight, d_bias) = sums.split_at_mut(channels);
        dispatch(level, Tokens { problem, dy, first: i * size / channels, d_x, d_gate, d_weight, d_bias });
    })?;
    for part in sums.chunks(2 * channels) {
        add_to(gradients.weight, &part[..channels]);
        add_to(gradients.bias, &part[channels..]);
    }
    Ok(())
}

/// Some tokens.
struct Tokens<'a, 'p, T> {
    problem: &'a NormGate<'p, T>,
    dy: Map<'a, T>,
    first: usize,
    d_x: &'a mut [T],
    d_gate: &'a mut [T],
    /// Zeros, then the sums over these tokens.
    d_weight: &'a mut [T],
    d_bias: &'a mut [T],
}

impl<T: Normal> Kernel for Tokens<'_, '_, T> {
    type Scalar = T;
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Scalar = T>>(mut self) {
        let channels = self.problem.channels;
        let count = T::from_f64(channels as f64);
        for i in 0..self.d_x.len() / channels {
            let (mean, scale) = self.problem.moments::<V>(self.problem.x.at(self.first + i));
            let mut sums = [V::zero(); 2];
            for group in whole::<V>(channels) {
                self.through_gate(i, group, (mean, scale), &mut sums);
            }
            if let Some(group) = ragged::<V>(channels) {
                self.through_gate(i, group, (mean, scale), &mut sums);
            }
            let along = [V::splat(sums[0].sum() / count), V::splat(sums[1].sum() / count)];
            for group in whole::<V>(channels) {
                self.through_norm(i, group, (mean, scale), along);
            }
            if let Some(group) = ragged::<V>(channels) {
                self.through_norm(i, group, (mean, scale), along);
            }
        }
    }
}

impl<T: Normal> Tokens<'_, '_, T> {
    /// Writes dgate, and dn in the place of dx, of a token; adds to all sums, of dn and dn n among them.
    #[inline(always)]
    fn through_gate<V: Vector<Scalar = T>, const WHOLE: bool>(
        &mut self,
        i: usize,
        group: Group<WHOLE>,
        (mean, scale): (V, V),
        sums: &mut [V; 2],
    ) {
        let (problem, token, out) = (self.problem, self.first + i, i * self.problem.channels);
        let normal = group.load::<V>(problem.x.at(token), 0).sub(mean).mul(scale);
        let (value, slope) = gelu_and_slope(group.load::<V>(problem.gate.at(token), 0));
        let (weight, bias): (V, V) = (group.load(problem.weight, 0), group.load(problem.bias, 0));
        let dy: V = group.load(self.dy.at(token), 0);
        group.store(dy.mul(normal.fma(weight, bias)).mul(slope), self.d_gate, out);
        let d = dy.mul(value);
        group.store(d.fma(normal, group.load(self.d_weight, 0)), self.d_weight, 0);
        group.store(d.add(group.load(self.d_bias, 0)), self.d_bias, 0);
        let d_normal = d.mul(weight);
        group.store(d_normal, self.d_x, out);
        *sums = [sums[0].add(d_normal), d_normal.fma(normal, sums[1])];
    }

    /// Turns dn of a token into dx, given the means of dn and dn n.
    #[inline(always)]
    fn through_norm<V: Vector<Scalar = T>, const WHOLE: bool>(
        &mut self,
        i: usize,
        group: Group<WHOLE>,
        (mean, scale): (V, V),
        along: [V; 2],
    ) {
        let out = i * self.problem.channels;
        let normal = group.load::<V>(self.problem.x.at(self.first + i), 0).sub(mean).mul(scale);
        let d_normal = group.load::<V>(self.d_x, out).sub(along[0]).sub(normal.mul(along[1]));
        group.store(d_normal.mul(scale), self.d_x, out);
    }
}
