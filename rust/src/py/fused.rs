//! Glue of the fused room: the same four functions for float32 and float64 tensors.
//!
//! Maps that are read come as flat tensors from their first value to their last, and a stride between tokens.

use pyo3::prelude::*;

use super::tensors::{Input, Output, Scalar, is_float64};
use crate::fused::{self, Depthwise, DepthwiseGradients, Map, NormGate, NormGradients, Normal, Shape};

/// Values, and their number from a token to the next.
type Tokens<'py, T> = (Input<'py, T>, usize);

/// x, weight, bias, gate.
type DepthwiseInputs<'py, T> = (Tokens<'py, T>, Input<'py, T>, Input<'py, T>, Option<Tokens<'py, T>>);

/// Gradients of x, weight, bias, gate.
type DepthwiseOutputs<'py, T> = (Output<'py, T>, Output<'py, T>, Output<'py, T>, Option<Output<'py, T>>);

/// Sizes (B, H, W, D), residual, threads.
type DepthwiseOptions = ((usize, usize, usize, usize), bool, usize);

/// x, weight, bias, gate.
type NormInputs<'py, T> = (Tokens<'py, T>, Input<'py, T>, Input<'py, T>, Tokens<'py, T>);

/// Gradients of x, weight, bias, gate.
type NormOutputs<'py, T> = (Output<'py, T>, Output<'py, T>, Output<'py, T>, Output<'py, T>);

/// Tokens and channels, eps, threads.
type NormOptions = ((usize, usize), f64, usize);

/// Calls a function for the element type of a tensor.
macro_rules! by_dtype {
    ($tensor:expr, $function:ident($($arg:expr),*)) => {
        if is_float64($tensor)? { $function::<f64>($($arg),*) } else { $function::<f32>($($arg),*) }
    };
}

/// Fills y.
#[pyfunction]
pub(super) fn depthwise_forward(
    inputs: Bound<'_, PyAny>,
    y: Bound<'_, PyAny>,
    options: DepthwiseOptions,
) -> PyResult<()> {
    by_dtype!(&y, run_depthwise_forward(&inputs, &y, options))
}

/// Fills the gradients for dy.
#[pyfunction]
pub(super) fn depthwise_backward(
    inputs: Bound<'_, PyAny>,
    dy: Bound<'_, PyAny>,
    gradients: Bound<'_, PyAny>,
    options: DepthwiseOptions,
) -> PyResult<()> {
    by_dtype!(&dy.get_item(0)?, run_depthwise_backward(&inputs, &dy, &gradients, options))
}

/// Fills y.
#[pyfunction]
pub(super) fn norm_forward(inputs: Bound<'_, PyAny>, y: Bound<'_, PyAny>, options: NormOptions) -> PyResult<()> {
    by_dtype!(&y, run_norm_forward(&inputs, &y, options))
}

/// Fills the gradients for dy.
#[pyfunction]
pub(super) fn norm_backward(
    inputs: Bound<'_, PyAny>,
    dy: Bound<'_, PyAny>,
    gradients: Bound<'_, PyAny>,
    options: NormOptions,
) -> PyResult<()> {
    by_dtype!(&dy.get_item(0)?, run_norm_backward(&inputs, &dy, &gradients, options))
}

fn run_depthwise_forward<T: Normal + Scalar>(
    inputs: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    options: DepthwiseOptions,
) -> PyResult<()> {
    let tensors: DepthwiseInputs<'_, T> = inputs.extract()?;
    let mut y: Output<'_, T> = y.extract()?;
    let (problem, y) = (depthwise(&tensors, options), &mut y[..]);
    Ok(inputs.py().detach(|| fused::depthwise_forward(&problem, y, options.2))?)
}

fn run_depthwise_backward<T: Normal + Scalar>(
    inputs: &Bound<'_, PyAny>,
    dy: &Bound<'_, PyAny>,
    gradients: &Bound<'_, PyAny>,
    options: DepthwiseOptions,
) -> PyResult<()> {
    let tensors: DepthwiseInputs<'_, T> = inputs.extract()?;
    let dy: Tokens<'_, T> = dy.extract()?;
    let (mut x, mut weight, mut bias, mut gate): DepthwiseOutputs<'_, T> = gradients.extract()?;
    let gradients = DepthwiseGradients { x: &mut x, gate: gate.as_deref_mut(), weight: &mut weight, bias: &mut bias };
    let (problem, dy) = (depthwise(&tensors, options), map(&dy));
    Ok(inputs.py().detach(|| fused::depthwise_backward(&problem, dy, gradients, options.2))?)
}

fn run_norm_forward<T: Normal + Scalar>(
    inputs: &Bound<'_, PyAny>,
    y: &Bound<'_, PyAny>,
    options: NormOptions,
) -> PyResult<()> {
    let tensors: NormInputs<'_, T> = inputs.extract()?;
    let mut y: Output<'_, T> = y.extract()?;
    let (problem, y) = (norm_gate(&tensors, options), &mut y[..]);
    Ok(inputs.py().detach(|| fused::norm_forward(&problem, y, options.2))?)
}

fn run_norm_backward<T: Normal + Scalar>(
    inputs: &Bound<'_, PyAny>,
    dy: &Bound<'_, PyAny>,
    gradients: &Bound<'_, PyAny>,
    options: NormOptions,
) -> PyResult<()> {
    let tensors: NormInputs<'_, T> = inputs.extract()?;
    let dy: Tokens<'_, T> = dy.extract()?;
    let (mut x, mut weight, mut bias, mut gate): NormOutputs<'_, T> = gradients.extract()?;
    let mut gradients = NormGradients { x: &mut x, gate: &mut gate, weight: &mut weight, bias: &mut bias };
    let (problem, dy) = (norm_gate(&tensors, options), map(&dy));
    Ok(inputs.py().detach(|| fused::norm_backward(&problem, dy, &mut gradients, options.2))?)
}

fn map<'a, T: Scalar>((values, stride): &'a Tokens<'_, T>) -> Map<'a, T> {
    Map { values, stride: *stride }
}

fn depthwise<'a, T: Normal + Scalar>(
    (x, weight, bias, gate): &'a DepthwiseInputs<'_, T>,
    ((batch, height, width, channels), residual, _): DepthwiseOptions,
) -> Depthwise<'a, T> {
    let shape = Shape { batch, height, width, channels };
    Depthwise { shape, x: map(x), weight, bias, gate: gate.as_ref().map(map), residual }
}

fn norm_gate<'a, T: Normal + Scalar>(
    (x, weight, bias, gate): &'a NormInputs<'_, T>,
    ((tokens, channels), eps, _): NormOptions,
) -> NormGate<'a, T> {
    NormGate { tokens, channels, x: map(x), weight, bias, gate: map(gate), eps: T::from_f64(eps) }
}
