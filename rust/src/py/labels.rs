//! The scan of label files for Python: flat arrays.

// Values taken over from Python arrive by value.
#![allow(clippy::needless_pass_by_value)]

use std::ffi::OsString;
use std::path::PathBuf;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;

use crate::labels::{self, Found, Labels, Objects};

/// Sizes; (picture, reason) unreadable; pictures to be read in Python; per object classes, boxes and polygon lengths;
/// points; per picture the end of its objects; pictures from the cache; whether the cache was damaged.
type Scanned<'py> = (
    Vec<(usize, usize)>,
    Vec<(usize, String)>,
    Vec<usize>,
    (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray2<f32>>, Vec<u32>, Bound<'py, PyArray2<f32>>),
    Vec<usize>,
    usize,
    bool,
);

/// Read picture headers and YOLO label files; see `data/labels.py`.
#[pyfunction]
pub(super) fn scan_labels(
    py: Python<'_>,
    pictures: Vec<(PathBuf, PathBuf)>,
    classes: Option<Vec<i64>>,
    keep: Option<PathBuf>,
    num_threads: usize,
) -> PyResult<Scanned<'_>> {
    let scan = py.detach(|| labels::scan(&pictures, classes.as_deref(), keep.as_deref(), num_threads))?;
    let (mut sizes, mut unreadable, mut odd, mut ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut all = Objects::default();
    for (i, found) in scan.found.into_iter().enumerate() {
        sizes.push(match found {
            Found::Unreadable(reason) => {
                unreadable.push((i, reason));
                (0, 0)
            }
            Found::Picture(size, Labels::Odd) => {
                odd.push(i);
                size
            }
            Found::Picture(size, Labels::Objects(objects)) => {
                // An object without a polygon has one of no points.
                let plain = objects.classes.len() - objects.counts.len();
                all.counts.extend(objects.counts.into_iter().chain(std::iter::repeat_n(0, plain)));
                all.classes.extend(objects.classes);
                all.boxes.extend(objects.boxes);
                all.points.extend(objects.points);
                size
            }
        });
        ends.push(all.classes.len());
    }
    let objects = (all.classes.into_pyarray(py), rows(py, &all.boxes)?, all.counts, rows(py, &all.points)?);
    Ok((sizes, unreadable, odd, objects, ends, scan.num_cached, scan.was_damaged))
}

/// Entries below a folder whose names have one of the suffixes.
#[pyfunction]
pub(super) fn files_below(py: Python<'_>, folder: PathBuf, suffixes: Vec<String>) -> Vec<OsString> {
    py.detach(|| labels::files_below(&folder, &suffixes))
}

fn rows<'py, const N: usize>(py: Python<'py>, rows: &[[f32; N]]) -> PyResult<Bound<'py, PyArray2<f32>>> {
    rows.as_flattened().to_vec().into_pyarray(py).reshape([rows.len(), N])
}
