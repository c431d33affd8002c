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

impl<V: Vector> Tile<V> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        let zero = [V::zero(); TILE];
        Self {
            u: zero,
            step: zero,
            step_u: zero,
            slope: zero,
        }
    }

    /// Fills the tile for image `b`, direction `k`, channels from `first` on.
    #[inline(always)]
    pub(super) fn fill(
        &mut self,
        problem: &Problem<'_, V::Scalar>,
        params: &GroupParams<V>,
        (b, k, first): (usize, usize, usize),
        tokens: &[u32],
    ) {
        let channels = problem.shape.channels;
        let last = channels.min(first + V::W);
        for (t, &token) in tokens.iter().enumerate() {
            let token = token as usize;
            let (dt, ..) = problem.proj_row(b, token, k);
            let mut v = params.dt_bias;
            if let Some(delta) = problem.delta {
                v = v.add(V::load(
                    &problem.row(delta, b, token, channels)[first..last],
                ));
            }
            for (&weight, &dt) in params.dt_weight.iter().zip(dt) {
                v = weight.fma(V::splat(dt), v);
            }
            let (step, slope) = if problem.softplus {
                v.softplus()
            } else {
                (v, V::splat(V::Scalar::ONE))
            };
            self.u[t] = V::load(&problem.row(problem.x, b, token, channels)[first..last]);
            self.step[t] = step;
            self.step_u[t] = step.mul(self.u[t]);
            self.slope[t] = slope;
        }
    }
}
