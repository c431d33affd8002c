//! One direction of one image, backwards: recompute a tile's states from its checkpoint, then walk it in reverse.

use crate::simd::{Float, Kernel, Vector};

use super::problem::{GroupParams, Problem, Shape};
use super::tile::{TILE, Tile};

/// Gradients of one image and direction.
pub(super) struct Part<T> {
    /// (L, D).
    pub(super) x: Vec<T>,
    /// (L, D) or empty.
    pub(super) delta: Vec<T>,
    /// (L, P).
    pub(super) proj: Vec<T>,
    /// (D, R).
    pub(super) dt_weight: Vec<T>,
    /// (D,).
    pub(super) dt_bias: Vec<T>,
    /// (D, N).
    pub(super) a: Vec<T>,
    /// (D,).
    pub(super) skip: Vec<T>,
}

/// One direction of one image.
pub(super) struct DirectionBackward<'a, 'p, T> {
    pub(super) problem: &'a Problem<'p, T>,
    pub(super) dy: &'a [T],
    pub(super) checkpoints: &'a [T],
    pub(super) b: usize,
    pub(super) k: usize,
}

/// What a channel group carries from tile to tile.
struct Group<V> {
    params: GroupParams<V>,
    /// a_{t+1} g_{t+1} per state.
    carry: Vec<V>,
    d_dt_weight: Vec<V>,
    d_dt_bias: V,
    d_a: Vec<V>,
    d_skip: V,
}

/// Buffers of one tile, reused.
struct Scratch<V: Vector> {
    tile: Tile<V>,
    dy: [V; TILE],
    /// a_t and h_{t-1} of one state.
    decay: [V; TILE],
    before: [V; TILE],
    after: [V; TILE],
    /// sum_n g B and sum_n A a h g.
    sum_gb: [V; TILE],
    sum_a: [V; TILE],
    /// [dt | B | C] of the tile, one row per value.
    proj: Vec<[V::Scalar; TILE]>,
    /// Their gradients, lanes summed over groups.
    d_proj: Vec<[V; TILE]>,
}

impl<T: Float> Kernel for DirectionBackward<'_, '_, T> {
    type Scalar = T;
    type Output = Part<T>;

