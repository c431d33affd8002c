//! Non-maximum suppression: exact per class, ties by index, no time limit, NaN refused.
//!
//! Boxes are `[x1, y1, x2, y2]` in f32; two boxes compete when they share a class and overlap by IoU > threshold
//! (strictly, torchvision's rule). The plain torch definition is `ops/nms_ref.py`.

mod fusion;
mod greedy;
mod grid;
mod hard;
mod head;
mod overlap;
mod rank;
mod select;
mod soft;
mod turned;

pub use fusion::{Fused, fuse};
pub use hard::hard;
pub use head::{HeadOptions, head};
pub use soft::{Decay, soft};
pub use turned::{Likeness, TurnedBoxes, turned};

use crate::error::{Error, Result};

/// Boxes with their scores and, where they do not all compete, their classes.
#[derive(Clone, Copy, Debug)]
pub struct Boxes<'a> {
    /// `x1 y1 x2 y2` of each.
    pub corners: &'a [[f32; 4]],
    /// One per box.
    pub scores: &'a [f32],
    /// One per box, or nothing for a single class.
    pub classes: Option<&'a [i64]>,
}

impl Boxes<'_> {
    /// Refuse sizes that differ, and NaN, which has no place in an order of scores and overlaps nothing.
    fn check(&self) -> Result<()> {
        let number = self.corners.len();
        if self.scores.len() != number || self.classes.is_some_and(|c| c.len() != number) || number > u32::MAX as usize
        {
            return Err(Error::Argument(format!("{number} boxes need as many scores and classes, at most 2^32")));
        }
        let has_nan = |values: &[f32]| values.iter().fold(false, |nan, v| nan | v.is_nan());
        if has_nan(self.scores) || has_nan(self.corners.as_flattened()) {
            let message = "boxes or scores are NaN; the model or its input is broken";
            return Err(Error::Argument(message.to_owned()));
        }
        Ok(())
    }
}

/// A number from 0 for the class of each box, and how many numbers there are.
fn groups_of(classes: Option<&[i64]>, number: usize) -> (Vec<u32>, usize) {
    let Some(classes) = classes else {
        return (vec![0; number], 1);
    };
    let low = classes.iter().copied().min().unwrap_or(0);
    let high = classes.iter().copied().max().unwrap_or(0);
    if high.abs_diff(low) < 1 << 16 {
        return (classes.iter().map(|c| (c - low) as u32).collect(), (high - low) as usize + 1);
    }
    let mut distinct = classes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let groups = classes.iter().map(|c| distinct.partition_point(|d| d < c) as u32).collect();
    (groups, distinct.len())
}
