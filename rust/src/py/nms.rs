//! Glue of the nms room.

use pyo3::prelude::*;

use super::tensors::{Input, Output};
use crate::error::{Error, Result};
use crate::nms::{self, Boxes, Decay, HeadOptions, Likeness, TurnedBoxes};
use crate::threads::for_each;

/// Boxes (N, 4), scores (N,) and classes (N,) or None.
type Tensors<'py> = (Input<'py, f32>, Input<'py, f32>, Option<Input<'py, i64>>);

/// Fills the front of `kept` with the indices that survive, at most as many as it has room for; returns how many.
#[pyfunction]
pub(super) fn nms_boxes<'py>(
    py: Python<'py>,
    boxes: Tensors<'py>,
    mut kept: Output<'py, i64>,
    iou_thr: f64,
    kind: &str,
) -> PyResult<usize> {
    let (boxes, kept) = (view(&boxes)?, &mut kept[..]);
    let indices = py.detach(|| match kind {
        "hard" => nms::hard(boxes, iou_thr, false, kept.len()),
        "diou" => nms::hard(boxes, iou_thr, true, kept.len()),
        "soft_linear" => nms::soft(boxes, iou_thr, kept.len(), Decay::Linear),
        "soft_gaussian" => nms::soft(boxes, iou_thr, kept.len(), Decay::Gaussian),
        _ => Err(Error::Argument(format!("kind must be hard, diou, soft_linear or soft_gaussian, got {kind:?}"))),
    })?;
    Ok(put(&indices, kept))
}

/// The same for turned boxes (N, 5): centre, size, angle.
#[pyfunction]
pub(super) fn nms_turned<'py>(
    py: Python<'py>,
    boxes: Tensors<'py>,
    mut kept: Output<'py, i64>,
    iou_thr: f64,
    kind: &str,
) -> PyResult<usize> {
    let (boxes, scores, classes) = &boxes;
    let (boxes, rest) = boxes.as_chunks::<5>();
    if !rest.is_empty() {
        return Err(Error::Argument("turned boxes must have shape (N, 5)".to_owned()).into());
    }
    let (boxes, kept) = (TurnedBoxes { boxes, scores, classes: classes.as_deref() }, &mut kept[..]);
    let indices = py.detach(|| match kind {
        "polygon" => nms::turned(boxes, iou_thr, kept.len(), Likeness::Polygon),
        "gaussian" => nms::turned(boxes, iou_thr, kept.len(), Likeness::Gaussian),
        _ => Err(Error::Argument(format!("kind must be polygon or gaussian, got {kind:?}"))),
    })?;
    Ok(put(&indices, kept))
}

/// Writes indices to the front of `kept`; returns how many.
fn put(indices: &[usize], kept: &mut [i64]) -> usize {
    kept.iter_mut().zip(indices).for_each(|(kept, &index)| *kept = index as i64);
    indices.len()
}

/// Fills the front of `fused` (N, 4), `scores` (N,) and `first` (N,), the best member of each; returns how many.
#[pyfunction]
pub(super) fn fuse_boxes<'py>(
    py: Python<'py>,
    boxes: Tensors<'py>,
    fused: (Output<'py, f32>, Output<'py, f32>, Output<'py, i64>),
    iou_thr: f64,
    num_models: usize,
) -> PyResult<usize> {
    let boxes = view(&boxes)?;
    let (mut corners, mut scores, mut first) = fused;
    let found = py.detach(|| nms::fuse(boxes, iou_thr, num_models))?;
    let rows = corners.as_chunks_mut::<4>().0.iter_mut().zip(&mut scores[..]).zip(&mut first[..]);
    for (((corners, score), first), fused) in rows.zip(&found) {
        (*corners, *score, *first) = (fused.corners, fused.score, fused.first as i64);
    }
    Ok(found.len())
}

/// Fills the rows (B, n, 6 + extra) and counts (B,) of a decoded head (B, 4 + nc + extra, A).
#[pyfunction]
pub(super) fn nms_head<'py>(
    py: Python<'py>,
    pred: Input<'py, f32>,
    mut rows: Output<'py, f32>,
    mut counts: Output<'py, i64>,
    sizes: (usize, usize, usize),
    options: (f32, f64, bool, bool, bool, usize, Option<Vec<usize>>),
    threads: usize,
) -> PyResult<()> {
    let (channels, anchors, num_classes) = sizes;
    let (conf_thr, iou_thr, multi_label, agnostic, compat, max_det, classes) = options;
    let options = HeadOptions { conf_thr, iou_thr, multi_label, agnostic, compat, max_det, num_classes, classes };
    let (pred, rows, counts) = (&pred[..], &mut rows[..], &mut counts[..]);
    let number = counts.len();
    if pred.len() != number * channels * anchors || rows.len() % number.max(1) != 0 {
        return Err(Error::Argument("pred, rows and counts are not of the same images".to_owned()).into());
    }
    Ok(py.detach(|| {
        let room = rows.len() / number.max(1);
        let image = |i: usize, rows: &mut [f32]| {
            let pred = &pred[i * channels * anchors..(i + 1) * channels * anchors];
            nms::head(pred, channels, anchors, &options, rows)
        };
        let mut found: Vec<Result<usize>> = counts.iter().map(|_| Ok(0)).collect();
        let mut rooms: Vec<&mut [f32]> = rows.chunks_mut(room.max(1)).collect();
        rooms.resize_with(number, Default::default);
        let images = found.iter_mut().zip(rooms).enumerate();
        for_each(threads, images, |(i, (found, rows))| *found = image(i, rows))?;
        for (count, found) in counts.iter_mut().zip(found) {
            *count = found? as i64;
        }
        Ok::<_, Error>(())
    })?)
}

/// Boxes of these tensors.
fn view<'a>((corners, scores, classes): &'a Tensors<'_>) -> PyResult<Boxes<'a>> {
    let (corners, rest) = corners.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Error::Argument("boxes must have shape (N, 4)".to_owned()).into());
    }
    Ok(Boxes { corners, scores, classes: classes.as_deref() })
}
