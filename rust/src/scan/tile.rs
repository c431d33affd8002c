//! A tile of tokens of one channel group: the steps s_t and what follows from them, before the recurrence starts.
//!
//! Computing the steps of a whole tile first keeps the long chain dot product - exponential - logarithm out of the
//! recurrence, which is worth a factor of 1.5 to 2.

use crate::simd::{Float, Vector};

use super::problem::{GroupParams, Problem};

/// Tokens per tile, and between two checkpoints.
pub const TILE: usize = 16;

/// Steps of up to [`TILE`] tokens.
pub(super) struct Tile<V> {
    /// u_t.
    pub(super) u: [V; TILE],
    /// s_t.
    pub(super) step: [V; TILE],
    /// s_t u_t.
    pub(super) step_u: [V; TILE],
    /// ds_t / dv_t.
    pub(super) slope: [V; TILE],
}

/// `for s in 0..S` for S up to 16, unrolled: left to itself the compiler keeps a loop, and with it the arrays in memory.
macro_rules! unrolled {
    ($s:ident < $count:expr, $body:block) => {
        unrolled!(@ $s, $count, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $s:ident, $count:expr, $body:block, $($i:literal)*) => {
        $(
            if $i < $count {
                let $s = $i;
                $body
            }
        )*
    };
}
pub(super) use unrolled;

/// Tokens whose steps are computed side by side, to hide latencies.
const ABREAST: usize = 4;

impl<V: Vector> Tile<V> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        let zero = [V::zero(); TILE];
        Self { u: zero, step: zero, step_u: zero, slope: zero }
    }

    /// Fills the tile for image `b`, channels from `first` on, from its rows of proj (TILE, P); slopes only where they
    /// are asked for.
    #[inline(always)]
    pub(super) fn fill<const SLOPE: bool>(
        &mut self,
        problem: &Problem<'_, V::Scalar>,
        params: &GroupParams<V>,
        (b, first): (usize, usize),
        tokens: &[u32],
        rows: &[V::Scalar],
    ) {
        let row = problem.shape.row();
        let dt = |t: usize| &rows[t * row..][..problem.shape.rank];
        let channels = problem.shape.channels;
        let last = channels.min(first + V::W);
        let load = |array, token: u32| V::load(&problem.row(array, b, token as usize, channels)[first..last]);
        for (t, &token) in tokens.iter().enumerate() {
            self.u[t] = load(problem.x, token);
            self.step[t] = match problem.delta {
                Some(delta) => params.dt_bias.add(load(delta, token)), // no closure: plain arrays would call it
                None => params.dt_bias,
            };
        }
        let whole = tokens.len() / ABREAST * ABREAST;
        for t in (0..whole).step_by(ABREAST) {
            self.project(params, t, [dt(t), dt(t + 1), dt(t + 2), dt(t + 3)]);
        }
        for t in whole..tokens.len() {
            self.project(params, t, [dt(t)]);
        }
        if problem.softplus {
            // Unrolled, tokens beyond the end included: a loop over plain arrays becomes gathers and scatters.
            unrolled!(t < TILE, {
                let (step, slope) = self.step[t].softplus();
                self.step[t] = step;
                if SLOPE {
                    self.slope[t] = slope;
                }
            });
        } else {
            self.slope = [V::splat(V::Scalar::ONE); TILE];
        }
        self.step[tokens.len()..].fill(V::zero()); // they decay nothing and add nothing, whatever A is
        unrolled!(t < TILE, {
            self.step_u[t] = self.step[t].mul(self.u[t]);
        });
    }

    /// Adds the projection of `dt` to the steps of C tokens.
    #[inline(always)]
    fn project<const C: usize>(&mut self, params: &GroupParams<V>, first: usize, dt: [&[V::Scalar]; C]) {
        let mut v = [V::zero(); C];
        v.copy_from_slice(&self.step[first..first + C]);
        for (r, weight) in params.dt_weight.iter().enumerate() {
            for i in 0..C {
                v[i] = weight.fma(V::splat(dt[i][r]), v[i]);
            }
        }
        self.step[first..first + C].copy_from_slice(&v);
    }

    /// a_t for a state of exponent factor `a2`.
    #[inline(always)]
    pub(super) fn decay<const CLAMP: bool>(&self, t: usize, a2: V) -> V {
        if CLAMP { self.step[t].mul(a2).exp2() } else { self.step[t].exp2_of_product(a2) }
    }

    /// a_t h + c for a state of exponent factor `a2`.
    #[inline(always)]
    pub(super) fn advance<const CLAMP: bool>(&self, t: usize, a2: V, h: V, c: V) -> V {
        if CLAMP { self.decay::<true>(t, a2).fma(h, c) } else { self.step[t].exp2_of_product_times(a2, h, c) }
    }

    /// Whether 2^(step * A2) needs no clamp for any token of the tile, given the largest |A2| per channel.
    #[inline(always)]
    pub(super) fn is_tame(&self, largest: V, count: usize) -> bool {
        let mut steps = V::zero();
        for step in &self.step[..count] {
            steps = step.abs().max(steps);
        }
        let (low, _) = V::Scalar::EXP2_RANGE; // the nearer end
        steps.mul(largest).all_less(V::splat(V::Scalar::ZERO - low))
    }
}
