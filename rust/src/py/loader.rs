//! The loader for Python: a pipeline over an index, and streams of batches.

use std::path::PathBuf;
use std::time::Duration;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray4, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::augment::Ranges;
use crate::error::Error;
use crate::loader::{Batch, BatchStream, Index, Pipeline, Running, Shape};

/// How long the interpreter waits before it looks for Ctrl-C.
const SLICE: Duration = Duration::from_millis(50);

type Arrays<'py> = (
    Bound<'py, PyArray4<u8>>,
    Bound<'py, PyArray2<f32>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray2<f32>>,
);

/// A data set ready to be loaded.
#[pyclass(name = "Pipeline", frozen)]
pub(super) struct PyPipeline {
    inner: Pipeline,
    side: usize,
}

#[pymethods]
impl PyPipeline {
    #[new]
    fn new(
        paths: Vec<PathBuf>,
        boxes: PyReadonlyArray2<'_, f32>,
        classes: PyReadonlyArray1<'_, i64>,
        offsets: Vec<usize>,
        side: usize,
        batch_size: usize,
    ) -> PyResult<Self> {
        if boxes.as_array().ncols() != 4 {
            return Err(Error::Argument(format!("boxes must have 4 columns, got {}", boxes.as_array().ncols())).into());
        }
        let rows = boxes.as_array().rows().into_iter().map(|r| [r[0], r[1], r[2], r[3]]).collect();
        let index = Index::new(paths, rows, classes.as_array().to_vec(), offsets)?;
        Ok(Self { inner: Pipeline::new(index, Shape { side, batch_size })?, side })
    }

    /// Start loading; `ranges` are the eight numbers of `AugmentConfig` in its order, or None for validation.
    fn start(
        &self,
        seed: u64,
        epoch: u32,
        first: usize,
        ranges: Option<[f64; 8]>,
        threads: usize,
    ) -> PyResult<PyBatchStream> {
        let ranges = ranges.map(|[hsv_h, hsv_s, hsv_v, translate, scale, fliplr, flipud, mosaic]| Ranges {
            hsv_h,
            hsv_s,
            hsv_v,
            translate,
            scale,
            fliplr,
            flipud,
            mosaic,
        });
        let inner = self.inner.start((seed, epoch), first, ranges, threads)?;
        Ok(PyBatchStream { inner, side: self.side })
    }
}

/// Batches of one epoch.
#[pyclass(name = "BatchStream", frozen)]
pub(super) struct PyBatchStream {
    inner: BatchStream,
    side: usize,
}

#[pymethods]
impl PyBatchStream {
    /// The next batch as arrays, or None at the end; the interpreter runs on while it waits.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Arrays<'py>>> {
        loop {
            match py.detach(|| self.inner.wait(SLICE)) {
                Running::Batch(batch) => return to_arrays(py, (*batch)?, self.side).map(Some),
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

fn to_arrays(py: Python<'_>, batch: Batch, side: usize) -> PyResult<Arrays<'_>> {
    let (size, num_boxes) = (batch.sample_index.len(), batch.targets.len());
    let boxes: Vec<f32> = batch.targets.iter().flat_map(|t| t.cxcywh_norm).collect();
    let classes: Vec<i64> = batch.targets.iter().map(|t| t.class).collect();
    Ok((
        batch.images.into_pyarray(py).reshape([size, 3, side, side])?,
        boxes.into_pyarray(py).reshape([num_boxes, 4])?,
        classes.into_pyarray(py),
        batch.batch_index.into_pyarray(py),
        batch.sample_index.into_pyarray(py),
        batch.letterbox.concat().into_pyarray(py).reshape([size, 3])?,
    ))
}
