//! The scan of label files for Python: flat arrays.

// Values taken over from Python arrive by value.
#![allow(clippy::needless_pass_by_value)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::path::PathBuf;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;

use crate::labels::{self, Found, Labels, Objects};

/// Pictures in order, their sizes, and where their objects end.
type Pictures = (Vec<OsString>, Vec<(usize, usize)>, Vec<usize>);

/// (picture, reason) unreadable; (picture, label file) to be read in Python; (picture, earlier one) of the same labels;
/// label files of no picture; the damaged cache file.
type Faults = (Vec<(usize, String)>, Vec<(usize, OsString)>, Vec<(usize, usize)>, Vec<OsString>, Option<PathBuf>);

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
    let scan = py.detach(|| labels::scan(pictures, classes.as_deref(), keep.as_deref(), num_threads))?;
    let (mut sizes, mut ends, mut all) = (Vec::new(), Vec::new(), Objects::default());
    let (mut unreadable, mut odd, mut shared, mut first) = (vec![], vec![], vec![], HashMap::new());
    for ((i, found), labels) in scan.found.into_iter().enumerate().zip(names(scan.labels)) {
        let size = match found {
            Found::Unreadable(reason) => {
                unreadable.push((i, reason));
                (0, 0)
            }
            Found::Picture(size, content) => {
                match content {
                    Labels::Odd => odd.push((i, labels.clone())),
                    Labels::Objects(objects) => add(&mut all, objects),
                }
                match first.entry(labels) {
                    Entry::Occupied(earlier) => shared.push((i, *earlier.get())),
                    Entry::Vacant(place) => _ = place.insert(i),
                }
                size
            }
        };
        sizes.push(size);
        ends.push(all.classes.len());
    }
    let counts = all.counts.into_pyarray(py);
    let objects = (all.classes.into_pyarray(py), rows(py, &all.boxes)?, counts, rows(py, &all.points)?);
    let faults = (unreadable, odd, shared, names(scan.orphans), scan.damaged);
    Ok(((names(scan.pictures), sizes, ends), faults, objects, scan.num_cached))
}

/// As text: Python makes paths of those it needs.
fn names(paths: Vec<PathBuf>) -> Vec<OsString> {
    paths.into_iter().map(PathBuf::into_os_string).collect()
}

/// Put objects behind the others; one without a polygon has one of no points.
fn add(all: &mut Objects, objects: Objects) {
    let plain = objects.classes.len() - objects.counts.len();
    all.counts.extend(objects.counts.into_iter().chain(std::iter::repeat_n(0, plain)));
    all.classes.extend(objects.classes);
    all.boxes.extend(objects.boxes);
    all.points.extend(objects.points);
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
