//! From a decoded head (4 + nc + extra, A) to final rows of one image.

use super::greedy::{Candidate, Greedy};
use super::overlap::Rule;
use super::rank::Ranked;
use super::select::Select;
use crate::cpu;
use crate::error::{Error, Result};
use crate::simd::dispatch;

/// Candidates kept by score before suppression; bounds the worst case, as the field does.
const MAX_CANDIDATES: usize = 30_000;
/// Distance between classes in pixels where boxes are shifted apart; the field's custom.
const CLASS_SHIFT: f32 = 7680.0;

/// What to keep of a head.
#[derive(Clone, Debug)]
pub struct HeadOptions {
    /// Candidates need a class score above this; not negative.
    pub conf_thr: f32,
    /// Boxes of one class that overlap by more than this compete.
    pub iou_thr: f64,
    /// One candidate per anchor and class (true) or per anchor with its best class (false).
    pub multi_label: bool,
    /// Let boxes of different classes compete.
    pub agnostic: bool,
    /// Shift classes apart by [`CLASS_SHIFT`] and let all compete, with the rounding that follows.
    pub compat: bool,
    /// Most rows per image.
    pub max_det: usize,
    /// How many of the rows after the box are class scores.
    pub num_classes: usize,
    /// Only these classes, or all.
    pub classes: Option<Vec<usize>>,
}

/// Suppress one image's head `pred` of `channels` rows by `anchors` columns.
///
/// Writes rows `x1 y1 x2 y2 score class extra…` to the front of `rows`, as many as it has room for and at most
/// `max_det`; returns how many.
///
/// # Errors
/// [`Error::Argument`] when the sizes do not fit, or a box or score is NaN.
pub fn head(pred: &[f32], channels: usize, anchors: usize, options: &HeadOptions, rows: &mut [f32]) -> Result<usize> {
    let num_classes = options.num_classes;
    if pred.len() != channels * anchors || channels < 4 + num_classes || anchors * num_classes > u32::MAX as usize {
        let message = format!("pred must have 4 + {num_classes} class rows or more, got {channels} x {anchors}");
        return Err(Error::Argument(message));
    }
    let width = channels - num_classes + 2;
    let mut keys = select(&pred[..(4 + num_classes) * anchors], anchors, options)?;
    if keys.len() > MAX_CANDIDATES {
        keys.select_nth_unstable(MAX_CANDIDATES);
        keys.truncate(MAX_CANDIDATES);
    }
    let mut seen = Vec::new();
    let candidates = Ranked::new(keys, 2 * options.max_det.min(MAX_CANDIDATES)).map(|(score, index)| {
        let (anchor, class) = (index as usize / num_classes, index as usize % num_classes);
        let corners = corners(pred, anchors, anchor);
        seen.push((anchor, class, score, corners));
        match (options.agnostic, options.compat) {
            (true, _) => Candidate { corners, group: 0 },
            (false, true) => Candidate { corners: corners.map(|v| v + class as f32 * CLASS_SHIFT), group: 0 },
            (false, false) => Candidate { corners, group: class },
        }
    });
    let rule = Rule::new(options.iou_thr, false);
    let max_det = options.max_det.min(rows.len() / width);
    let kept = dispatch(cpu::level()?, Greedy { candidates, num_groups: num_classes.max(1), rule, max_det });
    for (row, &position) in rows.chunks_exact_mut(width).zip(&kept) {
        let (anchor, class, score, corners) = seen[position];
        row[..4].copy_from_slice(&corners);
        (row[4], row[5]) = (score, class as f32);
        row[6..].iter_mut().zip(4 + num_classes..).for_each(|(v, extra)| *v = pred[extra * anchors + anchor]);
    }
    Ok(kept.len())
}

/// Candidates of the box and class rows, in any order.
fn select(pred: &[f32], anchors: usize, options: &HeadOptions) -> Result<Vec<u64>> {
    let nan = || Error::Argument("pred has NaN boxes or scores; the model or its input is broken".to_owned());
    let (boxes, scores) = pred.split_at(4 * anchors);
    if has_nan_corner(boxes, anchors) {
        return Err(nan());
    }
    let is_wanted = |class| options.classes.as_ref().is_none_or(|classes| classes.contains(&class));
    let wanted: Vec<bool> = (0..options.num_classes).map(is_wanted).collect();
    let (conf_thr, multi_label) = (options.conf_thr, options.multi_label);
    dispatch(cpu::level()?, Select { scores, anchors, conf_thr, multi_label, wanted: &wanted }).map_err(|_| nan())
}

/// Whether a corner is NaN: a value is, or infinities cancel.
fn has_nan_corner(boxes: &[f32], anchors: usize) -> bool {
    let (centres, sizes) = boxes.split_at(2 * anchors);
    let is_nan = |(c, s): (&f32, &f32)| (c - s / 2.0).is_nan() | (c + s / 2.0).is_nan();
    centres.iter().zip(sizes).fold(false, |nan, pair| nan | is_nan(pair))
}

/// Centre and size of an anchor's box as corners.
fn corners(pred: &[f32], anchors: usize, anchor: usize) -> [f32; 4] {
    let [cx, cy, w, h] = [0, 1, 2, 3].map(|row| pred[row * anchors + anchor]);
    [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0]
}
