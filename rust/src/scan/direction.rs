//! One bundle of channel groups in one direction of one image, backwards: recompute a tile's states from its
//! checkpoint, then walk it in reverse.

use crate::simd::{Float, Kernel, Vector};

use super::group::{BLOCK, Group, Part, steps_to_proj, sum_lanes};
use super::problem::{GroupParams, Problem, Shape};
use super::tile::{TILE, Tile};

/// Groups that a task walks together: fewer repeat the work per token (4 are 15 % slower), more make fewer tasks and
/// leave the second cache. The order of sums over channels depends on it.
pub(super) const BUNDLE: usize = 8;

/// One bundle in one direction of one image.
pub(super) struct BundleBackward<'a, 'p, T> {
    pub(super) problem: &'a Problem<'p, T>,
    pub(super) dy: &'a [T],
    pub(super) checkpoints: &'a [T],
    pub(super) b: usize,
    pub(super) k: usize,
    /// Number of the first group.
    pub(super) first: usize,
}

/// Buffers of one tile, reused; small enough for the first cache.
///
/// Arrays of whole pages lie a line apart, so that equal indices do not fall on equal offsets in their pages.
#[repr(C)]
struct Scratch<V: Vector> {
    /// a_t and h_{t-1} of a block of states.
    decay: [[V; BLOCK]; TILE],
    _line_1: V,
    before: [[V; BLOCK]; TILE],
    _line_2: V,
    /// dB and dC of a block of states, lanes summed over groups.
    d_input: [[V; BLOCK]; TILE],
    _line_3: V,
    d_output: [[V; BLOCK]; TILE],
    /// [dt | B | C] of the tile's tokens.
    rows: Vec<V::Scalar>,
}

impl<T: Float> Kernel for BundleBackward<'_, '_, T> {
    type Scalar = T;
    type Output = Part<T>;

    #[inline(always)]
    fn run<V: Vector<Scalar = T>>(self) -> Part<T> {
        let shape = self.problem.shape;
        let Shape { states, rank, .. } = shape;
        let last = shape.groups(V::W).min(self.first + BUNDLE);
        let mut groups: Vec<Group<V>> = (self.first..last).map(|g| self.group(g)).collect();
        let mut scratch = Scratch::new(shape.row());
        let channels = self.first * V::W..shape.channels.min(last * V::W);
        let mut part = Part::new(&shape, channels, self.problem.delta.is_some());
        let tiles: Vec<&[u32]> = self.problem.orders.tiles(self.k).collect();
        for (i, &tokens) in tiles.iter().enumerate().rev() {
            let next = if i > 0 { tiles[i - 1] } else { &[] };
            self.problem.prefetch_proj::<V>(self.b, self.k, next);
            part.prefetch::<V>(tokens);
            self.problem.load_rows(&mut scratch.rows, (self.b, self.k), tokens);
            let mut tame = true;
            for group in &mut groups {
                self.load_group(group, tokens, &scratch.rows);
                self.problem.prefetch_group::<V>(self.problem.x, self.b, group.channels.clone(), next);
                self.problem.prefetch_group::<V>(self.dy, self.b, group.channels.clone(), next);
                tame &= group.tile.is_tame(group.params.largest, tokens.len());
            }
            let whole = states / BLOCK * BLOCK;
            for n in (0..whole).step_by(BLOCK) {
                self.states::<V, BLOCK>(&mut scratch, &mut groups, (i, n), tame);
                scratch.write_sums::<BLOCK>(&mut part.proj, (n, states), tokens);
            }
            for n in whole..states {
                self.states::<V, 1>(&mut scratch, &mut groups, (i, n), tame);
                scratch.write_sums::<1>(&mut part.proj, (n, states), tokens);
            }
            for group in &mut groups {
                self.finish_group(&scratch.rows, group, &mut part, tokens);
            }
            steps_to_proj(&groups, &mut part.proj, (rank, shape.row()), tokens);
        }
        for group in &groups {
            group.write(&mut part);
        }
        part
    }
}

