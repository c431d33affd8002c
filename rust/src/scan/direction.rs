//! One direction of one image, backwards: recompute a tile's states from its checkpoint, then walk it in reverse.

use crate::simd::{Float, Kernel, Vector};

use super::buffers::take;
use super::group::{Group, Part, steps_to_proj};
use super::problem::{GroupParams, Problem, Shape};
use super::tile::{TILE, Tile};

/// One direction of one image.
pub(super) struct DirectionBackward<'a, 'p, T> {
    pub(super) problem: &'a Problem<'p, T>,
    pub(super) dy: &'a [T],
    pub(super) checkpoints: &'a [T],
    pub(super) b: usize,
    pub(super) k: usize,
}

/// Buffers of one tile, reused; small enough for the first cache.
struct Scratch<V: Vector> {
    /// a_t and h_{t-1} of a block of states.
    decay: [[V; BLOCK]; TILE],
    before: [[V; BLOCK]; TILE],
    /// dB and dC of a block of states, lanes summed over groups.
    d_input: [[V; TILE]; BLOCK],
    d_output: [[V; TILE]; BLOCK],
    /// [dt | B | C] of the tile, one row per value.
    proj: Vec<[V::Scalar; TILE]>,
    /// Their gradients.
    d_proj: Vec<[V::Scalar; TILE]>,
}

/// States that are walked together, of a type that keeps them in registers; likewise ranks.
const BLOCK: usize = 4;

impl<T: Float> Kernel for DirectionBackward<'_, '_, T> {
    type Scalar = T;
    type Output = Part<T>;

    #[inline(always)]
    fn run<V: Vector<Scalar = T>>(self) -> Part<T> {
        let shape = self.problem.shape;
        let Shape { length, channels, states, rank, .. } = shape;
        let mut groups: Vec<Group<V>> = (0..shape.groups(V::W)).map(|g| self.group(g)).collect();
        let mut scratch = Scratch {
            decay: [[V::zero(); BLOCK]; TILE],
            before: [[V::zero(); BLOCK]; TILE],
            d_input: [[V::zero(); TILE]; BLOCK],
            d_output: [[V::zero(); TILE]; BLOCK],
            proj: vec![[T::ZERO; TILE]; shape.row()],
            d_proj: vec![[T::ZERO; TILE]; shape.row()],
        };
        let delta_len = if self.problem.delta.is_some() { length * channels } else { 0 };
        let mut part = Part {
            x: take(length * channels),
            delta: take(delta_len),
            proj: take(length * shape.row()),
            dt_weight: vec![T::ZERO; channels * rank],
            dt_bias: vec![T::ZERO; channels],
            a: vec![T::ZERO; channels * states],
            skip: vec![T::ZERO; channels],
        };
        let tiles: Vec<&[u32]> = self.problem.orders[self.k].chunks(TILE).collect();
        for (i, &tokens) in tiles.iter().enumerate().rev() {
            let next = if i > 0 { tiles[i - 1] } else { &[] };
            self.problem.prefetch_proj::<V>(self.b, self.k, next);
            self.load_proj(&mut scratch, tokens);
            let mut tame = true;
            for (g, group) in groups.iter_mut().enumerate() {
                self.load_group(group, g * V::W, tokens);
                self.problem.prefetch_group::<V>(self.problem.x, self.b, g * V::W, next);
                self.problem.prefetch_group::<V>(self.dy, self.b, g * V::W, next);
                tame &= group.tile.is_tame(group.params.largest, tokens.len());
            }
            let whole = if V::BLOCKS { states / BLOCK * BLOCK } else { 0 };
            for n in (0..whole).step_by(BLOCK) {
                self.states::<V, BLOCK>(&mut scratch, &mut groups, (i, n), tokens.len(), tame);
            }
            for n in whole..states {
                self.states::<V, 1>(&mut scratch, &mut groups, (i, n), tokens.len(), tame);
            }
            for (g, group) in groups.iter_mut().enumerate() {
                self.finish_group(&scratch.proj, group, &mut part, g * V::W, tokens);
            }
            steps_to_proj(&mut scratch.d_proj[..rank], &groups);
            for (t, &token) in tokens.iter().enumerate() {
                let row = &mut part.proj[token as usize * shape.row()..][..shape.row()];
                row.iter_mut().zip(&scratch.d_proj).for_each(|(value, column)| *value = column[t]);
            }
        }
        for (g, group) in groups.iter().enumerate() {
            group.write(&mut part, g * V::W, channels);
        }
        part
    }
}

impl<T: Float> DirectionBackward<'_, '_, T> {
    #[inline(always)]
    fn group<V: Vector<Scalar = T>>(&self, g: usize) -> Group<V> {
        let Shape { states, rank, .. } = self.problem.shape;
        let zero = [V::zero(); TILE];
        Group {
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

    /// Steps and dy of a tile for channels from `first` on.
    #[inline(always)]
    fn load_group<V: Vector<Scalar = T>>(&self, group: &mut Group<V>, first: usize, tokens: &[u32]) {
        let channels = self.problem.shape.channels;
        let last = channels.min(first + V::W);
        group.tile.fill::<true>(self.problem, &group.params, (self.b, self.k, first), tokens);
        group.d_v = [V::zero(); TILE]; // of a short tile too
        for (t, &token) in tokens.iter().enumerate() {
            group.dy[t] = V::load(&self.problem.row(self.dy, self.b, token as usize, channels)[first..last]);
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
        for (g, group) in groups.iter_mut().enumerate() {
            let task = self.b * shape.groups(V::W) + g;
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
        first: usize,
        tokens: &[u32],
    ) {
        let Shape { channels, rank, .. } = self.problem.shape;
        let last = channels.min(first + V::W);
        let (mut d_bias, mut d_skip) = (V::zero(), V::zero());
        for (t, &token) in tokens.iter().enumerate() {
            let (u, dy) = (group.tile.u[t], group.dy[t]);
            let at = token as usize * channels;
            let du = group.tile.step[t].fma(group.sum_gb[t], group.params.skip.mul(dy));
            du.store(&mut part.x[at + first..at + last]);
            group.d_v[t] = u.fma(group.sum_gb[t], group.sum_a[t]).mul(group.tile.slope[t]);
            if !part.delta.is_empty() {
                group.d_v[t].store(&mut part.delta[at + first..at + last]);
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
