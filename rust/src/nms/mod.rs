//! Non-maximum suppression: exact per class, ties by index, no time limit, NaN refused.
//!
//! Boxes are `[x1, y1, x2, y2]` in f32; two boxes compete when they share a class and overlap by IoU > threshold
//! (strictly, torchvision's rule). The plain torch definition is `ops/nms_ref.py`.

mod hard;
mod head;
mod overlap;
mod soft;

pub use hard::{diou, hard};
pub use head::{HeadOptions, Rows, head};
pub use soft::{Decay, soft};

use std::cmp::Ordering;

use crate::error::{Error, Result};

/// Indices by falling score, equal scores by rising index.
fn by_falling_score(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| falling(scores[a], scores[b])); // stable: ties stay by index
    order
}

/// Order of two scores that are not NaN; 0 and -0 are equal.
fn falling(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

/// Refuse NaN, which has no place in an order of scores and overlaps nothing.
fn refuse_nan(boxes: &[[f32; 4]], scores: &[f32]) -> Result<()> {
    if let Some(i) = scores.iter().position(|s| s.is_nan()) {
        return Err(Error::Argument(format!("score {i} is NaN; the model or its input is broken")));
    }
    if let Some(i) = boxes.iter().position(|b| b.iter().any(|v| v.is_nan())) {
        return Err(Error::Argument(format!("box {i} has a NaN coordinate: {:?}", boxes[i])));
    }
    Ok(())
}
