//! The scan of label files for Python: flat arrays.

// Values taken over from Python arrive by value.
#![allow(clippy::needless_pass_by_value)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::path::PathBuf;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;

use crate::labels::{self, Findings};

/// Pictures in order, their sizes, and where their objects end.
type Pictures = (Vec<OsString>, Vec<(u32, u32)>, Vec<u32>);

/// (picture, reason) unreadable; (picture, label file) to be read in Python; (picture, earlier one) of the same labels;
/// label files of no picture; the damaged cache file.
type Faults = (Vec<(u32, String)>, Vec<(u32, OsString)>, Vec<(u32, u32)>, Vec<OsString>, Option<PathBuf>);

/// Classes, boxes, polygon lengths; points of all polygons.
type Flat<'py> =
    (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<u32>>, Bound<'py, PyArray2<f32>>);

/// Read picture headers and YOLO label files; see `data/labels.py`. The last answer: pictures from the cache.
#[pyfunction]
pub(super) fn scan_labels(
    py: Python<'_>,
    pictures: Vec<PathBuf>,
    classes: Option<Vec<i64>>,
    keep: Option<PathBuf>,
    num_threads: usize,
) -> PyResult<(Pictures, Faults, Flat<'_>, usize)> {
    let scan = py.detach(|| labels::scan(&pictures, classes.as_deref(), keep.as_deref(), num_threads))?;
    let Findings { sizes, ends, odd, unreadable, objects } = scan.findings;
    let labels = names(scan.labels);
    let shared = if scan.are_distinct { Vec::new() } else { shared(&labels, &unreadable) };
    let odd = odd.into_iter().map(|i| (i, labels[i as usize].clone())).collect();
    let counts = objects.counts.into_pyarray(py);
    let objects = (objects.classes.into_pyarray(py), rows(py, &objects.boxes)?, counts, rows(py, &objects.points)?);
    let sizes = sizes.into_iter().map(|[height, width]| (height, width)).collect();
    let faults = (unreadable, odd, shared, names(scan.orphans), scan.damaged);
    Ok(((names(scan.pictures), sizes, ends), faults, objects, scan.num_cached))
}

/// (picture, earlier picture) that have one label file, of those that can be read.
fn shared(labels: &[OsString], unreadable: &[(u32, String)]) -> Vec<(u32, u32)> {
    let (mut found, mut first) = (Vec::new(), HashMap::new());
    for (i, label) in (0..).zip(labels) {
        if unreadable.binary_search_by_key(&i, |(place, _)| *place).is_err() {
            match first.entry(label) {
                Entry::Occupied(earlier) => found.push((i, *earlier.get())),
                Entry::Vacant(place) => _ = place.insert(i),
            }
        }
    }
    found
}

/// As text: Python makes paths of those it needs.
fn names(paths: Vec<PathBuf>) -> Vec<OsString> {
    paths.into_iter().map(PathBuf::into_os_string).collect()
}

/// Where the labels of a picture lie.
#[pyfunction]
pub(super) fn label_file(picture: PathBuf) -> PathBuf {
    labels::label_file(&picture)
}

/// Entries below a folder whose names have one of the suffixes.
#[pyfunction]
pub(super) fn files_below(py: Python<'_>, folder: PathBuf, suffixes: Vec<String>) -> Vec<OsString> {
    py.detach(|| labels::files_below(&folder, &suffixes))
}

fn rows<'py, const N: usize>(py: Python<'py>, rows: &[[f32; N]]) -> PyResult<Bound<'py, PyArray2<f32>>> {
    rows.as_flattened().to_vec().into_pyarray(py).reshape([rows.len(), N])
}