impl<T: Float> BundleBackward<'_, '_, T> {
    #[inline(always)]
    fn group<V: Vector<Scalar = T>>(&self, g: usize) -> Group<V> {
        let Shape { channels, states, rank, .. } = self.problem.shape;
        let zero = [V::zero(); TILE];
        Group {
            number: g,
            channels: g * V::W..channels.min((g + 1) * V::W),
            params: GroupParams::new(self.problem, self.k, g),
            carry: vec![V::zero(); states],
            d_dt_weight: vec![V::zero(); rank],
            d_dt_bias: V::zero(),
            d_a: vec![V::zero(); states],
            d_skip: V::zero(),
            tile: Tile::new(),
            dy: zero,
            sum_gb: zero,
            sum_a: zero,
            d_v: zero,
        }
    }

    /// Steps and dy of a tile.
    #[inline(always)]
    fn load_group<V: Vector<Scalar = T>>(&self, group: &mut Group<V>, tokens: &[u32], rows: &[T]) {
        let channels = self.problem.shape.channels;
        group.tile.fill::<true>(self.problem, &group.params, (self.b, group.channels.start), tokens, rows);
        group.d_v = [V::zero(); TILE]; // of a short tile too
        for (t, &token) in tokens.iter().enumerate() {
            group.dy[t] = V::load(&self.problem.row(self.dy, self.b, token as usize, channels)[group.channels.clone()]);
            group.sum_gb[t] = V::zero();
            group.sum_a[t] = V::zero();
        }
    }

    /// Walks S states from `n` on of all groups over tile `i`, forwards and back, and sums dB and dC over groups.
    #[inline(always)]
    fn states<V: Vector<Scalar = T>, const S: usize>(
        &self,
        scratch: &mut Scratch<V>,
        groups: &mut [Group<V>],
        (i, n): (usize, usize),
        tame: bool,
    ) {
        let shape = self.problem.shape;
        let at = Columns { row: shape.row(), input: shape.rank + n, output: shape.rank + shape.states + n };
        for (g, group) in groups.iter_mut().enumerate() {
            let task = self.b * shape.groups(V::W) + group.number;
            let slot = ((task * shape.directions + self.k) * shape.tiles() + i) * shape.states + n;
            let start = &self.checkpoints[slot * V::W..][..S * V::W];
            if i > 0 {
                V::prefetch(&self.checkpoints[(slot - shape.states) * V::W..][..S * V::W]);
            }
            let h = if tame {
                scratch.recompute::<S, false>(group, n, &at, start)
            } else {
                scratch.recompute::<S, true>(group, n, &at, start)
            };
            if g == 0 {
                scratch.walk_back::<S, true>(group, n, &at, h);
            } else {
                scratch.walk_back::<S, false>(group, n, &at, h);
            }
        }
    }

    /// From the sums over states to du, dv and the gradients of the step's own parameters.
    #[inline(always)]
    fn finish_group<V: Vector<Scalar = T>>(
        &self,
        rows: &[T],
        group: &mut Group<V>,
        part: &mut Part<T>,
        tokens: &[u32],
    ) {
        let rank = self.problem.shape.rank;
        let columns = part.columns(&group.channels);
        let width = part.channels.len();
        let (mut d_bias, mut d_skip) = (V::zero(), V::zero());
        for (t, &token) in tokens.iter().enumerate() {
            let (u, dy) = (group.tile.u[t], group.dy[t]);
            let at = token as usize * width;
            let columns = at + columns.start..at + columns.end;
            let du = group.tile.step[t].fma(group.sum_gb[t], group.params.skip.mul(dy));
            du.store(&mut part.x[columns.clone()]);
            group.d_v[t] = u.fma(group.sum_gb[t], group.sum_a[t]).mul(group.tile.slope[t]);
            if !part.delta.is_empty() {
                group.d_v[t].store(&mut part.delta[columns]);
            }
            d_bias = d_bias.add(group.d_v[t]);
            d_skip = dy.fma(u, d_skip);
        }
        let whole = rank / BLOCK * BLOCK;
        for r in (0..whole).step_by(BLOCK) {
            group.weigh::<BLOCK>(rows, r, tokens.len());
        }
        for r in whole..rank {
            group.weigh::<1>(rows, r, tokens.len());
        }
        group.d_dt_bias = group.d_dt_bias.add(d_bias);
        group.d_skip = group.d_skip.add(d_skip);
    }
}

/// Where the block at hand lies in rows of proj.
struct Columns {
    row: usize,
    input: usize,
    output: usize,
}

