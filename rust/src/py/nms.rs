//! Glue of the nms room.

use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::prelude::*;

use super::arrays::{corners, slice};
use crate::error::{Error, Result};
use crate::nms::{self, Decay, HeadOptions, Rows};
use crate::threads::for_each;

/// Indices kept of boxes (N, 4), scores (N,) and classes (N,) or None.
#[pyfunction]
pub(super) fn nms_boxes<'py>(
    py: Python<'py>,
    boxes: PyReadonlyArray2<'py, f32>,
    scores: PyReadonlyArray1<'py, f32>,
    classes: Option<PyReadonlyArray1<'py, i64>>,
    iou_thr: f64,
    max_det: usize,
    kind: &str,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let (boxes, scores) = (corners(&boxes)?, slice(&scores)?);
    let classes = classes.as_ref().map(|c| slice(c)).transpose()?;
    let kept = py.detach(|| match kind {
        "hard" => nms::hard(boxes, scores, classes, iou_thr, max_det),
        "diou" => nms::diou(boxes, scores, classes, iou_thr, max_det),
        "soft_linear" => nms::soft(boxes, scores, classes, iou_thr, max_det, Decay::Linear),
        "soft_gaussian" => nms::soft(boxes, scores, classes, iou_thr, max_det, Decay::Gaussian),
        _ => Err(Error::Argument(format!("kind must be hard, diou, soft_linear or soft_gaussian, got {kind:?}"))),
    })?;
    Ok(kept.into_iter().map(|i| i as i64).collect::<Vec<_>>().into_pyarray(py))
}

/// Final rows of every image of a decoded head (B, 4 + nc + extra, A).
#[pyfunction]
#[pyo3(signature = (pred, *, conf_thr, iou_thr, multi_label, agnostic, max_det, num_classes, classes, threads))]
#[expect(clippy::too_many_arguments, reason = "keyword-only mirror of the public function")]
pub(super) fn nms_head<'py>(
    py: Python<'py>,
    pred: PyReadonlyArray3<'py, f32>,
    conf_thr: f32,
    iou_thr: f64,
    multi_label: bool,
    agnostic: bool,
    max_det: usize,
    num_classes: usize,
    classes: Option<Vec<usize>>,
    threads: usize,
) -> PyResult<Vec<Bound<'py, PyArray2<f32>>>> {
    let options = HeadOptions { conf_thr, iou_thr, multi_label, agnostic, max_det, num_classes, classes };
    let shape = pred.as_array().dim();
    let pred = slice(&pred)?;
    let per_image: Vec<Rows> = py.detach(|| {
        let size = shape.1 * shape.2;
        let image = |i: usize| nms::head(&pred[i * size..(i + 1) * size], shape.1, shape.2, &options);
        let mut rows: Vec<Result<Rows>> = (0..shape.0).map(|_| Ok(Rows::default())).collect();
        for_each(threads, rows.iter_mut().enumerate(), |(i, rows)| *rows = image(i))?;
        rows.into_iter().collect::<Result<_>>()
    })?;
    per_image.into_iter().map(|rows| matrix(py, rows)).collect()
}

/// Rows as a numpy matrix.
fn matrix(py: Python<'_>, rows: Rows) -> PyResult<Bound<'_, PyArray2<f32>>> {
    use numpy::PyArrayMethods;
    let count = rows.values.len() / rows.width.max(1);
    rows.values.into_pyarray(py).reshape([count, rows.width])
}
