//! The loader for Python: a pipeline over an index, and streams of batches.

// Values taken over from Python arrive by value.
#![allow(clippy::needless_pass_by_value)]

use std::path::PathBuf;
use std::time::Duration;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray4, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::augment::Ranges;
use crate::error::Error;
use crate::loader::{Batch, BatchStream, Index, Outlines, Pipeline, Running, Shape, Target};

/// How long the interpreter waits before it looks for Ctrl-C.
const SLICE: Duration = Duration::from_millis(50);

type Arrays<'py> = (
    Bound<'py, PyArray4<u8>>,
    Bound<'py, PyArray2<f32>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray2<f32>>,
    Segments<'py>,
);

type Segments<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// A data set ready to be loaded.
#[pyclass(name = "Pipeline", frozen)]
pub(super) struct PyPipeline {
    inner: Pipeline,
}

#[pymethods]
impl PyPipeline {
    #[new]
    fn new(
        paths: Vec<PathBuf>,
        boxes: PyReadonlyArray2<'_, f32>,
        classes: PyReadonlyArray1<'_, i64>,
        offsets: Vec<usize>,
        outlines: (PyReadonlyArray2<'_, f32>, Vec<usize>, Vec<usize>),
        side: usize,
        batch_size: usize,
    ) -> PyResult<Self> {
        if boxes.as_array().ncols() != 4 {
            return Err(Error::Argument(format!("boxes must have 4 columns, got {}", boxes.as_array().ncols())).into());
        }
        let rows = boxes.as_array().rows().into_iter().map(|r| [r[0], r[1], r[2], r[3]]).collect();
        let (points, rings, objects) = outlines;
        if points.as_array().ncols() != 2 {
            let columns = points.as_array().ncols();
            return Err(Error::Argument(format!("points must have 2 columns, got {columns}")).into());
        }
        let points = points.as_array().rows().into_iter().map(|r| [r[0], r[1]]).collect();
        let outlines = Outlines { points, rings, objects };
        let index = Index::new(paths, rows, classes.as_array().to_vec(), offsets, outlines)?;
        Ok(Self { inner: Pipeline::new(index, Shape { side, batch_size })? })
    }

    /// Start loading; `ranges` are the numbers of `AugmentConfig` in its order, or None for validation.
    fn start(
        &self,
        seed: u64,
        epoch: u32,
        first: usize,
        ranges: Option<[f64; 15]>,
        threads: usize,
    ) -> PyResult<PyBatchStream> {
        let ranges = ranges.map(|values| {
            let [
                hsv_h,
                hsv_s,
                hsv_v,
                degrees,
                translate,
                scale,
                shear,
                perspective,
                fliplr,
                flipud,
                mosaic,
                mixup,
                cutmix,
                copy_paste,
                multi_scale,
            ] = values;
            Ranges {
                hsv_h,
                hsv_s,
                hsv_v,
                degrees,
                translate,
                scale,
                shear,
                perspective,
                fliplr,
                flipud,
                mosaic,
                mixup,
                cutmix,
                copy_paste,
                multi_scale,
            }
        });
        let inner = self.inner.start((seed, epoch), first, ranges, threads)?;
        Ok(PyBatchStream { inner })
    }
}

/// Batches of one epoch.
#[pyclass(name = "BatchStream", frozen)]
pub(super) struct PyBatchStream {
    inner: BatchStream,
}

#[pymethods]
impl PyBatchStream {
    /// The next batch as arrays, or None at the end; the interpreter runs on while it waits.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Arrays<'py>>> {
        loop {
            match py.detach(|| self.inner.wait(SLICE)) {
                Running::Batch(batch) => return to_arrays(py, (*batch)?).map(Some),
                Running::Done => return Ok(None),
                Running::Waiting => py.check_signals()?,
            }
        }
    }

    /// Stop the threads.
    fn stop(&self) {
        self.inner.stop();
    }
}

fn to_arrays(py: Python<'_>, batch: Batch) -> PyResult<Arrays<'_>> {
    let (size, side, num_boxes) = (batch.sample_index.len(), batch.side, batch.targets.len());
    let boxes: Vec<f32> = batch.targets.iter().flat_map(|t| t.cxcywh_norm).collect();
    let classes: Vec<i64> = batch.targets.iter().map(|t| t.class).collect();
    Ok((
        batch.images.into_pyarray(py).reshape([size, 3, side, side])?,
        boxes.into_pyarray(py).reshape([num_boxes, 4])?,
        classes.into_pyarray(py),
        batch.batch_index.into_pyarray(py),
        batch.sample_index.into_pyarray(py),
        batch.letterbox.concat().into_pyarray(py).reshape([size, 3])?,
        to_segments(py, &batch.targets)?,
    ))
}

/// Points, where each polygon begins and ends, where each object's polygons begin and end.
fn to_segments<'py>(py: Python<'py>, targets: &[Target]) -> PyResult<Segments<'py>> {
    let (mut points, mut rings, mut objects) = (vec![], vec![0], vec![0]);
    for target in targets {
        for ring in &target.rings {
            points.extend_from_slice(ring.as_flattened());
            rings.push((points.len() / 2) as i64);
        }
        objects.push(rings.len() as i64 - 1);
    }
    let count = points.len() / 2;
    Ok((points.into_pyarray(py).reshape([count, 2])?, rings.into_pyarray(py), objects.into_pyarray(py)))
}
