//! Forward: one task per image and channel group walks all directions and adds them up in its own buffer.

use rayon::prelude::*;

use crate::cpu;
use crate::error::Result;
use crate::simd::{Float, Kernel, Vector, dispatch};
use crate::threads::pool;

use super::problem::{GroupParams, Problem, Shape, expect_len};
use super::tile::{TILE, Tile};

/// Tokens whose groups are put together by one task of the last pass.
const TOKENS_PER_MERGE: usize = 256;

/// Writes y (B, L, D), the sum over directions, and the checkpoints if there is room for them (else pass none).
///
/// # Errors
/// [`crate::error::Error::Argument`] when a length does not fit the shape.
pub fn forward<T: Float>(
    problem: &Problem<'_, T>,
    y: &mut [T],
    checkpoints: Option<&mut [T]>,
    threads: usize,
) -> Result<()> {
    problem.check()?;
    let shape = problem.shape;
    expect_len("y", y.len(), problem.x.len())?;
    if let Some(checkpoints) = &checkpoints {
        expect_len("checkpoints", checkpoints.len(), shape.checkpoints::<T>())?;
    }
    if y.is_empty() {
        return Ok(());
    }
    let level = cpu::level()?;
    let lanes = T::Fused::W;
    let groups = shape.groups(lanes);
    let tasks = shape.batch * groups;
    let mut per_task: Vec<Option<&mut [T]>> = match checkpoints {
        Some(all) if !all.is_empty() => all.chunks_mut(all.len() / tasks).map(Some).collect(),
        _ => (0..tasks).map(|_| None).collect(),
    };
    let mut grouped = vec![T::ZERO; tasks * shape.length * lanes]; // (B, G, L, W)
    pool(threads)?.install(|| {
        let work = grouped
            .par_chunks_mut(shape.length * lanes)
            .zip(per_task.par_iter_mut())
            .enumerate();
        work.for_each(|(task, (y, checkpoints))| {
            let (b, group) = (task / groups, task % groups);
            dispatch(
                level,
                GroupForward {
                    problem,
                    b,
                    group,
                    y,
                    checkpoints: checkpoints.as_deref_mut(),
                },
            );
        });
        merge_groups(&shape, lanes, &grouped, y);
    });
    Ok(())
}

/// (B, G, L, W) to (B, L, D).
fn merge_groups<T: Float>(shape: &Shape, lanes: usize, grouped: &[T], y: &mut [T]) {
    let (channels, groups) = (shape.channels, shape.groups(lanes));
    let images = y.par_chunks_mut(shape.length * channels).enumerate();
    images.for_each(|(b, y)| {
        y.par_chunks_mut(TOKENS_PER_MERGE * channels)
            .enumerate()
            .for_each(|(block, y)| {
                for (token, y) in y.chunks_mut(channels).enumerate() {
                    for (group, y) in y.chunks_mut(lanes).enumerate() {
                        let token = block * TOKENS_PER_MERGE + token;
                        let from = ((b * groups + group) * shape.length + token) * lanes;
                        y.copy_from_slice(&grouped[from..from + y.len()]);
                    }
                }
            });
    });
}

/// All directions of one channel group of one image.
struct GroupForward<'a, 'p, T> {
    problem: &'a Problem<'p, T>,
    b: usize,
    group: usize,
    /// (L, W), zero.
    y: &'a mut [T],
    /// (K, tiles, N, W).
    checkpoints: Option<&'a mut [T]>,
}

impl<T: Float> Kernel for GroupForward<'_, '_, T> {
    type Scalar = T;
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Scalar = T>>(self) {
        let Self {
            problem,
            b,
            group,
            y,
            mut checkpoints,
        } = self;
        let shape = problem.shape;
        let size = shape.states * V::W;
        let mut tile = Tile::<V>::new();
        let mut states = vec![V::zero(); shape.states];
        for (k, order) in problem.orders.iter().enumerate() {
            let params = GroupParams::<V>::new(problem, k, group);
            states.fill(V::zero());
            for (i, tokens) in order.chunks(TILE).enumerate() {
                if let Some(checkpoints) = &mut checkpoints {
                    let slot = &mut checkpoints[(k * shape.tiles() + i) * size..][..size];
                    slot.chunks_mut(V::W)
                        .zip(&states)
                        .for_each(|(slot, state)| state.store(slot));
                }
                tile.fill(problem, &params, (b, k, group * V::W), tokens);
                for (t, &token) in tokens.iter().enumerate() {
                    let (_, input, output) = problem.proj_row(b, token as usize, k);
                    let y = &mut y[token as usize * V::W..][..V::W];
                    let skipped = params.skip.fma(tile.u[t], V::load(y));
                    token_forward(
                        &mut states,
                        &params.a2,
                        (tile.step[t], tile.step_u[t]),
                        (input, output),
                        skipped,
                    )
                    .store(y);
                }
            }
        }
    }
}

/// Advances the states by one token; returns `y` plus C . h.
#[inline(always)]
fn token_forward<V: Vector>(
    states: &mut [V],
    a2: &[V],
    (step, step_u): (V, V),
    (input, output): (&[V::Scalar], &[V::Scalar]),
    mut y: V,
) -> V {
    for (((h, &a2), &input), &output) in states.iter_mut().zip(a2).zip(input).zip(output) {
        let decay = step.mul(a2).exp2();
        *h = decay.fma(*h, step_u.mul(V::splat(input)));
        y = h.fma(V::splat(output), y);
    }
    y
}
