//! One bundle of channel groups in one direction of one image, backwards: recompute a tile's states from its
//! checkpoint, then walk it in reverse.

use crate::simd::{Float, Kernel, Vector};

use super::group::{Group, Part, steps_to_proj};
use super::problem::{GroupParams, Problem, Shape};
use super::tile::{TILE, Tile};

/// Groups that a task walks together: their scratch stays in the first caches, and wide maps make many tasks. The sums
/// over channels depend on it.
pub(super) const BUNDLE: usize = 4;

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
/// Arrays of one page each lie a line apart, so that equal indices do not fall on equal offsets in their pages.
#[repr(C)]
struct Scratch<V: Vector> {
    /// a_t and h_{t-1} of a block of states.
    decay: [[V; BLOCK]; TILE],
    _line_1: V,
    before: [[V; BLOCK]; TILE],
    _line_2: V,
    /// dB and dC of a block of states, lanes summed over groups.
    d_input: [[V; TILE]; BLOCK],
    _line_3: V,
    d_output: [[V; TILE]; BLOCK],
    /// [dt | B | C] of the tile, one row per value.
    proj: Vec<[V::Scalar; TILE]>,
    /// Their gradients.
    d_proj: Vec<[V::Scalar; TILE]>,
}

/// States that are walked together, of a type that keeps them in registers; likewise ranks.
const BLOCK: usize = 4;

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
        let tiles: Vec<&[u32]> = self.problem.orders[self.k].chunks(TILE).collect();
        for (i, &tokens) in tiles.iter().enumerate().rev() {
            let next = if i > 0 { tiles[i - 1] } else { &[] };
            self.problem.prefetch_proj::<V>(self.b, self.k, next);
            self.load_proj(&mut scratch, tokens);
            let mut tame = true;
            for group in &mut groups {
                self.load_group(group, tokens);
                self.problem.prefetch_group::<V>(self.problem.x, self.b, group.channels.clone(), next);
                self.problem.prefetch_group::<V>(self.dy, self.b, group.channels.clone(), next);
                tame &= group.tile.is_tame(group.params.largest, tokens.len());
            }
            let whole = if V::BLOCKS { states / BLOCK * BLOCK } else { 0 };
            for n in (0..whole).step_by(BLOCK) {
                self.states::<V, BLOCK>(&mut scratch, &mut groups, (i, n), tokens.len(), tame);
            }
            for n in whole..states {
                self.states::<V, 1>(&mut scratch, &mut groups, (i, n), tokens.len(), tame);
            }
            for group in &mut groups {
                self.finish_group(&scratch.proj, group, &mut part, tokens);
            }
            steps_to_proj(&mut scratch.d_proj[..rank], &groups);
            for (t, &token) in tokens.iter().enumerate() {
                let row = &mut part.proj[token as usize * shape.row()..][..shape.row()];
                row.iter_mut().zip(&scratch.d_proj).for_each(|(value, column)| *value = column[t]);
            }
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

    /// Turns the tile's rows of proj into columns over tokens, which all groups read.
    #[inline(always)]
    fn load_proj<V: Vector<Scalar = T>>(&self, scratch: &mut Scratch<V>, tokens: &[u32]) {
        for (t, &token) in tokens.iter().enumerate() {
            let (dt, input, output) = self.problem.proj_row(self.b, token as usize, self.k);
            let values = dt.iter().chain(input).chain(output);
            scratch.proj.iter_mut().zip(values).for_each(|(column, &value)| column[t] = value);
        }
    }

    /// Steps and dy of a tile.
    #[inline(always)]
    fn load_group<V: Vector<Scalar = T>>(&self, group: &mut Group<V>, tokens: &[u32]) {
        let channels = self.problem.shape.channels;
        group.tile.fill::<true>(self.problem, &group.params, (self.b, self.k, group.channels.start), tokens);
        group.d_v = [V::zero(); TILE]; // of a short tile too
        for (t, &token) in tokens.iter().enumerate() {
            group.dy[t] = V::load(&self.problem.row(self.dy, self.b, token as usize, channels)[group.channels.clone()]);
            group.sum_gb[t] = V::zero();
            group.sum_a[t] = V::zero();
        }
    }

    /// Walks S states from `n` on of all groups over tile `i`, forwards and back, and sums dB and dC over channels.
    #[inline(always)]
    fn states<V: Vector<Scalar = T>, const S: usize>(
        &self,
        scratch: &mut Scratch<V>,
        groups: &mut [Group<V>],
        (i, n): (usize, usize),
        count: usize,
        tame: bool,
    ) {
        let shape = self.problem.shape;
        let (input, output) = (shape.rank + n, shape.rank + shape.states + n);
        scratch.d_input = [[V::zero(); TILE]; BLOCK];
        scratch.d_output = [[V::zero(); TILE]; BLOCK];
        for group in groups.iter_mut() {
            let task = self.b * shape.groups(V::W) + group.number;
            let slot = ((task * shape.directions + self.k) * shape.tiles() + i) * shape.states + n;
            let start = &self.checkpoints[slot * V::W..][..S * V::W];
            if i > 0 {
                V::prefetch(&self.checkpoints[(slot - shape.states) * V::W..][..S * V::W]);
            }
            let h = if tame {
                scratch.recompute::<S, false>(group, n, input, start, count)
            } else {
                scratch.recompute::<S, true>(group, n, input, start, count)
            };
            scratch.walk_back::<S>(group, n, (input, output), h, count);
        }
        for s in 0..S {
            V::sum_each(&scratch.d_input[s], &mut scratch.d_proj[input + s]);
            V::sum_each(&scratch.d_output[s], &mut scratch.d_proj[output + s]);
        }
    }

    /// From the sums over states to du, dv and the gradients of the step's own parameters.
    #[inline(always)]
    fn finish_group<V: Vector<Scalar = T>>(
        &self,
        proj: &[[T; TILE]],
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
        let whole = if V::BLOCKS { rank / BLOCK * BLOCK } else { 0 };
        for r in (0..whole).step_by(BLOCK) {
            group.weigh::<BLOCK>(proj, r, tokens.len());
        }
        for r in whole..rank {
            group.weigh::<1>(proj, r, tokens.len());
        }
        group.d_dt_bias = group.d_dt_bias.add(d_bias);
        group.d_skip = group.d_skip.add(d_skip);
    }
}

