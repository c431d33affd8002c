//! Greedy suppression in order of score.

use std::collections::HashMap;

use super::overlap::{distance_iou, iou};
use super::{by_falling_score, refuse_nan};
use crate::error::Result;

/// Keep a box unless a better one of its class overlaps it by IoU > `iou_thr`; stop after `max_det`.
///
/// `classes` gives one class per box, or nothing for a single class. Returns indices by falling score.
///
/// # Errors
/// [`crate::error::Error::Argument`] for a NaN score or coordinate.
pub fn hard(
    boxes: &[[f32; 4]],
    scores: &[f32],
    classes: Option<&[i64]>,
    iou_thr: f64,
    max_det: usize,
) -> Result<Vec<usize>> {
    refuse_nan(boxes, scores)?;
    Ok(greedy(boxes, &by_falling_score(scores), classes, iou_thr, max_det, iou))
}

/// As [`hard`], with the distance IoU (arXiv 1911.08287 §3.3) in place of the IoU.
///
/// # Errors
/// [`crate::error::Error::Argument`] for a NaN score or coordinate.
pub fn diou(
    boxes: &[[f32; 4]],
    scores: &[f32],
    classes: Option<&[i64]>,
    iou_thr: f64,
    max_det: usize,
) -> Result<Vec<usize>> {
    refuse_nan(boxes, scores)?;
    Ok(greedy(boxes, &by_falling_score(scores), classes, iou_thr, max_det, distance_iou))
}

/// Walk candidates in order; each is compared with the kept boxes of its own class only.
pub(super) fn greedy(
    boxes: &[[f32; 4]],
    order: &[usize],
    classes: Option<&[i64]>,
    iou_thr: f64,
    max_det: usize,
    overlap: fn(&[f32; 4], &[f32; 4]) -> f32,
) -> Vec<usize> {
    let mut kept = Vec::new();
    let mut kept_of_class: HashMap<i64, Vec<[f32; 4]>> = HashMap::new();
    for &i in order {
        if kept.len() == max_det {
            break;
        }
        let rivals = kept_of_class.entry(classes.map_or(0, |c| c[i])).or_default();
        let overlaps = |rival: &[f32; 4]| f64::from(overlap(rival, &boxes[i])) > iou_thr; // false for NaN
        if !rivals.iter().any(overlaps) {
            rivals.push(boxes[i]);
            kept.push(i);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_overlap_keeps_both() {
        let boxes = [[0.0, 0.0, 2.0, 1.0], [1.0, 0.0, 3.0, 1.0]]; // IoU = 1/3
        let third = f64::from(1.0f32 / 3.0);
        assert_eq!(hard(&boxes, &[0.5, 0.9], None, third, 10).unwrap(), [1, 0]);
        assert_eq!(hard(&boxes, &[0.5, 0.9], None, 0.33, 10).unwrap(), [1]);
    }

    #[test]
    fn nan_is_refused_and_empty_is_fine() {
        assert!(hard(&[[0.0; 4]], &[f32::NAN], None, 0.5, 10).is_err());
        assert!(hard(&[[f32::NAN; 4]], &[0.5], None, 0.5, 10).is_err());
        assert!(hard(&[], &[], None, 0.5, 10).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn survivors_do_not_overlap_and_each_loser_has_a_better_rival(
            raw in prop::collection::vec((0u8..50, 0u8..50, 1u8..20, 1u8..20, 0u8..10, 0i64..3), 0..60)
        ) {
            let boxes: Vec<[f32; 4]> = raw.iter()
                .map(|&(x, y, w, h, ..)| [x, y, x + w, y + h].map(f32::from)).collect();
            let scores: Vec<f32> = raw.iter().map(|r| f32::from(r.4) / 10.0).collect();
            let classes: Vec<i64> = raw.iter().map(|r| r.5).collect();
            let kept = hard(&boxes, &scores, Some(&classes), 0.4, usize::MAX).unwrap();
            for i in 0..boxes.len() {
                let better = |j: &usize| (scores[*j] > scores[i] || (scores[*j] == scores[i] && *j < i))
                    && classes[*j] == classes[i] && f64::from(iou(&boxes[*j], &boxes[i])) > 0.4;
                prop_assert_eq!(kept.contains(&i), !kept.iter().any(better));
            }
        }
    }
}
