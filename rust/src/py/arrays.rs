//! Checks of arrays that come from Python: contiguous, and of the shape that a room works on.

use numpy::ndarray::Dimension;
use numpy::{Element, PyReadonlyArray, PyReadonlyArray2};
use pyo3::PyResult;

use crate::error::Error;

/// The elements of a C-contiguous array.
pub(super) fn slice<'a, T: Element, D: Dimension>(array: &'a PyReadonlyArray<'_, T, D>) -> PyResult<&'a [T]> {
    let contiguous = array.as_slice().map_err(|_| Error::Argument("array must be C-contiguous".to_owned()))?;
    Ok(contiguous)
}

/// The rows of an (N, 4) array.
pub(super) fn corners<'a>(array: &'a PyReadonlyArray2<'_, f32>) -> PyResult<&'a [[f32; 4]]> {
    let (rows, rest) = slice(array)?.as_chunks::<4>();
    if rest.is_empty() && array.as_array().ncols() == 4 {
        return Ok(rows);
    }
    Err(Error::Argument(format!("boxes must have shape (N, 4), got {:?}", array.as_array().dim())).into())
}