    #[inline(always)]
    fn run<V: Vector<Scalar = T>>(self) -> Part<T> {
        let Shape { length, channels, states, rank, .. } = self.problem.shape;
        let shape = self.problem.shape;
        let mut groups: Vec<Group<V>> = (0..shape.groups(V::W)).map(|g| self.group(g)).collect();
        let zero = [V::zero(); TILE];
        let mut scratch = Scratch {
            tile: Tile::new(),
            dy: zero,
            decay: zero,
            before: zero,
            after: zero,
            sum_gb: zero,
            sum_a: zero,
            proj: vec![[T::ZERO; TILE]; shape.row()],
            d_proj: vec![zero; shape.row()],
        };
        let delta_len = if self.problem.delta.is_some() { length * channels } else { 0 };
        let mut part = Part {
            x: vec![T::ZERO; length * channels],
            delta: vec![T::ZERO; delta_len],
            proj: vec![T::ZERO; length * shape.row()],
            dt_weight: vec![T::ZERO; channels * rank],
            dt_bias: vec![T::ZERO; channels],
            a: vec![T::ZERO; channels * states],
            skip: vec![T::ZERO; channels],
        };
        for (i, tokens) in self.problem.orders[self.k].chunks(TILE).enumerate().rev() {
            self.load_proj(&mut scratch, tokens);
            for (g, group) in groups.iter_mut().enumerate() {
                self.tile_backward(&mut scratch, group, (i, g), tokens);
                self.finish_group(&mut scratch, group, &mut part, g * V::W, tokens);
            }
            for (t, &token) in tokens.iter().enumerate() {
                let row = &mut part.proj[token as usize * shape.row()..][..shape.row()];
                row.iter_mut().zip(&scratch.d_proj).for_each(|(value, lanes)| *value = lanes[t].sum());
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
        Group {
            params: GroupParams::new(self.problem, self.k, g),
            carry: vec![V::zero(); states],
            d_dt_weight: vec![V::zero(); rank],
            d_dt_bias: V::zero(),
            d_a: vec![V::zero(); states],
            d_skip: V::zero(),
        }
    }

    /// Turns the tile's rows of proj into columns over tokens, which all groups read, and clears their gradients.
    #[inline(always)]
    fn load_proj<V: Vector<Scalar = T>>(&self, scratch: &mut Scratch<V>, tokens: &[u32]) {
        scratch.d_proj.fill([V::zero(); TILE]);
        for (t, &token) in tokens.iter().enumerate() {
            let (dt, input, output) = self.problem.proj_row(self.b, token as usize, self.k);
            let values = dt.iter().chain(input).chain(output);
            scratch.proj.iter_mut().zip(values).for_each(|(column, &value)| column[t] = value);
        }
    }

    /// Recomputes the states of a tile and walks it backwards, one state at a time.
    #[inline(always)]
    fn tile_backward<V: Vector<Scalar = T>>(
        &self,
        scratch: &mut Scratch<V>,
        group: &mut Group<V>,
        (i, g): (usize, usize),
        tokens: &[u32],
    ) {
        let shape = self.problem.shape;
        let (b, k, first) = (self.b, self.k, g * V::W);
        scratch.tile.fill(self.problem, &group.params, (b, k, first), tokens);
        let last = shape.channels.min(first + V::W);
        for (t, &token) in tokens.iter().enumerate() {
            scratch.dy[t] = V::load(&self.problem.row(self.dy, b, token as usize, shape.channels)[first..last]);
            scratch.sum_gb[t] = V::zero();
            scratch.sum_a[t] = V::zero();
        }
        let task = b * shape.groups(V::W) + g;
        let slot = ((task * shape.directions + k) * shape.tiles() + i) * shape.states * V::W;
        let count = tokens.len();
        for n in 0..shape.states {
            let (a, a2) = (group.params.a[n], group.params.a2[n]);
            let (input, output) = (scratch.proj[shape.rank + n], scratch.proj[shape.rank + shape.states + n]);
            let mut h = V::load(&self.checkpoints[slot + n * V::W..][..V::W]);
            for t in 0..count {
                scratch.decay[t] = scratch.tile.step[t].mul(a2).exp2();
                scratch.before[t] = h;
                h = scratch.decay[t].fma(h, scratch.tile.step_u[t].mul(V::splat(input[t])));
                scratch.after[t] = h;
            }
            let [d_input, d_output] = two_rows(&mut scratch.d_proj, shape.rank + n, shape.rank + shape.states + n);
            let (mut carry, mut d_a) = (group.carry[n], V::zero());
            for t in (0..count).rev() {
                let grad = V::splat(output[t]).fma(scratch.dy[t], carry);
                d_input[t] = grad.fma(scratch.tile.step_u[t], d_input[t]);
                d_output[t] = scratch.dy[t].fma(scratch.after[t], d_output[t]);
                scratch.sum_gb[t] = grad.fma(V::splat(input[t]), scratch.sum_gb[t]);
                carry = grad.mul(scratch.decay[t]);
                let d_exponent = carry.mul(scratch.before[t]);
                scratch.sum_a[t] = d_exponent.fma(a, scratch.sum_a[t]);
                d_a = d_exponent.fma(scratch.tile.step[t], d_a);
            }
            group.carry[n] = carry;
            group.d_a[n] = group.d_a[n].add(d_a); // summed per tile first: long sums keep their digits
        }
    }

    /// From the sums over states to du, dv and the gradients of the step's own parameters.
    #[inline(always)]
    fn finish_group<V: Vector<Scalar = T>>(
        &self,
        scratch: &mut Scratch<V>,
        group: &mut Group<V>,
        part: &mut Part<T>,
        first: usize,
        tokens: &[u32],
    ) {
        let Shape { channels, rank, .. } = self.problem.shape;
        let last = channels.min(first + V::W);
        let (mut d_bias, mut d_skip) = (V::zero(), V::zero());
        let mut d_v = [V::zero(); TILE];
        for (t, &token) in tokens.iter().enumerate() {
            let (u, dy) = (scratch.tile.u[t], scratch.dy[t]);
            let at = token as usize * channels;
            let du = scratch.tile.step[t].fma(scratch.sum_gb[t], group.params.skip.mul(dy));
            du.store(&mut part.x[at + first..at + last]);
            d_v[t] = u.fma(scratch.sum_gb[t], scratch.sum_a[t]).mul(scratch.tile.slope[t]);
            if !part.delta.is_empty() {
                d_v[t].store(&mut part.delta[at + first..at + last]);
            }
            d_bias = d_bias.add(d_v[t]);
            d_skip = dy.fma(u, d_skip);
        }
        for r in 0..rank {
            let mut d_weight = V::zero();
            for t in 0..tokens.len() {
                d_weight = d_v[t].fma(V::splat(scratch.proj[r][t]), d_weight);
                scratch.d_proj[r][t] = d_v[t].fma(group.params.dt_weight[r], scratch.d_proj[r][t]);
            }
            group.d_dt_weight[r] = group.d_dt_weight[r].add(d_weight);
        }
        group.d_dt_bias = group.d_dt_bias.add(d_bias);
        group.d_skip = group.d_skip.add(d_skip);
    }
}

impl<V: Vector> Group<V> {
    /// Writes the parameter gradients of channels `first ..` into the part.
    #[inline(always)]
    fn write(&self, part: &mut Part<V::Scalar>, first: usize, channels: usize) {
        let last = channels.min(first + V::W);
        self.d_dt_bias.store(&mut part.dt_bias[first..last]);
        self.d_skip.store(&mut part.skip[first..last]);
        write_columns(&self.d_dt_weight, &mut part.dt_weight, first, last);
        write_columns(&self.d_a, &mut part.a, first, last);
    }
}

/// Vectors by column to rows by channel: (width, W) to (D, width).
#[inline(always)]
fn write_columns<V: Vector>(columns: &[V], rows: &mut [V::Scalar], first: usize, last: usize) {
    for (i, column) in columns.iter().enumerate() {
        let mut lanes = [V::Scalar::ZERO; 64];
        column.store(&mut lanes[..V::W]);
        for (&lane, channel) in lanes.iter().zip(first..last) {
            rows[channel * columns.len() + i] = lane;
        }
    }
}

/// Two different rows of `rows`, the first with the lower index.
#[inline(always)]
fn two_rows<R>(rows: &mut [R], low: usize, high: usize) -> [&mut R; 2] {
    let (head, tail) = rows.split_at_mut(high);
    [&mut head[low], &mut tail[0]]
}
