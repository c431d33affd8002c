//! Forward: one task per image and bundle of channel groups walks all directions and adds them up in its own buffer.

use std::ops::Range;

use crate::cpu;
use crate::error::{Result, expect_len};
use crate::simd::{Float, Kernel, Vector, dispatch, without_subnormals};
use crate::threads::for_each;

use super::problem::{GroupParams, Problem, Shape};
use super::tile::{TILE, Tile, unrolled};
use crate::buffers::{give, take};

/// Tokens whose groups are put together by one task of the last pass.
const TOKENS_PER_MERGE: usize = 256;

/// Groups that a task takes through a tile together, at most: they share its rows of proj while those are near.
const BUNDLE: usize = 4;

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
    let threads = shape.threads(threads);
    let lanes = T::Fused::W;
    let split = Split::new(&shape, lanes, threads);
    let mut sums = take(split.parts * shape.batch * shape.groups(lanes) * shape.length * lanes);
    let tasks = tasks(&shape, &split, lanes, &mut sums, checkpoints);
    for_each(threads, tasks.into_iter(), |task| {
        without_subnormals(|| dispatch(level, TaskForward { problem, task }));
    })?;
    merge(&shape, split.parts, lanes, &sums, y, threads)?;
    give(sums);
    Ok(())
}

/// How the work is cut; every value is computed the same way and added in the same order for any cut.
struct Split {
    /// Groups per task.
    bundle: usize,
    /// Tasks that share the directions of a bundle: each writes sums of its own.
    parts: usize,
}

impl Split {
    /// As large bundles as keep all threads busy, and directions apart where there are more threads than groups.
    fn new(shape: &Shape, lanes: usize, threads: usize) -> Self {
        let groups = shape.groups(lanes);
        let all = shape.batch * groups;
        let busy = |bundle: &usize| {
            let rounds = (shape.batch * groups.div_ceil(*bundle)).div_ceil(threads.max(1));
            rounds * bundle * threads.max(1) <= all
        };
        let bundle = (1..=BUNDLE).rev().find(busy).unwrap_or(1);
        Self { bundle, parts: if threads > all { shape.directions } else { 1 } }
    }
}

/// Some directions of some channel groups of one image.
struct Task<'a, T> {
    b: usize,
    groups: Vec<GroupTask<'a, T>>,
    directions: Range<usize>,
}

impl<T: Float> Task<'_, T> {
    /// Asks for a tile to come, in direction `k`.
    #[inline(always)]
    fn prefetch<V: Vector<Scalar = T>>(&self, problem: &Problem<'_, T>, k: usize, tokens: &[u32]) {
        let first = self.groups[0].number * V::W;
        let last = problem.shape.channels.min(first + self.groups.len() * V::W);
        problem.prefetch_proj::<V>(self.b, k, tokens);
        problem.prefetch_group::<V>(problem.x, self.b, first..last, tokens);
        for group in &self.groups {
            for &token in tokens {
                V::prefetch(&group.y[token as usize * V::W..][..V::W]);
            }
        }
    }
}

/// What a task writes of one group.
struct GroupTask<'a, T> {
    number: usize,
    /// (L, W), the sum over the task's directions.
    y: &'a mut [T],
    /// (tiles, N, W) of each of the task's directions, or none.
    checkpoints: Vec<&'a mut [T]>,
}

/// Cuts the sums (parts, B, G, L, W) and the checkpoints (B, G, K, tiles, N, W) up.
fn tasks<'a, T: Float>(
    shape: &Shape,
    split: &Split,
    lanes: usize,
    sums: &'a mut [T],
    checkpoints: Option<&'a mut [T]>,
) -> Vec<Task<'a, T>> {
    let (groups, directions) = (shape.groups(lanes), shape.directions);
    let all = shape.batch * groups;
    let mut saved: Vec<Vec<&mut [T]>> = (0..all * split.parts).map(|_| Vec::new()).collect();
    if let Some(checkpoints) = checkpoints {
        let size = shape.tiles() * shape.states * lanes;
        for (i, slot) in checkpoints.chunks_mut(size.max(1)).enumerate() {
            let (group, k) = (i / directions, i % directions);
            saved[k * split.parts / directions * all + group].push(slot);
        }
    }
    let mut tasks: Vec<Task<'a, T>> = Vec::new();
    for (i, (y, checkpoints)) in sums.chunks_mut(shape.length * lanes).zip(saved).enumerate() {
        let (part, b, number) = (i / all, i % all / groups, i % groups);
        if number % split.bundle == 0 {
            let directions = part * directions / split.parts..(part + 1) * directions / split.parts;
            tasks.push(Task { b, groups: Vec::new(), directions });
        }
        if let Some(task) = tasks.last_mut() {
            task.groups.push(GroupTask { number, y, checkpoints });
        }
    }
    tasks
}