impl<V: Vector> Scratch<V> {
    #[inline(always)]
    fn new(row: usize) -> Self {
        let (zero, rows) = (V::zero(), vec![[V::Scalar::ZERO; TILE]; row]);
        Self {
            decay: [[zero; BLOCK]; TILE],
            _line_1: zero,
            before: [[zero; BLOCK]; TILE],
            _line_2: zero,
            d_input: [[zero; TILE]; BLOCK],
            _line_3: zero,
            d_output: [[zero; TILE]; BLOCK],
            d_proj: rows.clone(),
            proj: rows,
        }
    }

    /// Recomputes S states of a tile from its checkpoint; returns the last ones.
    #[inline(always)]
    fn recompute<const S: usize, const CLAMP: bool>(
        &mut self,
        group: &Group<V>,
        n: usize,
        input: usize,
        start: &[V::Scalar],
        count: usize,
    ) -> [V; S] {
        let (mut a2, mut h) = ([V::zero(); S], [V::zero(); S]);
        a2.copy_from_slice(&group.params.a2[n..n + S]);
        for s in 0..S {
            h[s] = V::from_lanes(&start[s * V::W..]);
        }
        let input = &self.proj[input..][..S];
        for t in 0..count.min(TILE) {
            for s in 0..S {
                let decay = group.tile.decay::<CLAMP>(t, a2[s]);
                self.decay[t][s] = decay;
                self.before[t][s] = h[s];
                h[s] = decay.fma(h[s], group.tile.step_u[t].mul(V::splat(input[s][t])));
            }
        }
        h
    }

    /// Walks S states back over a tile, given the ones after it.
    #[inline(always)]
    fn walk_back<const S: usize>(
        &mut self,
        group: &mut Group<V>,
        n: usize,
        (input, output): (usize, usize),
        mut h: [V; S],
        count: usize,
    ) {
        let (input, output) = (&self.proj[input..][..S], &self.proj[output..][..S]);
        let (mut a, mut carry, mut d_a) = ([V::zero(); S], [V::zero(); S], [V::zero(); S]);
        a.copy_from_slice(&group.params.a[n..n + S]);
        carry.copy_from_slice(&group.carry[n..n + S]);
        for t in (0..count.min(TILE)).rev() {
            let (dy, step, step_u) = (group.dy[t], group.tile.step[t], group.tile.step_u[t]);
            let (mut sum_gb, mut sum_a) = (group.sum_gb[t], group.sum_a[t]);
            for s in 0..S {
                let grad = V::splat(output[s][t]).fma(dy, carry[s]);
                self.d_input[s][t] = grad.fma(step_u, self.d_input[s][t]);
                self.d_output[s][t] = dy.fma(h[s], self.d_output[s][t]);
                sum_gb = grad.fma(V::splat(input[s][t]), sum_gb);
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
}
