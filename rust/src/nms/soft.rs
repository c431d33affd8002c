//! Soft suppression: overlapping boxes lose score instead of their place (arXiv 1704.04503).

use super::overlap::iou;
use super::refuse_nan;
use crate::error::Result;

/// Width of the Gaussian penalty (arXiv 1704.04503 §5.1).
const GAUSSIAN_SIGMA: f32 = 0.5;
/// Boxes whose score fell below this are gone (the paper's released setting).
const SCORE_FLOOR: f32 = 1e-3;

/// How overlap lowers a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// `s * (1 - IoU)` where IoU > threshold.
    Linear,
    /// `s * exp(-IoU^2 / 0.5)`, whatever the threshold.
    Gaussian,
}

/// Take the best remaining box, lower its rivals, repeat; indices by falling lowered score.
///
/// # Errors
/// [`crate::error::Error::Argument`] for a NaN score or coordinate.
pub fn soft(
    boxes: &[[f32; 4]],
    scores: &[f32],
    classes: Option<&[i64]>,
    iou_thr: f64,
    max_det: usize,
    decay: Decay,
) -> Result<Vec<usize>> {
    refuse_nan(boxes, scores)?;
    let mut left: Vec<(usize, f32)> = scores.iter().copied().enumerate().filter(|s| s.1 >= SCORE_FLOOR).collect();
    let mut kept = Vec::new();
    while kept.len() < max_det {
        let Some(best) = (0..left.len()).reduce(|a, b| if left[b].1 > left[a].1 { b } else { a }) else {
            break;
        };
        let (winner, _) = left.remove(best); // keeps the others in index order, so ties stay by index
        kept.push(winner);
        for (i, score) in &mut left {
            if classes.is_none_or(|c| c[*i] == c[winner]) {
                *score *= penalty(iou(&boxes[winner], &boxes[*i]), iou_thr, decay);
            }
        }
        left.retain(|s| s.1 >= SCORE_FLOOR);
    }
    Ok(kept)
}

/// Factor on the score of a box that overlaps the winner by `overlap` (NaN, two empty boxes, counts as none).
fn penalty(overlap: f32, iou_thr: f64, decay: Decay) -> f32 {
    match decay {
        Decay::Linear if f64::from(overlap) > iou_thr => 1.0 - overlap,
        Decay::Gaussian if !overlap.is_nan() => (-overlap * overlap / GAUSSIAN_SIGMA).exp(),
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_falls_behind_a_distant_box() {
        let boxes = [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]];
        let kept = soft(&boxes, &[0.9, 0.8, 0.3], None, 0.5, 10, Decay::Gaussian).unwrap();
        assert_eq!(kept, [0, 2, 1]); // 0.8 * exp(-2) = 0.108 < 0.3
        let kept = soft(&boxes, &[0.9, 0.8, 0.3], None, 0.5, 10, Decay::Linear).unwrap();
        assert_eq!(kept, [0, 2]); // 0.8 * (1 - 1) = 0
    }
}
