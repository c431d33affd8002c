//! Greedy suppression by lists of kept boxes: each candidate is compared with those of its group, sixteen at a time.
//!
//! Stops at the last box asked for, so that a head with 30 000 candidates and room for 300 reads a few hundred of them.

use super::overlap::{Block, Corners, LANES, Rule};
use crate::simd::{Kernel, Vector};

/// A box in order of rank.
pub(super) struct Candidate {
    pub(super) corners: [f32; 4],
    /// Boxes of different groups do not compete.
    pub(super) group: usize,
}

/// Keep a candidate unless a kept one of its group overlaps it; the positions of those kept.
pub(super) struct Greedy<I> {
    pub(super) candidates: I,
    pub(super) num_groups: usize,
    pub(super) rule: Rule,
    pub(super) max_det: usize,
}

impl<I: Iterator<Item = Candidate>> Kernel for Greedy<I> {
    type Scalar = f32;
    type Output = Vec<usize>;

    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) -> Vec<usize> {
        let mut kept = Vec::new();
        let mut groups = vec![Group::default(); self.num_groups];
        if self.max_det == 0 {
            return kept;
        }
        for (position, candidate) in self.candidates.enumerate() {
            let group = &mut groups[candidate.group];
            let corners = Corners::new(candidate.corners);
            if group.suppresses::<V>(&corners, &self.rule) {
                continue;
            }
            group.push(corners);
            kept.push(position);
            if kept.len() == self.max_det {
                break;
            }
        }
        kept
    }
}

/// Kept boxes of one group.
#[derive(Clone, Default)]
struct Group {
    blocks: Vec<Block>,
    len: usize,
}

impl Group {
    #[inline(always)]
    fn suppresses<V: Vector<Scalar = f32>>(&self, one: &Corners<f32>, rule: &Rule) -> bool {
        let one = one.splat::<V>();
        for block in &self.blocks {
            if let Some(overlap) = rule.overlap(&block.load(), &one)
                && rule.above(overlap) != 0
            {
                return true;
            }
        }
        false
    }

    fn push(&mut self, corners: Corners<f32>) {
        let lane = self.len % LANES;
        if lane == 0 {
            self.blocks.push(Block::default());
        }
        if let Some(block) = self.blocks.last_mut() {
            block.set(lane, corners);
        }
        self.len += 1;
    }
}
