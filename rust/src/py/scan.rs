//! Glue of the scan room: the same two functions for float32 and float64 tensors.

use pyo3::prelude::*;

use super::tensors::{Input, Output, Scalar, is_float64};
use crate::cpu;
use crate::error::Result;
use crate::scan::{self, Gradients, Orders, Problem, Shape};
use crate::simd::Float;
use crate::threads;

/// Sizes B, L, D, N, R.
type Sizes = (usize, usize, usize, usize, usize);

/// x, delta, proj, dt_weight, dt_bias, A, skip.
type Inputs<'py, T> =
    (Input<'py, T>, Option<Input<'py, T>>, Input<'py, T>, Input<'py, T>, Input<'py, T>, Input<'py, T>, Input<'py, T>);

/// Gradients of the inputs.
type Outputs<'py, T> = (
    Output<'py, T>,
    Option<Output<'py, T>>,
    Output<'py, T>,
    Output<'py, T>,
    Output<'py, T>,
    Output<'py, T>,
    Output<'py, T>,
);

/// What a call does besides its tensors: sizes, grid (H, W) or None, softplus, threads.
type Options = (Sizes, Option<(usize, usize)>, bool, usize);

/// Name of the vector level in use.
#[pyfunction]
pub(super) fn cpu_level() -> PyResult<&'static str> {
    Ok(cpu::level()?.name())
}

/// Whose threads the kernels run on.
#[pyfunction]
pub(super) fn thread_owner() -> &'static str {
    threads::owner()
}

/// Fills y and, when given, the checkpoints.
#[pyfunction]
pub(super) fn scan_forward(
    inputs: Bound<'_, PyAny>,
    y: Bound<'_, PyAny>,
    checkpoints: Option<Bound<'_, PyAny>>,
    options: Options,
) -> PyResult<()> {
    if is_float64(&y)? {
        forward::<f64>(&inputs, &y, checkpoints.as_ref(), options)
    } else {
        forward::<f32>(&inputs, &y, checkpoints.as_ref(), options)
    }
}

/// Fills the gradients of every input for dy.
#[pyfunction]
pub(super) fn scan_backward(
    inputs: Bound<'_, PyAny>,
    dy: Bound<'_, PyAny>,
    checkpoints: Bound<'_, PyAny>,
    gradients: Bound<'_, PyAny>,
    options: Options,
) -> PyResult<()> {
    if is_float64(&dy)? {
        backward::<f64>(&inputs, &dy, &checkpoints, &gradients, options)
    } else {
        backward::<f32>(&inputs, &dy, &checkpoints, &gradients, options)
    }
}

fn forward<T: Float + Scalar>(
    inputs: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    checkpoints: Option<&Bound<'_, PyAny>>,
    options: Options,
) -> PyResult<()> {
    let tensors: Inputs<'_, T> = inputs.extract()?;
    let mut y: Output<'_, T> = y.extract()?;
    let mut checkpoints: Option<Output<'_, T>> = checkpoints.map(PyAnyMethods::extract).transpose()?;
    let (y, checkpoints) = (&mut y[..], checkpoints.as_deref_mut());
    let problem = problem(&tensors, options);
    Ok(inputs.py().detach(|| scan::forward(&problem, y, checkpoints, options.3))?)
}

fn backward<T: Float + Scalar>(
    inputs: &Bound<'_, PyAny>,
    dy: &Bound<'_, PyAny>,
    checkpoints: &Bound<'_, PyAny>,
    gradients: &Bound<'_, PyAny>,
    options: Options,
) -> PyResult<()> {
    let tensors: Inputs<'_, T> = inputs.extract()?;
    let (dy, checkpoints): (Input<'_, T>, Input<'_, T>) = (dy.extract()?, checkpoints.extract()?);
    let (dy, checkpoints) = (&dy[..], &checkpoints[..]);
    let mut gradients: Outputs<'_, T> = gradients.extract()?;
    let gradients = Gradients {
        x: &mut gradients.0,
        delta: gradients.1.as_deref_mut().unwrap_or_default(),
        proj: &mut gradients.2,
        dt_weight: &mut gradients.3,
        dt_bias: &mut gradients.4,
        a: &mut gradients.5,
        skip: &mut gradients.6,
    };
    let problem = problem(&tensors, options);
    let work = || -> Result<()> { scan::backward(&problem, dy, checkpoints, gradients, options.3) };
    Ok(inputs.py().detach(work)?)
}

/// The scan of these tensors: four directions of a grid, or the one of a sequence.
fn problem<'a, T: Float>(tensors: &'a Inputs<'_, T>, (sizes, grid, softplus, _): Options) -> Problem<'a, T> {
    let (batch, length, channels, states, rank) = sizes;
    let orders = grid.map_or_else(|| Orders::sequence(length), |(height, width)| Orders::grid(height, width));
    let (x, delta, proj, dt_weight, dt_bias, a, skip) = tensors;
    let shape = Shape { batch, length, channels, states, rank, directions: orders.count() };
    let delta = delta.as_deref();
    Problem { shape, orders, x, delta, proj, dt_weight, dt_bias, a, skip, softplus }
}
