//! One scan to be done: sizes, inputs, and the checks that make indexing safe.

use std::ops::Range;

use crate::error::{Error, Result, expect_len};
use crate::simd::{Float, Vector};

use super::tile::TILE;

/// Sizes; see the legend of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// B.
    pub batch: usize,
    /// L.
    pub length: usize,
    /// D.
    pub channels: usize,
    /// N.
    pub states: usize,
    /// R; 0 when `delta` is given.
    pub rank: usize,
    /// K.
    pub directions: usize,
}

/// State updates that one thread does in about ten microseconds.
const UPDATES_PER_CALL_OF_ONE: usize = 1 << 16;

impl Shape {
    /// P: values per token and direction.
    pub fn row(&self) -> usize {
        self.rank + 2 * self.states
    }

    /// Channel groups of `lanes` channels, the last one possibly ragged.
    pub fn groups(&self, lanes: usize) -> usize {
        self.channels.div_ceil(lanes)
    }

    /// Of the threads asked for, as many as pay: one where waking another takes longer than the work.
    pub(super) fn threads(&self, asked: usize) -> usize {
        let updates = self.batch * self.length * self.channels * self.directions * self.states;
        if updates < UPDATES_PER_CALL_OF_ONE { 1 } else { asked }
    }

    /// Tiles of tokens.
    pub fn tiles(&self) -> usize {
        self.length.div_ceil(TILE)
    }

    /// Length of the checkpoints (B, G, K, tiles, N, lanes): the state before each tile.
    pub fn checkpoints<T: Float>(&self) -> usize {
        let lanes = T::Fused::W;
        self.batch * self.groups(lanes) * self.directions * self.tiles() * self.states * lanes
    }
}

/// Inputs of a scan, row-major.
#[derive(Clone, Debug)]
pub struct Problem<'a, T> {
    /// Sizes.
    pub shape: Shape,
    /// In which the directions take the tokens.
    pub orders: Orders,
    /// x (B, L, D).
    pub x: &'a [T],
    /// delta (B, L, D) before bias and softplus, where it is not projected.
    pub delta: Option<&'a [T]>,
    /// (B, L, K, P).
    pub proj: &'a [T],
    /// W (K, D, R).
    pub dt_weight: &'a [T],
    /// bias (K, D).
    pub dt_bias: &'a [T],
    /// A (K, D, N).
    pub a: &'a [T],
    /// skip (K, D).
    pub skip: &'a [T],
    /// Apply softplus to v, or take it as it is.
    pub softplus: bool,
}

impl<T: Float> Problem<'_, T> {
    /// Compares every length with the shape.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the input that does not fit.
    pub fn check(&self) -> Result<()> {
        let s = &self.shape;
        let tokens = s.batch * s.length;
        expect_len("x", self.x.len(), tokens * s.channels)?;
        expect_len("delta", self.delta.map_or(tokens * s.channels, <[T]>::len), tokens * s.channels)?;
        expect_len("proj", self.proj.len(), tokens * s.directions * s.row())?;
        expect_len("dt_weight", self.dt_weight.len(), s.directions * s.channels * s.rank)?;
        expect_len("dt_bias", self.dt_bias.len(), s.directions * s.channels)?;
        expect_len("A", self.a.len(), s.directions * s.channels * s.states)?;
        expect_len("skip", self.skip.len(), s.directions * s.channels)?;
        expect_len("orders", self.orders.0.len(), s.directions)?;
        for order in &self.orders.0 {
            expect_len("order", order.len(), s.length)?;
        }
        if s.directions > 1 && self.delta.is_some() {
            return Err(Error::Argument("delta is for one direction only".to_owned()));
        }
        Ok(())
    }

    /// Token `token` of image `b` of a (B, L, `width`) array, columns `columns`.
    #[inline(always)]
    pub(super) fn row<'s>(&self, array: &'s [T], b: usize, token: usize, width: usize) -> &'s [T] {
        &array[(b * self.shape.length + token) * width..][..width]
    }
}