/// Adds up the parts of (parts, B, G, L, W) in order, to (B, L, D).
fn merge<T: Float>(shape: &Shape, parts: usize, lanes: usize, sums: &[T], y: &mut [T], threads: usize) -> Result<()> {
    let (channels, groups) = (shape.channels, shape.groups(lanes));
    let part = sums.len() / parts;
    for_each(threads, y.chunks_mut(TOKENS_PER_MERGE * channels).enumerate(), |(block, y)| {
        for (i, y) in (block * TOKENS_PER_MERGE..).zip(y.chunks_mut(channels)) {
            let (b, token) = (i / shape.length, i % shape.length);
            for (group, y) in y.chunks_mut(lanes).enumerate() {
                let from = ((b * groups + group) * shape.length + token) * lanes;
                let mut sum = T::Fused::from_lanes(&sums[from..]);
                for from in (from + part..sums.len()).step_by(part) {
                    sum = sum.add(T::Fused::from_lanes(&sums[from..]));
                }
                sum.store(y);
            }
        }
    })
}

struct TaskForward<'a, 'p, 't, T> {
    problem: &'a Problem<'p, T>,
    task: Task<'t, T>,
}

impl<T: Float> Kernel for TaskForward<'_, '_, '_, T> {
    type Scalar = T;
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Scalar = T>>(self) {
        let Self { problem, mut task } = self;
        let shape = problem.shape;
        let mut tile = Tile::<V>::new();
        let mut rows = vec![T::ZERO; TILE * shape.row()];
        let mut states = vec![vec![V::zero(); shape.states]; task.groups.len()];
        for (part, k) in task.directions.clone().enumerate() {
            let params: Vec<_> = task.groups.iter().map(|g| GroupParams::<V>::new(problem, k, g.number)).collect();
            states.iter_mut().for_each(|states| states.fill(V::zero()));
            for (i, tokens) in problem.orders.tiles(k).enumerate() {
                task.prefetch::<V>(problem, k, problem.orders.tile(k, i + 1));
                problem.load_rows(&mut rows, (task.b, k), tokens);
                for ((group, params), states) in task.groups.iter_mut().zip(&params).zip(&mut states) {
                    if let Some(slots) = group.checkpoints.get_mut(part) {
                        let slot = &mut slots[i * shape.states * V::W..][..shape.states * V::W];
                        slot.chunks_mut(V::W).zip(&*states).for_each(|(slot, state)| state.store(slot));
                    }
                    tile.fill::<false>(problem, params, (task.b, group.number * V::W), tokens, &rows);
                    scan_tile(states, params, &tile, tokens, &rows, (group.y, part == 0));
                }
            }
        }
    }
}

/// Scans a tile of one group and adds the result to `y`, or writes it there for the first direction.
#[inline(always)]
fn scan_tile<V: Vector>(
    states: &mut [V],
    params: &GroupParams<V>,
    tile: &Tile<V>,
    tokens: &[u32],
    rows: &[V::Scalar],
    (y, first): (&mut [V::Scalar], bool),
) {
    let mut sums = [V::zero(); TILE];
    if tile.is_tame(params.largest, tokens.len()) {
        advance_tile::<V, false>(states, &params.a2, tile, &mut sums[..tokens.len()], rows);
    } else {
        advance_tile::<V, true>(states, &params.a2, tile, &mut sums[..tokens.len()], rows);
    }
    for (t, &token) in tokens.iter().enumerate() {
        let y = &mut y[token as usize * V::W..][..V::W];
        let sum = params.skip.fma(tile.u[t], sums[t]);
        let sum = if first { sum } else { V::from_lanes(y).add(sum) };
        sum.write_lanes(y);
    }
}

/// States that stay in registers over a tile. With sixteen the loop is slower on its own, 8.3 cycles instead of 7.5.
const BLOCK: usize = 8;

/// Advances all states over a tile; adds C . h to `y`.
#[inline(always)]
fn advance_tile<V: Vector, const CLAMP: bool>(
    states: &mut [V],
    a2: &[V],
    tile: &Tile<V>,
    y: &mut [V],
    rows: &[V::Scalar],
) {
    let whole = states.len() / BLOCK * BLOCK;
    for n in (0..whole).step_by(BLOCK) {
        advance_states::<V, BLOCK, CLAMP>(states, a2, tile, y, (rows, n));
    }
    for n in whole..states.len() {
        advance_states::<V, 1, CLAMP>(states, a2, tile, y, (rows, n));
    }
}

/// Advances S states from `n` on over a tile; adds their part of C . h to `y`.
#[inline(always)]
fn advance_states<V: Vector, const S: usize, const CLAMP: bool>(
    states: &mut [V],
    a2: &[V],
    tile: &Tile<V>,
    y: &mut [V],
    (rows, n): (&[V::Scalar], usize),
) {
    let row = rows.len() / TILE;
    let (input, output) = (row - 2 * states.len() + n, row - states.len() + n);
    let mut h = [V::zero(); S];
    h.copy_from_slice(&states[n..n + S]);
    let a2 = &a2[n..n + S];
    for (t, (y, row)) in y.iter_mut().zip(rows.chunks_exact(row)).enumerate() {
        let (input, output) = (&row[input..][..S], &row[output..][..S]);
        let mut sum = *y;
        unrolled!(s < S, {
            h[s] = tile.advance::<CLAMP>(t, a2[s], h[s], tile.step_u[t].mul(V::splat(input[s])));
            sum = h[s].fma(V::splat(output[s]), sum);
        });
        *y = sum;
    }
    states[n..n + S].copy_from_slice(&h);
}