impl<V: Vector> Scratch<V> {
    #[inline(always)]
    fn new(row: usize) -> Self {
        let zero = V::zero();
        Self {
            decay: [[zero; BLOCK]; TILE],
            _line_1: zero,
            before: [[zero; BLOCK]; TILE],
            _line_2: zero,
            d_input: [[zero; BLOCK]; TILE],
            _line_3: zero,
            d_output: [[zero; BLOCK]; TILE],
            rows: vec![V::Scalar::ZERO; TILE * row],
        }
    }

    /// Recomputes S states of a tile from its checkpoint; returns the last ones.
    #[inline(always)]
    fn recompute<const S: usize, const CLAMP: bool>(
        &mut self,
        group: &Group<V>,
        n: usize,
        at: &Columns,
        start: &[V::Scalar],
    ) -> [V; S] {
        let (mut a2, mut h) = ([V::zero(); S], [V::zero(); S]);
        a2.copy_from_slice(&group.params.a2[n..n + S]);
        for s in 0..S {
            h[s] = V::from_lanes(&start[s * V::W..]);
        }
        for t in 0..TILE {
            let input = &self.rows[t * at.row + at.input..][..S];
            for s in 0..S {
                let decay = group.tile.decay::<CLAMP>(t, a2[s]);
                self.decay[t][s] = decay;
                self.before[t][s] = h[s];
                h[s] = decay.fma(h[s], group.tile.step_u[t].mul(V::splat(input[s])));
            }
        }
        h
    }

    /// Walks S states back over a tile, given the ones after it; the first group of a bundle starts the sums.
    #[inline(always)]
    fn walk_back<const S: usize, const FIRST: bool>(
        &mut self,
        group: &mut Group<V>,
        n: usize,
        at: &Columns,
        mut h: [V; S],
    ) {
        let (mut a, mut carry, mut d_a) = ([V::zero(); S], [V::zero(); S], [V::zero(); S]);
        a.copy_from_slice(&group.params.a[n..n + S]);
        carry.copy_from_slice(&group.carry[n..n + S]);
        for t in (0..TILE).rev() {
            let (dy, step, step_u) = (group.dy[t], group.tile.step[t], group.tile.step_u[t]);
            let (mut sum_gb, mut sum_a) = (group.sum_gb[t], group.sum_a[t]);
            let input = &self.rows[t * at.row + at.input..][..S];
            let output = &self.rows[t * at.row + at.output..][..S];
            for s in 0..S {
                let grad = V::splat(output[s]).fma(dy, carry[s]);
                let (d_input, d_output) = (&mut self.d_input[t][s], &mut self.d_output[t][s]);
                if FIRST {
                    *d_input = grad.mul(step_u);
                    *d_output = dy.mul(h[s]);
                } else {
                    *d_input = grad.fma(step_u, *d_input);
                    *d_output = dy.fma(h[s], *d_output);
                }
                sum_gb = grad.fma(V::splat(input[s]), sum_gb);
                carry[s] = grad.mul(self.decay[t][s]);
                h[s] = self.before[t][s];
                let d_exponent = carry[s].mul(h[s]);
                sum_a = d_exponent.fma(a[s], sum_a);
                d_a[s] = d_exponent.fma(step, d_a[s]);
            }
            group.sum_gb[t] = sum_gb;
            group.sum_a[t] = sum_a;
        }
        for s in 0..S {
            group.carry[n + s] = carry[s];
            group.d_a[n + s] = group.d_a[n + s].add(d_a[s]); // summed per tile first: long sums keep their digits
        }
    }

    /// Sums dB and dC of S states from `n` on over lanes, into the tokens' rows.
    #[inline(always)]
    fn write_sums<const S: usize>(&self, rows: &mut [V::Scalar], (n, states): (usize, usize), tokens: &[u32]) {
        let row = self.rows.len() / TILE;
        let input = row - 2 * states + n;
        for (t, tokens) in (0..).step_by(BLOCK).zip(tokens.chunks(BLOCK)) {
            sum_lanes::<V, S>(&front(&self.d_input, t), rows, (input, row), tokens);
            sum_lanes::<V, S>(&front(&self.d_output, t), rows, (input + states, row), tokens);
        }
    }
}

/// The first S columns of [`BLOCK`] rows from `t` on.
#[inline(always)]
fn front<V: Vector, const S: usize>(rows: &[[V; BLOCK]; TILE], t: usize) -> [[V; S]; BLOCK] {
    let mut columns = [[V::zero(); S]; BLOCK];
    for i in 0..BLOCK {
        columns[i].copy_from_slice(&rows[t + i][..S]);
    }
    columns
}
