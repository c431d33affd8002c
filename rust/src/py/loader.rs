//! The loader for Python: a pipeline over an index, and streams of batches.

// Values taken over from Python arrive by value.
#![allow(clippy::needless_pass_by_value)]

use std::path::PathBuf;
use std::time::Duration;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use super::arrays::{slot_of, to_array};
use crate::augment::{MASK_STRIDE, Ranges};
use crate::error::Error;
use crate::loader::{
    Batch, BatchStream, Course, Index, Keep, Kind, Outlines, Partners, Pipeline, Pixels, Running, Settings, Target,
};

/// How long the interpreter waits before it looks for Ctrl-C.
const SLICE: Duration = Duration::from_millis(50);

type Arrays<'py> = (
    Bound<'py, PyAny>,
    Bound<'py, PyArray2<f32>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray2<f32>>,
    Segments<'py>,
    Option<Bound<'py, PyAny>>,
);

type Segments<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// Rows of the index as Python hands them over: paths, (height, width), corners, classes, offsets, outlines.
type Rows<'py> = (
    Vec<PathBuf>,
    Vec<(usize, usize)>,
    PyReadonlyArray2<'py, f32>,
    PyReadonlyArray1<'py, i64>,
    Vec<usize>,
    (PyReadonlyArray2<'py, f32>, Vec<usize>, Vec<usize>),
);

/// A data set ready to be loaded.
#[pyclass(name = "Pipeline", frozen)]
pub(super) struct PyPipeline(Pipeline);

#[pymethods]
impl PyPipeline {
    /// `keep` is None, "ram" or the path of a cache file; `kind` is "train", "square" or "rect"; `partners` "recent" or
    /// "uniform".
    #[new]
    #[pyo3(signature = (rows, side, batch_size, *, kind, partners, keep, as_floats, masks, skip, shard))]
    #[allow(clippy::too_many_arguments)] // one per setting, by name
    fn new(
        py: Python<'_>,
        rows: Rows<'_>,
        side: usize,
        batch_size: usize,
        kind: &str,
        partners: &str,
        keep: Option<PathBuf>,
        as_floats: bool,
        masks: bool,
        skip: bool,
        shard: (usize, usize),
    ) -> PyResult<Self> {
        let index = to_index(rows)?;
        let kind = match kind {
            "train" => Kind::Train,
            "square" => Kind::Square,
            "rect" => Kind::Rect,
            _ => return Err(Error::Argument(format!("kind must be train, square or rect, got {kind}")).into()),
        };
        let partners = match partners {
            "recent" => Partners::Recent,
            "uniform" => Partners::Uniform,
            _ => return Err(Error::Argument(format!("partners must be recent or uniform, got {partners}")).into()),
        };
        let keep = match keep {
            None => Keep::Nothing,
            Some(word) if word.as_os_str() == "ram" => Keep::Ram,
            Some(path) => Keep::Disk(path),
        };
        let (rank, world) = shard;
        let settings = Settings { side, batch_size, kind, partners, as_floats, masks, skip, rank, world };
        Ok(Self(py.detach(|| Pipeline::new(index, settings, &keep))?))
    }

    /// Start loading at (epoch, position); `ranges` are the numbers of `AugmentConfig` in its order, or None for
    /// validation. Training goes on into the epochs after it. Batches lie in slots that are lent to the stream, if it
    /// `lends`.
    #[pyo3(signature = (seed, at, ranges, close_epoch, threads, *, lends))]
    fn start(
        &self,
        seed: u64,
        at: (u32, usize),
        ranges: Option<[f64; 15]>,
        close_epoch: Option<u32>,
        threads: usize,
        lends: bool,
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
        Ok(PyBatchStream(self.0.start(Course { seed, ranges, close_epoch }, at, threads, lends)?))
    }

    /// (sample, reason) of each picture that could not be read and was skipped.
    fn skipped(&self) -> Vec<(usize, String)> {
        self.0.skipped()
    }

    /// How many pictures were decoded so far.
    fn num_decoded(&self) -> usize {
        self.0.num_decoded()
    }
}

/// Batches of one epoch after the other.
#[pyclass(name = "BatchStream", frozen)]
pub(super) struct PyBatchStream(BatchStream);

#[pymethods]
impl PyBatchStream {
    /// The next batch as arrays, or None where validation ends; the interpreter runs on while it waits.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Arrays<'py>>> {
        loop {
            match py.detach(|| self.0.wait(SLICE)) {
                Running::Batch(batch) => return to_arrays(py, (*batch)?).map(Some),
                Running::Done => return Ok(None),
                Running::Waiting => py.check_signals()?,
            }
        }
    }

    /// What the largest batch holds.
    fn most_values(&self) -> usize {
        self.0.most_values()
    }

    /// Hand in a flat array that one batch is written to and that nobody else uses; batches take them in this order.
    fn lend(&self, slot: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(slot) = slot_of::<u8>(slot) {
            return Ok(self.0.lend_bytes(slot)?);
        }
        let refused =
            || Error::Argument("a slot must be a flat, contiguous, writable array of uint8 or float32".into());
        Ok(self.0.lend_floats(slot_of::<f32>(slot).ok_or_else(refused)?)?)
    }

    /// Stop the threads.
    fn stop(&self) {
        self.0.stop();
    }
}

fn to_index((paths, sizes, boxes, classes, offsets, outlines): Rows<'_>) -> PyResult<Index> {
    let (points, rings, objects) = outlines;
    let outlines = Outlines { points: to_rows("points", &points)?, rings, objects };
    let (boxes, classes) = (to_rows("boxes", &boxes)?, classes.as_slice()?.to_vec());
    Ok(Index { paths, sizes, boxes, classes, offsets, outlines }.checked()?)
}

fn to_rows<const N: usize>(name: &str, array: &PyReadonlyArray2<'_, f32>) -> PyResult<Vec<[f32; N]>> {
    let columns = array.as_array().ncols();
    if columns != N {
        return Err(Error::Argument(format!("{name} must have {N} columns, got {columns}")).into());
    }
    Ok(array.as_slice()?.as_chunks().0.to_vec())
}

fn to_arrays(py: Python<'_>, batch: Batch) -> PyResult<Arrays<'_>> {
    let (count, num_boxes) = (batch.sample_index.len(), batch.targets.len());
    let shape = [count, 3, batch.size.0, batch.size.1];
    let boxes: Vec<f32> = batch.targets.iter().flat_map(|t| t.cxcywh_norm).collect();
    let classes: Vec<i64> = batch.targets.iter().map(|t| t.class).collect();
    let images = to_array(py, batch.images, shape)?;
    let shape = [num_boxes, 1, batch.size.0 / MASK_STRIDE, batch.size.1 / MASK_STRIDE];
    let masks = batch.masks.map(|masks| to_array(py, Pixels::Bytes(masks), shape)).transpose()?;
    Ok((
        images,
        boxes.into_pyarray(py).reshape([num_boxes, 4])?,
        classes.into_pyarray(py),
        batch.batch_index.into_pyarray(py),
        batch.sample_index.into_pyarray(py),
        batch.letterbox.concat().into_pyarray(py).reshape([count, 3])?,
        to_segments(py, &batch.targets)?,
        masks,
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
