//! Backward: one task per image and direction walks the tiles in reverse, recomputing states from checkpoints.
//!
//! With g_t = dL/dh_t and a_t = exp(s_t A):
//!
//! ```text
//! g_t = C_t dy_t + a_{t+1} g_{t+1};   dB_t = sum_d g_t s_t u_t;   dC_t = sum_d dy_t h_t
//! dA = sum_t s_t a_t h_{t-1} g_t;     ds_t = u_t sum_n g_t B_t + sum_n A a_t h_{t-1} g_t
//! du_t = s_t sum_n g_t B_t + skip dy_t;   dv_t = ds_t softplus'(v_t)
//! ```
//!
//! No atomics: sums over channels stay inside a task, sums over images run in order.

use rayon::prelude::*;

use crate::cpu;
use crate::error::Result;
use crate::simd::{Float, dispatch};
use crate::threads::pool;

use super::buffers::give;
use super::direction::DirectionBackward;
use super::group::Part;
use super::problem::{Problem, expect_len};

/// Gradients of every input, in the inputs' shapes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradients<T> {
    /// (B, L, D).
    pub x: Vec<T>,
    /// (B, L, D), empty unless delta was given.
    pub delta: Vec<T>,
    /// (B, L, K, P).
    pub proj: Vec<T>,
    /// (K, D, R).
    pub dt_weight: Vec<T>,
    /// (K, D).
    pub dt_bias: Vec<T>,
    /// (K, D, N).
    pub a: Vec<T>,
    /// (K, D).
    pub skip: Vec<T>,
}

/// Gradients for `dy` (B, L, D), given the checkpoints of [`super::forward`].
///
/// # Errors
/// [`crate::error::Error::Argument`] when a length does not fit the shape.
pub fn backward<T: Float>(
    problem: &Problem<'_, T>,
    dy: &[T],
    checkpoints: &[T],
    threads: usize,
) -> Result<Gradients<T>> {
    problem.check()?;
    let shape = problem.shape;
    expect_len("dy", dy.len(), problem.x.len())?;
    expect_len("checkpoints", checkpoints.len(), shape.checkpoints::<T>())?;
    let level = cpu::level()?;
    let run = |task| {
        let (b, k) = (task / shape.directions, task % shape.directions);
        dispatch(level, DirectionBackward { problem, dy, checkpoints, b, k })
    };
    pool(threads)?.install(|| {
        let parts: Vec<Part<T>> = (0..shape.batch * shape.directions).into_par_iter().map(run).collect();
        let gradients = assemble(problem, &parts);
        for part in parts {
            [part.x, part.delta, part.proj].into_iter().for_each(give);
        }
        Ok(gradients)
    })
}

/// Puts the parts together: maps side by side, parameters summed over images in order.
fn assemble<T: Float>(problem: &Problem<'_, T>, parts: &[Part<T>]) -> Gradients<T> {
    let shape = problem.shape;
    let (directions, row) = (shape.directions, shape.row());
    let mut x = vec![T::ZERO; problem.x.len()];
    let mut proj = vec![T::ZERO; problem.proj.len()];
    if !x.is_empty() {
        let image = shape.length * shape.channels;
        x.par_chunks_mut(image).zip(parts.par_chunks(directions)).for_each(|(x, parts)| {
            x.par_chunks_mut(SUM).enumerate().for_each(|(i, x)| {
                parts.iter().for_each(|part| add_to(x, &part.x[i * SUM..][..x.len()]));
            });
        });
    }
    if !proj.is_empty() {
        let image = shape.length * directions * row;
        proj.par_chunks_mut(image).zip(parts.par_chunks(directions)).for_each(|(proj, parts)| {
            proj.par_chunks_mut(directions * row).with_min_len(256).enumerate().for_each(|(token, proj)| {
                for (proj, part) in proj.chunks_mut(row).zip(parts) {
                    proj.copy_from_slice(&part.proj[token * row..][..row]);
                }
            });
        });
    }
    let sum = |len: usize, field: fn(&Part<T>) -> &Vec<T>| {
        let mut all = vec![T::ZERO; directions * len];
        for parts in parts.chunks(directions) {
            for (k, part) in parts.iter().enumerate() {
                add_to(&mut all[k * len..][..len], field(part));
            }
        }
        all
    };
    Gradients {
        delta: parts.iter().flat_map(|part| part.delta.iter().copied()).collect(),
        dt_weight: sum(shape.channels * shape.rank, |p| &p.dt_weight),
        dt_bias: sum(shape.channels, |p| &p.dt_bias),
        a: sum(shape.channels * shape.states, |p| &p.a),
        skip: sum(shape.channels, |p| &p.skip),
        x,
        proj,
    }
}

/// Values summed over directions by one task.
const SUM: usize = 1 << 14;

fn add_to<T: Float>(sum: &mut [T], part: &[T]) {
    sum.iter_mut().zip(part).for_each(|(s, &p)| *s = *s + p);
}
