//! Glue of the scan room: the same two functions for f32 and f64.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArrayDyn, PyReadwriteArrayDyn};
use pyo3::prelude::*;

use super::arrays::{slice, slice_mut};
use crate::cpu;
use crate::scan::{self, Problem, Shape, grid_orders};

/// Sizes B, L, D, N, R.
type Sizes = (usize, usize, usize, usize, usize);

/// Gradients of x, delta, proj, dt_weight, dt_bias, A, skip, flat.
type FlatGradients<'py, T> = [Bound<'py, PyArray1<T>>; 7];

/// Name of the vector level in use.
#[pyfunction]
pub(super) fn cpu_level() -> PyResult<&'static str> {
    Ok(cpu::level()?.name())
}

/// Orders and shape: four directions of a grid, or the one of a sequence.
fn shape_and_orders(
    (batch, length, channels, states, rank): Sizes,
    grid: Option<(usize, usize)>,
) -> (Shape, Vec<Vec<u32>>) {
    let orders = grid.map_or_else(
        || vec![(0..length as u32).collect()],
        |(height, width)| grid_orders(height, width),
    );
    (
        Shape {
            batch,
            length,
            channels,
            states,
            rank,
            directions: orders.len(),
        },
        orders,
    )
}

macro_rules! scan_functions {
    ($float:ty, $forward:ident, $backward:ident) => {
        /// Fills y and, when given, the checkpoints.
        #[pyfunction]
        #[expect(
            clippy::too_many_arguments,
            reason = "mirror of the operation's own arguments"
        )]
        pub(super) fn $forward(
            py: Python<'_>,
            sizes: Sizes,
            grid: Option<(usize, usize)>,
            x: PyReadonlyArrayDyn<'_, $float>,
            delta: Option<PyReadonlyArrayDyn<'_, $float>>,
            proj: PyReadonlyArrayDyn<'_, $float>,
            dt_weight: PyReadonlyArrayDyn<'_, $float>,
            dt_bias: PyReadonlyArrayDyn<'_, $float>,
            a: PyReadonlyArrayDyn<'_, $float>,
            skip: PyReadonlyArrayDyn<'_, $float>,
            softplus: bool,
            mut y: PyReadwriteArrayDyn<'_, $float>,
            mut checkpoints: Option<PyReadwriteArrayDyn<'_, $float>>,
            threads: usize,
        ) -> PyResult<()> {
            let (shape, orders) = shape_and_orders(sizes, grid);
            let delta = delta.as_ref().map(slice).transpose()?;
            let (x, proj, dt_weight, dt_bias) = (
                slice(&x)?,
                slice(&proj)?,
                slice(&dt_weight)?,
                slice(&dt_bias)?,
            );
            let (a, skip, y) = (slice(&a)?, slice(&skip)?, slice_mut(&mut y)?);
            let checkpoints = checkpoints.as_mut().map(slice_mut).transpose()?;
            let problem = Problem {
                shape,
                orders,
                x,
                delta,
                proj,
                dt_weight,
                dt_bias,
                a,
                skip,
                softplus,
            };
            Ok(py.detach(|| scan::forward(&problem, y, checkpoints, threads))?)
        }

        /// Gradients of every input for dy.
        #[pyfunction]
        #[expect(
            clippy::too_many_arguments,
            reason = "mirror of the operation's own arguments"
        )]
        pub(super) fn $backward<'py>(
            py: Python<'py>,
            sizes: Sizes,
            grid: Option<(usize, usize)>,
            x: PyReadonlyArrayDyn<'py, $float>,
            delta: Option<PyReadonlyArrayDyn<'py, $float>>,
            proj: PyReadonlyArrayDyn<'py, $float>,
            dt_weight: PyReadonlyArrayDyn<'py, $float>,
            dt_bias: PyReadonlyArrayDyn<'py, $float>,
            a: PyReadonlyArrayDyn<'py, $float>,
            skip: PyReadonlyArrayDyn<'py, $float>,
            softplus: bool,
            dy: PyReadonlyArrayDyn<'py, $float>,
            checkpoints: PyReadonlyArrayDyn<'py, $float>,
            threads: usize,
        ) -> PyResult<FlatGradients<'py, $float>> {
            let (shape, orders) = shape_and_orders(sizes, grid);
            let delta = delta.as_ref().map(slice).transpose()?;
            let (x, proj, dt_weight, dt_bias) = (
                slice(&x)?,
                slice(&proj)?,
                slice(&dt_weight)?,
                slice(&dt_bias)?,
            );
            let (a, skip, dy, checkpoints) =
                (slice(&a)?, slice(&skip)?, slice(&dy)?, slice(&checkpoints)?);
            let problem = Problem {
                shape,
                orders,
                x,
                delta,
                proj,
                dt_weight,
                dt_bias,
                a,
                skip,
                softplus,
            };
            let g = py.detach(|| scan::backward(&problem, dy, checkpoints, threads))?;
            Ok([g.x, g.delta, g.proj, g.dt_weight, g.dt_bias, g.a, g.skip]
                .map(|values| values.into_pyarray(py)))
        }
    };
}

scan_functions!(f32, scan_forward_f32, scan_backward_f32);
scan_functions!(f64, scan_forward_f64, scan_backward_f64);
