//! What the backward pass keeps per channel group, and the gradients it ends up in.

use std::ops::Range;

use crate::simd::{Float, Vector};

use super::problem::{GroupParams, Shape};
use super::tile::{TILE, Tile};
use crate::buffers::{give, take};

/// Gradients of some channels (D' of them) of one image and direction.
pub(super) struct Part<T> {
    pub(super) channels: Range<usize>,
    /// (L, D').
    pub(super) x: Vec<T>,
    /// (L, D') or empty.
    pub(super) delta: Vec<T>,
    /// (L, P), of these channels.
    pub(super) proj: Vec<T>,
    /// (D', R).
    pub(super) dt_weight: Vec<T>,
    /// (D',).
    pub(super) dt_bias: Vec<T>,
    /// (D', N).
    pub(super) a: Vec<T>,
    /// (D',).
    pub(super) skip: Vec<T>,
}

impl<T: Float> Part<T> {
    /// Room for the gradients; maps are not cleared.
    pub(super) fn new(shape: &Shape, channels: Range<usize>, with_delta: bool) -> Self {
        let (count, map) = (channels.len(), shape.length * channels.len());
        Self {
            channels,
            x: take(map),
            delta: take(if with_delta { map } else { 0 }),
            proj: take(shape.length * shape.row()),
            dt_weight: vec![T::ZERO; count * shape.rank],
            dt_bias: vec![T::ZERO; count],
            a: vec![T::ZERO; count * shape.states],
            skip: vec![T::ZERO; count],
        }
    }

    /// Asks for the rows of a tile to come: they are written when its states are done.
    #[inline(always)]
    pub(super) fn prefetch<V: Vector<Scalar = T>>(&self, tokens: &[u32]) {
        let (width, row) = (self.channels.len(), self.proj.len() / (self.x.len() / self.channels.len()));
        for &token in tokens {
            V::prefetch(&self.x[token as usize * width..][..width]);
            V::prefetch(&self.proj[token as usize * row..][..row]);
        }
    }

    /// Hands the maps back.
    pub(super) fn give_back(self) {
        [self.x, self.delta, self.proj].into_iter().for_each(give);
    }

    /// Where `channels` lie in rows of the part.
    #[inline(always)]
    pub(super) fn columns(&self, channels: &Range<usize>) -> Range<usize> {
        channels.start - self.channels.start..channels.end - self.channels.start
    }
}

/// What a channel group carries from tile to tile, and its part of the tile at hand.
pub(super) struct Group<V> {
    pub(super) number: usize,
    pub(super) channels: Range<usize>,
    pub(super) params: GroupParams<V>,
    /// a_{t+1} g_{t+1} per state.
    pub(super) carry: Vec<V>,
    pub(super) d_dt_weight: Vec<V>,
    pub(super) d_dt_bias: V,
    pub(super) d_a: Vec<V>,
    pub(super) d_skip: V,
    pub(super) tile: Tile<V>,
    pub(super) dy: [V; TILE],
    /// sum_n g B and sum_n A a h g.
    pub(super) sum_gb: [V; TILE],
    pub(super) sum_a: [V; TILE],
    /// dL / dv_t.
    pub(super) d_v: [V; TILE],
}

impl<V: Vector> Group<V> {
    /// Adds a tile to the gradients of C columns of W from `first` on, given rows `[dt | B | C]` of its tokens.
    #[inline(always)]
    pub(super) fn weigh<const C: usize>(&mut self, rows: &[V::Scalar], first: usize, count: usize) {
        let row = rows.len() / TILE;
        let mut sums = [V::zero(); C];
        for t in 0..count.min(TILE) {
            let dt = &rows[t * row + first..][..C];
            for i in 0..C {
                sums[i] = self.d_v[t].fma(V::splat(dt[i]), sums[i]);
            }
        }
        for i in 0..C {
            self.d_dt_weight[first + i] = self.d_dt_weight[first + i].add(sums[i]);
        }
    }

    /// Writes the parameter gradients into the part.
    #[inline(always)]
    pub(super) fn write(&self, part: &mut Part<V::Scalar>) {
        let columns = part.columns(&self.channels);
        self.d_dt_bias.store(&mut part.dt_bias[columns.clone()]);
        self.d_skip.store(&mut part.skip[columns.clone()]);
        write_columns(&self.d_dt_weight, &mut part.dt_weight, columns.clone());
        write_columns(&self.d_a, &mut part.a, columns);
    }
}

/// States that are walked together in registers; likewise ranks, and tokens of a sum.
pub(super) const BLOCK: usize = 4;

/// Gradients of the projected steps: sums over channels, into the tokens' rows.
#[inline(always)]
pub(super) fn steps_to_proj<V: Vector>(
    groups: &[Group<V>],
    rows: &mut [V::Scalar],
    (rank, row): (usize, usize),
    tokens: &[u32],
) {
    let whole = rank / BLOCK * BLOCK;
    for (block, tokens) in tokens.chunks(BLOCK).enumerate() {
        for first in (0..whole).step_by(BLOCK) {
            sum_lanes::<V, BLOCK>(&weighed(groups, block * BLOCK, first), rows, (first, row), tokens);
        }
        for first in whole..rank {
            sum_lanes::<V, 1>(&weighed(groups, block * BLOCK, first), rows, (first, row), tokens);
        }
    }
}

/// dv times the weights of C ranks, over groups: [`BLOCK`] tokens from `t` on.
#[inline(always)]
fn weighed<V: Vector, const C: usize>(groups: &[Group<V>], t: usize, first: usize) -> [[V; C]; BLOCK] {
    let mut sums = [[V::zero(); C]; BLOCK];
    for group in groups {
        let weights = &group.params.dt_weight[first..first + C];
        let d_v = &group.d_v[t..t + BLOCK];
        for i in 0..BLOCK {
            for r in 0..C {
                sums[i][r] = d_v[i].fma(weights[r], sums[i][r]);
            }
        }
    }
    sums
}

/// Sums lanes of S columns, of [`BLOCK`] tokens, into columns `first ..` of the tokens' rows.
#[inline(always)]
pub(super) fn sum_lanes<V: Vector, const S: usize>(
    columns: &[[V; S]; BLOCK],
    rows: &mut [V::Scalar],
    (first, row): (usize, usize),
    tokens: &[u32],
) {
    let (mut lanes, mut sums) = ([V::zero(); 16], [V::Scalar::ZERO; 16]);
    for i in 0..BLOCK {
        for s in 0..S {
            lanes[i * BLOCK + s] = columns[i][s];
        }
    }
    V::sum_each(&lanes, &mut sums);
    for (sums, &token) in sums.chunks(BLOCK).zip(tokens) {
        rows[token as usize * row + first..][..S].copy_from_slice(&sums[..S]);
    }
}

/// Vectors by column to rows by channel: (width, W) to (D, width).
#[inline(always)]
fn write_columns<V: Vector>(columns: &[V], rows: &mut [V::Scalar], channels: Range<usize>) {
    for (i, column) in columns.iter().enumerate() {
        let mut lanes = [V::Scalar::ZERO; 64];
        column.store(&mut lanes[..V::W]);
        for (&lane, channel) in lanes.iter().zip(channels.clone()) {
            rows[channel * columns.len() + i] = lane;
        }
    }
}
