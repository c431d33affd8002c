//! Backward: one task per image, direction and bundle of channel groups walks the tiles in reverse.
//!
//! With g_t = dL/dh_t and a_t = exp(s_t A):
//!
//! ```text
//! g_t = C_t dy_t + a_{t+1} g_{t+1};   dB_t = sum_d g_t s_t u_t;   dC_t = sum_d dy_t h_t
//! dA = sum_t s_t a_t h_{t-1} g_t;     ds_t = u_t sum_n g_t B_t + sum_n A a_t h_{t-1} g_t
//! du_t = s_t sum_n g_t B_t + skip dy_t;   dv_t = ds_t softplus'(v_t)
//! ```
//!
//! No atomics: sums over channels run inside a task, then over bundles in order; sums over images run in order.

use crate::cpu;
use crate::error::{Result, expect_len};
use crate::simd::{Float, Vector, dispatch, without_subnormals};
use crate::threads::for_each;

use super::direction::{BUNDLE, BundleBackward};
use super::group::Part;
use super::problem::{Problem, Shape};

/// Where the gradient of every input goes, in the inputs' shapes; what is there before does not matter.
#[derive(Debug)]
pub struct Gradients<'a, T> {
    /// (B, L, D).
    pub x: &'a mut [T],
    /// (B, L, D), or empty unless delta was given.
    pub delta: &'a mut [T],
    /// (B, L, K, P).
    pub proj: &'a mut [T],
    /// (K, D, R).
    pub dt_weight: &'a mut [T],
    /// (K, D).
    pub dt_bias: &'a mut [T],
    /// (K, D, N).
    pub a: &'a mut [T],
    /// (K, D).
    pub skip: &'a mut [T],
}

/// Gradients for `dy` (B, L, D), given the checkpoints of [`super::forward`].
///
/// # Errors
/// [`crate::error::Error::Argument`] when a length does not fit the shape.
pub fn backward<T: Float>(
    problem: &Problem<'_, T>,
    dy: &[T],
    checkpoints: &[T],
    gradients: Gradients<'_, T>,
    threads: usize,
) -> Result<()> {
    problem.check()?;
    let shape = problem.shape;
    expect_len("dy", dy.len(), problem.x.len())?;
    expect_len("checkpoints", checkpoints.len(), shape.checkpoints::<T>())?;
    gradients.check(problem)?;
    let level = cpu::level()?;
    let threads = shape.threads(threads);
    let bundles = bundles::<T>(&shape);
    let mut parts: Vec<Option<Part<T>>> = (0..shape.batch * shape.directions * bundles).map(|_| None).collect();
    for_each(threads, parts.iter_mut().enumerate(), |(task, part)| {
        let (b, k) = (task / bundles / shape.directions, task / bundles % shape.directions);
        let first = task % bundles * BUNDLE;
        let bundle = BundleBackward { problem, dy, checkpoints, b, k, first };
        *part = Some(without_subnormals(|| dispatch(level, bundle)));
    })?;
    let parts: Vec<Part<T>> = parts.into_iter().flatten().collect();
    gradients.assemble(&shape, &parts, threads)?;
    parts.into_iter().for_each(Part::give_back);
    Ok(())
}

/// Bundles of all channel groups.
fn bundles<T: Float>(shape: &Shape) -> usize {
    shape.groups(T::Fused::W).div_ceil(BUNDLE)
}

/// Tokens put together by one task.
const TOKENS: usize = 256;

impl<T: Float> Gradients<'_, T> {
    fn check(&self, problem: &Problem<'_, T>) -> Result<()> {
        expect_len("gradient of x", self.x.len(), problem.x.len())?;
        expect_len("gradient of delta", self.delta.len(), problem.delta.map_or(0, <[T]>::len))?;
        expect_len("gradient of proj", self.proj.len(), problem.proj.len())?;
        expect_len("gradient of dt_weight", self.dt_weight.len(), problem.dt_weight.len())?;
        expect_len("gradient of dt_bias", self.dt_bias.len(), problem.dt_bias.len())?;
        expect_len("gradient of A", self.a.len(), problem.a.len())?;
        expect_len("gradient of skip", self.skip.len(), problem.skip.len())
    }

    /// Puts the parts (B, K, bundles) together: maps side by side, sums over directions, bundles and images in order.
    fn assemble(self, shape: &Shape, parts: &[Part<T>], threads: usize) -> Result<()> {
        let Shape { length, channels, rank, states, directions, .. } = *shape;
        let (row, bundles) = (shape.row(), bundles::<T>(shape));
        if parts.is_empty() {
            [self.dt_weight, self.dt_bias, self.a, self.skip].into_iter().for_each(|sum| sum.fill(T::ZERO));
            return Ok(());
        }
        for (part, i) in parts.iter().zip(0..) {
            let first = i / bundles % directions * channels + part.channels.start;
            let fresh = i < directions * bundles;
            add_up(&mut self.dt_weight[first * rank..], &part.dt_weight, fresh);
            add_up(&mut self.dt_bias[first..], &part.dt_bias, fresh);
            add_up(&mut self.a[first * states..], &part.a, fresh);
            add_up(&mut self.skip[first..], &part.skip, fresh);
        }
        let image = |i: usize| &parts[i / length * directions * bundles..][..directions * bundles];
        let blocks = |map: usize| TOKENS * map.max(1);
        for_each(threads, self.x.chunks_mut(blocks(channels)).enumerate(), |(block, x)| {
            for (i, x) in (block * TOKENS..).zip(x.chunks_mut(channels)) {
                for (part, p) in image(i).iter().zip(0..) {
                    let width = part.channels.len();
                    add_up(&mut x[part.channels.clone()], &part.x[i % length * width..][..width], p < bundles);
                }
            }
        })?;
        for_each(threads, self.delta.chunks_mut(blocks(channels)).enumerate(), |(block, delta)| {
            for (i, delta) in (block * TOKENS..).zip(delta.chunks_mut(channels)) {
                for part in image(i) {
                    let width = part.channels.len();
                    delta[part.channels.clone()].copy_from_slice(&part.delta[i % length * width..][..width]);
                }
            }
        })?;
        for_each(threads, self.proj.chunks_mut(blocks(directions * row)).enumerate(), |(block, proj)| {
            for (i, proj) in (block * TOKENS..).zip(proj.chunks_mut(directions * row)) {
                for (parts, proj) in image(i).chunks(bundles).zip(proj.chunks_mut(row)) {
                    for (part, p) in parts.iter().zip(0..) {
                        add_up(proj, &part.proj[i % length * row..][..row], p == 0);
                    }
                }
            }
        })
    }
}

/// Adds `part` to the front of `sum`, or writes it there if it is the first.
#[inline]
fn add_up<T: Float>(sum: &mut [T], part: &[T], first: bool) {
    let sum = &mut sum[..part.len()];
    if first {
        sum.copy_from_slice(part);
    } else {
        sum.iter_mut().zip(part).for_each(|(s, &p)| *s = *s + p);
    }
}
