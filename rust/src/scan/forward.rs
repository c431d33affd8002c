//! Forward: one task per image and channel group walks all directions and adds them up in its own buffer.

use crate::cpu;
use crate::error::Result;
use crate::simd::{Float, Kernel, Vector, dispatch};
use crate::threads::for_each;

use super::buffers::{give, take};
use super::problem::{GroupParams, Problem, Shape, expect_len};
use super::tile::{TILE, Tile, unrolled};

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
    let mut grouped = take(tasks * shape.length * lanes); // (B, G, L, W)
    let work = grouped.chunks_mut(shape.length * lanes).zip(per_task.iter_mut()).enumerate();
    for_each(threads, work, |(task, (y, checkpoints))| {
        let (b, group) = (task / groups, task % groups);
        dispatch(level, GroupForward { problem, b, group, y, checkpoints: checkpoints.as_deref_mut() });
    })?;
    merge_groups(&shape, lanes, &grouped, y, threads)?;
    give(grouped);
    Ok(())
}

/// (B, G, L, W) to (B, L, D).
fn merge_groups<T: Float>(shape: &Shape, lanes: usize, grouped: &[T], y: &mut [T], threads: usize) -> Result<()> {
    let (channels, groups) = (shape.channels, shape.groups(lanes));
    for_each(threads, y.chunks_mut(TOKENS_PER_MERGE * channels).enumerate(), |(block, y)| {
        for (i, y) in (block * TOKENS_PER_MERGE..).zip(y.chunks_mut(channels)) {
            let (b, token) = (i / shape.length, i % shape.length);
            for (group, y) in y.chunks_mut(lanes).enumerate() {
                let from = ((b * groups + group) * shape.length + token) * lanes;
                y.copy_from_slice(&grouped[from..from + y.len()]);
            }
        }
    })
}

/// All directions of one channel group of one image.
struct GroupForward<'a, 'p, T> {
    problem: &'a Problem<'p, T>,
    b: usize,
    group: usize,
    /// (L, W), the first direction writes it.
    y: &'a mut [T],
    /// (K, tiles, N, W).
    checkpoints: Option<&'a mut [T]>,
}

impl<T: Float> Kernel for GroupForward<'_, '_, T> {
    type Scalar = T;
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Scalar = T>>(self) {
        let Self { problem, b, group, y, mut checkpoints } = self;
        let shape = problem.shape;
        let size = shape.states * V::W;
        let mut tile = Tile::<V>::new();
        let mut sums = [V::zero(); TILE];
        let mut states = vec![V::zero(); shape.states];
        for (k, order) in problem.orders.iter().enumerate() {
            let params = GroupParams::<V>::new(problem, k, group);
            states.fill(V::zero());
            for (i, tokens) in order.chunks(TILE).enumerate() {
                if let Some(checkpoints) = &mut checkpoints {
                    let slot = &mut checkpoints[(k * shape.tiles() + i) * size..][..size];
                    slot.chunks_mut(V::W).zip(&states).for_each(|(slot, state)| state.store(slot));
                }
                tile.fill::<false>(problem, &params, (b, k, group * V::W), tokens);
                let rows = |t: usize| problem.proj_row(b, tokens[t] as usize, k);
                for t in 0..tokens.len() {
                    sums[t] = params.skip.mul(tile.u[t]);
                }
                if tile.is_tame(params.largest, tokens.len()) {
                    advance_tile::<V, false>(&mut states, &params.a2, &tile, &mut sums[..tokens.len()], rows);
                } else {
                    advance_tile::<V, true>(&mut states, &params.a2, &tile, &mut sums[..tokens.len()], rows);
                }
                for (sum, &token) in sums.iter().zip(tokens) {
                    let y = &mut y[token as usize * V::W..][..V::W];
                    let sum = if k == 0 { *sum } else { V::from_lanes(y).add(*sum) };
                    sum.write_lanes(y);
                }
            }
        }
    }
}

/// States that stay in registers over a tile, of a type that allows it.
const BLOCK: usize = 16;

/// Advances all states over a tile; adds C . h to `y`.
#[inline(always)]
fn advance_tile<'r, V: Vector, const CLAMP: bool>(
    states: &mut [V],
    a2: &[V],
    tile: &Tile<V>,
    y: &mut [V],
    rows: impl Fn(usize) -> (&'r [V::Scalar], &'r [V::Scalar], &'r [V::Scalar]),
) {
    let whole = if V::BLOCKS { states.len() / BLOCK * BLOCK } else { 0 };
    for n in (0..whole).step_by(BLOCK) {
        advance_states::<V, BLOCK, CLAMP>(&mut states[n..], &a2[n..], tile, y, |t| {
            let (_, input, output) = rows(t);
            (&input[n..], &output[n..])
        });
    }
    for n in whole..states.len() {
        advance_states::<V, 1, CLAMP>(&mut states[n..], &a2[n..], tile, y, |t| {
            let (_, input, output) = rows(t);
            (&input[n..], &output[n..])
        });
    }
}

/// Advances S states over a tile; adds their part of C . h to `y`.
#[inline(always)]
fn advance_states<'r, V: Vector, const S: usize, const CLAMP: bool>(
    states: &mut [V],
    a2: &[V],
    tile: &Tile<V>,
    y: &mut [V],
    rows: impl Fn(usize) -> (&'r [V::Scalar], &'r [V::Scalar]),
) {
    let mut h = [V::zero(); S];
    h.copy_from_slice(&states[..S]);
    let a2 = &a2[..S];
    for (t, y) in y.iter_mut().enumerate() {
        let (input, output) = rows(t);
        let (input, output) = (&input[..S], &output[..S]);
        let mut sums = [*y, V::zero(), V::zero(), V::zero()]; // four chains
        unrolled!(s < S, {
            let decay = tile.decay::<CLAMP>(t, a2[s]);
            h[s] = decay.fma(h[s], tile.step_u[t].mul(V::splat(input[s])));
            sums[s % 4] = h[s].fma(V::splat(output[s]), sums[s % 4]);
        });
        *y = sums[0].add(sums[1]).add(sums[2].add(sums[3]));
    }
    states[..S].copy_from_slice(&h);
}
