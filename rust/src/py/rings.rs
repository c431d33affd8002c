//! Polygons of run lengths, for Python.

use numpy::{IntoPyArray, PyArray2, PyArrayMethods};
use pyo3::prelude::*;

use super::masks::{Runs, rle};
use crate::masks::rings_of;

/// Polygons (k, 2) of the parts of a mask.
#[pyfunction]
pub(super) fn polygons_from_rle(py: Python<'_>, runs: Runs) -> PyResult<Vec<Bound<'_, PyArray2<f32>>>> {
    let rings = rings_of(&rle(runs)?);
    rings.iter().map(|ring| ring.concat().into_pyarray(py).reshape([ring.len(), 2])).collect()
}
