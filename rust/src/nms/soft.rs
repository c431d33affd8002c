//! Soft suppression: overlapping boxes lose score instead of their place (arXiv 1704.04503).

use super::overlap::{Block, Corners, LANES, Rule};
use super::{Boxes, groups_of};
use crate::cpu;
use crate::error::Result;
use crate::simd::{Kernel, Vector, dispatch};

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
/// [`crate::error::Error::Argument`] for sizes that differ, and a NaN score or coordinate.
pub fn soft(boxes: Boxes<'_>, threshold: f64, max_det: usize, decay: Decay) -> Result<Vec<usize>> {
    boxes.check()?;
    let (groups, _) = groups_of(boxes.classes, boxes.corners.len());
    let rule = Rule::new(if decay == Decay::Linear { threshold } else { 0.0 }, false);
    let mut blocks = vec![Slot::default(); boxes.corners.len().div_ceil(LANES)];
    for (i, (&corners, &score)) in boxes.corners.iter().zip(boxes.scores).enumerate() {
        let slot = &mut blocks[i / LANES];
        slot.corners.set(i % LANES, Corners::new(corners));
        slot.scores[i % LANES] = if score >= SCORE_FLOOR { score } else { GONE };
        slot.groups[i % LANES] = groups[i];
    }
    Ok(dispatch(cpu::level()?, Soft { corners: boxes.corners, slots: blocks, rule, max_det, decay }))
}

/// Score of a box that was taken or fell below the floor.
const GONE: f32 = f32::NEG_INFINITY;

/// Sixteen boxes that are still to be taken.
#[derive(Clone)]
struct Slot {
    corners: Block,
    scores: [f32; LANES],
    groups: [u32; LANES],
}

impl Default for Slot {
    fn default() -> Self {
        Self { corners: Block::default(), scores: [GONE; LANES], groups: [0; LANES] }
    }
}

struct Soft<'a> {
    corners: &'a [[f32; 4]],
    slots: Vec<Slot>,
    rule: Rule,
    max_det: usize,
    decay: Decay,
}

impl Kernel for Soft<'_> {
    type Scalar = f32;
    type Output = Vec<usize>;

    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(mut self) -> Vec<usize> {
        let mut kept = Vec::new();
        while kept.len() < self.max_det {
            let Some(winner) = best::<V>(&self.slots) else {
                break;
            };
            kept.push(winner);
            let slot = &mut self.slots[winner / LANES];
            slot.scores[winner % LANES] = GONE;
            let group = slot.groups[winner % LANES];
            let corners = Corners::new(self.corners[winner]).splat::<V>();
            for slot in &mut self.slots {
                if let Some(overlap) = self.rule.overlap(&corners, &slot.corners.load()) {
                    let mut overlaps = [0.0; LANES];
                    overlap.write_lanes(&mut overlaps);
                    slot.lower(&overlaps, group, self.rule.threshold, self.decay);
                }
            }
        }
        kept
    }
}

impl Slot {
    /// Multiply scores of `group` by their penalties.
    #[inline(always)]
    fn lower(&mut self, overlaps: &[f32; LANES], group: u32, threshold: f32, decay: Decay) {
        for ((score, &overlap), &own) in self.scores.iter_mut().zip(overlaps).zip(&self.groups) {
            if own != group || *score == GONE {
                continue;
            }
            *score *= match decay {
                Decay::Linear if overlap > threshold => 1.0 - overlap,
                Decay::Gaussian if overlap > 0.0 => (-overlap * overlap / GAUSSIAN_SIGMA).exp(),
                _ => 1.0, // NaN too: two empty boxes do not overlap
            };
            if *score < SCORE_FLOOR || score.is_nan() {
                *score = GONE; // infinity times 0 is NaN
            }
        }
    }
}

/// The first box of the highest score.
#[inline(always)]
fn best<V: Vector<Scalar = f32>>(slots: &[Slot]) -> Option<usize> {
    let mut highest = V::splat(GONE);
    for slot in slots {
        highest = highest.max(V::from_lanes(&slot.scores));
    }
    let mut lanes = [0.0; LANES];
    highest.write_lanes(&mut lanes);
    let highest = lanes.into_iter().fold(GONE, f32::max);
    if highest == GONE {
        return None;
    }
    for (block, slot) in slots.iter().enumerate() {
        let holds = !V::from_lanes(&slot.scores).less(V::splat(highest)) & ((1 << LANES) - 1);
        if holds != 0 {
            return Some(block * LANES + holds.trailing_zeros() as usize);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_falls_behind_a_distant_box() {
        let corners = [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]];
        let boxes = Boxes { corners: &corners, scores: &[0.9, 0.8, 0.3], classes: None };
        let kept = soft(boxes, 0.5, 10, Decay::Gaussian).unwrap();
        assert_eq!(kept, [0, 2, 1]); // 0.8 * exp(-2) = 0.108 < 0.3
        let kept = soft(boxes, 0.5, 10, Decay::Linear).unwrap();
        assert_eq!(kept, [0, 2]); // 0.8 * (1 - 1) = 0
    }
}
