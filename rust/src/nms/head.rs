//! From a decoded head (4 + nc + extra, A) to final rows, one image at a time.

use super::hard::greedy;
use super::overlap::iou;
use super::{by_falling_score, falling, refuse_nan};
use crate::error::{Error, Result};

/// Candidates kept by score before suppression; bounds the worst case, as the field does.
const MAX_CANDIDATES: usize = 30_000;

/// What to keep of a head.
#[derive(Clone, Debug)]
pub struct HeadOptions {
    /// Candidates need a class score above this.
    pub conf_thr: f32,
    /// Boxes of one class that overlap by more than this compete.
    pub iou_thr: f64,
    /// One candidate per anchor and class (true) or per anchor with its best class (false).
    pub multi_label: bool,
    /// Let boxes of different classes compete.
    pub agnostic: bool,
    /// Most rows per image.
    pub max_det: usize,
    /// How many of the rows after the box are class scores.
    pub num_classes: usize,
    /// Only these classes, or all.
    pub classes: Option<Vec<usize>>,
}

/// Final detections of one image: `width` values each: `x1 y1 x2 y2 score class extra…`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Row-major values.
    pub values: Vec<f32>,
    /// Values per row.
    pub width: usize,
}

/// One box of one class that passed the threshold.
struct Candidate {
    anchor: usize,
    class: usize,
    score: f32,
}

/// Suppress one image's head `pred` of `channels` rows by `anchors` columns.
///
/// # Errors
/// [`Error::Argument`] when the sizes do not fit or a candidate is NaN.
pub fn head(pred: &[f32], channels: usize, anchors: usize, options: &HeadOptions) -> Result<Rows> {
    if pred.len() != channels * anchors || channels < 4 + options.num_classes {
        return Err(Error::Argument(format!(
            "pred must have 4 + {} class rows or more, got {channels} x {anchors}",
            options.num_classes
        )));
    }
    let mut candidates = candidates(pred, anchors, options)?;
    if candidates.len() > MAX_CANDIDATES {
        candidates.sort_by(|a, b| falling(a.score, b.score)); // stable: ties stay by index
        candidates.truncate(MAX_CANDIDATES);
    }
    let boxes: Vec<[f32; 4]> = candidates.iter().map(|c| corners(pred, anchors, c.anchor)).collect();
    let scores: Vec<f32> = candidates.iter().map(|c| c.score).collect();
    refuse_nan(&boxes, &scores)?;
    let classes: Vec<i64> = candidates.iter().map(|c| c.class as i64).collect();
    let rivals = if options.agnostic { None } else { Some(classes.as_slice()) };
    let kept = greedy(&boxes, &by_falling_score(&scores), rivals, options.iou_thr, options.max_det, iou);

    let extra = 4 + options.num_classes..channels;
    let mut rows = Rows { values: Vec::new(), width: 6 + extra.len() };
    for i in kept {
        rows.values.extend_from_slice(&boxes[i]);
        rows.values.extend_from_slice(&[scores[i], candidates[i].class as f32]);
        rows.values.extend(extra.clone().map(|row| pred[row * anchors + candidates[i].anchor]));
    }
    Ok(rows)
}

/// Anchor-major list of what passes the threshold; NaN scores are an error, not an absence.
fn candidates(pred: &[f32], anchors: usize, options: &HeadOptions) -> Result<Vec<Candidate>> {
    let wanted: Vec<usize> = match &options.classes {
        Some(classes) => classes.iter().copied().filter(|&c| c < options.num_classes).collect(),
        None => (0..options.num_classes).collect(),
    };
    let mut found = Vec::new();
    for (anchor, best) in best_scores(pred, anchors, options.num_classes).into_iter().enumerate() {
        if best.is_nan() {
            let message = format!("a class score of anchor {anchor} is NaN; the model or its input is broken");
            return Err(Error::Argument(message));
        }
        if best <= options.conf_thr {
            continue;
        }
        let score = |class: usize| pred[(4 + class) * anchors + anchor];
        let passes = |class: &usize| score(*class) > options.conf_thr;
        if options.multi_label {
            let all = wanted.iter().copied().filter(passes);
            found.extend(all.map(|class| Candidate { anchor, class, score: score(class) }));
        } else {
            let first_best = (0..options.num_classes).find(|&class| score(class) == best);
            found.extend(first_best.filter(|class| wanted.contains(class)).map(|class| Candidate {
                anchor,
                class,
                score: score(class),
            }));
        }
    }
    Ok(found)
}

/// Best class score of every anchor, NaN if any is; row by row, as the memory lies.
fn best_scores(pred: &[f32], anchors: usize, num_classes: usize) -> Vec<f32> {
    let mut best = vec![f32::NEG_INFINITY; anchors];
    if anchors > 0 {
        for row in pred.chunks_exact(anchors).skip(4).take(num_classes) {
            for (best, &score) in best.iter_mut().zip(row) {
                *best = if score > *best || score.is_nan() { score } else { *best };
            }
        }
    }
    best
}

/// Centre and size of an anchor's box as corners.
fn corners(pred: &[f32], anchors: usize, anchor: usize) -> [f32; 4] {
    let [cx, cy, w, h] = [0, 1, 2, 3].map(|row| pred[row * anchors + anchor]);
    [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0]
}