impl<T: Float> Problem<'_, T> {
    /// Puts the rows of proj of a tile side by side in `rows`, (TILE, P): in most orders they lie far apart, and are
    /// waited for together here instead of one by one in the recurrence.
    #[inline(always)]
    pub(super) fn load_rows(&self, rows: &mut [T], (b, k): (usize, usize), tokens: &[u32]) {
        let Shape { length, directions, .. } = self.shape;
        let row = self.shape.row();
        for (to, &token) in rows.chunks_mut(row.max(1)).zip(tokens) {
            let from = ((b * length + token as usize) * directions + k) * row;
            to.copy_from_slice(&self.proj[from..from + row]);
        }
    }

    /// Asks for the rows of proj of a tile to come.
    #[inline(always)]
    pub(super) fn prefetch_proj<V: Vector<Scalar = T>>(&self, b: usize, k: usize, tokens: &[u32]) {
        let Shape { length, directions, .. } = self.shape;
        let row = self.shape.row();
        for &token in tokens {
            V::prefetch(&self.proj[((b * length + token as usize) * directions + k) * row..][..row]);
        }
    }

    /// Asks for `channels` of a (B, L, D) array in a tile to come.
    #[inline(always)]
    pub(super) fn prefetch_group<V: Vector<Scalar = T>>(
        &self,
        array: &[T],
        b: usize,
        channels: Range<usize>,
        tokens: &[u32],
    ) {
        for &token in tokens {
            V::prefetch(&self.row(array, b, token as usize, self.shape.channels)[channels.clone()]);
        }
    }
}

/// Parameters of `W` channels in one direction, one vector per rank and state.
pub(super) struct GroupParams<V> {
    pub(super) dt_weight: Vec<V>,
    pub(super) dt_bias: V,
    /// A times log2(e): the kernels use 2^x.
    pub(super) a2: Vec<V>,
    /// The largest |a2| of each channel.
    pub(super) largest: V,
    pub(super) a: Vec<V>,
    pub(super) skip: V,
}

impl<V: Vector> GroupParams<V> {
    /// Gathers channels `group * W ..`; channels beyond D are zero.
    #[inline(always)]
    pub(super) fn new(problem: &Problem<'_, V::Scalar>, k: usize, group: usize) -> Self {
        let Shape { channels, states, rank, .. } = problem.shape;
        let first = k * channels + group * V::W;
        let rows = first..first + V::W.min(channels - group * V::W);
        let a = columns::<V>(problem.a, states, rows.clone());
        let mut a2 = a.clone();
        let mut largest = V::zero();
        for a2 in &mut a2 {
            *a2 = a2.mul(V::splat(V::Scalar::LOG2_E));
            largest = a2.abs().max(largest);
        }
        Self {
            dt_weight: columns(problem.dt_weight, rank, rows.clone()),
            dt_bias: V::load(&problem.dt_bias[rows.clone()]),
            a2,
            largest,
            a,
            skip: V::load(&problem.skip[rows]),
        }
    }
}

/// Columns of some rows, at most W, of a (rows, width) array; missing lanes are zero.
#[inline(always)]
fn columns<V: Vector>(array: &[V::Scalar], width: usize, rows: Range<usize>) -> Vec<V> {
    let mut columns = Vec::with_capacity(width);
    for i in 0..width {
        let mut lanes = [V::Scalar::ZERO; 16]; // loops: closures here are not inlined
        for (lane, row) in lanes[..rows.len()].iter_mut().zip(rows.clone()) {
            *lane = array[row * width + i];
        }
        columns.push(V::from_lanes(&lanes[..V::W]));
    }
    columns
}

/// K orders of L tokens, each of which names every token once.
#[derive(Clone, Debug)]
pub struct Orders(Vec<Vec<u32>>);

impl Orders {
    /// The one order of a sequence.
    pub fn sequence(length: usize) -> Self {
        Self(vec![(0..length as u32).collect()])
    }

    /// The four orders of a map: row-major, column-major, and both reversed.
    pub fn grid(height: usize, width: usize) -> Self {
        let rows: Vec<u32> = (0..(height * width) as u32).collect();
        let columns: Vec<u32> = (0..width).flat_map(|w| (0..height).map(move |h| (h * width + w) as u32)).collect();
        let reversed = |order: &[u32]| order.iter().rev().copied().collect();
        let (rows_back, columns_back) = (reversed(&rows), reversed(&columns));
        Self(vec![rows, columns, rows_back, columns_back])
    }

    /// K.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Tokens of tile `i` of direction `k`; none after the last.
    #[inline(always)]
    pub(super) fn tile(&self, k: usize, i: usize) -> &[u32] {
        self.tiles(k).nth(i).unwrap_or_default()
    }

    /// Tokens of direction `k`, tile by tile.
    #[inline(always)]
    pub(super) fn tiles(&self, k: usize) -> std::slice::Chunks<'_, u32> {
        self.0[k].chunks(TILE)
    }
}
