//! Weighted box fusion: boxes that several models agree on become one box (arXiv 1910.13302 §3).

use super::overlap::{Block, Corners, LANES, Rule};
use super::rank::Ranked;
use super::{Boxes, groups_of};
use crate::cpu;
use crate::error::Result;
use crate::simd::{Kernel, Vector, dispatch};

/// A fused box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fused {
    /// Mean of its members, weighted by their scores.
    pub corners: [f32; 4],
    /// Mean score, less where fewer boxes than models took part.
    pub score: f32,
    /// The best of its members.
    pub first: usize,
}

/// Clusters of boxes of one class: each box, by falling score, joins the fused box that it overlaps most, if by more than
/// `threshold`, or founds one. By falling score, ties in the order of founding.
///
/// # Errors
/// [`crate::error::Error::Argument`] for sizes that differ, and a NaN score or coordinate.
pub fn fuse(boxes: Boxes<'_>, threshold: f64, num_models: usize) -> Result<Vec<Fused>> {
    boxes.check()?;
    let (groups, num_groups) = groups_of(boxes.classes, boxes.corners.len());
    let rule = Rule::new(threshold, false);
    let mut fused = dispatch(cpu::level()?, Fuse { boxes, groups: &groups, num_groups, rule, num_models });
    fused.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(std::cmp::Ordering::Equal)); // stable
    Ok(fused)
}

struct Fuse<'a> {
    boxes: Boxes<'a>,
    groups: &'a [u32],
    num_groups: usize,
    rule: Rule,
    num_models: usize,
}

impl Kernel for Fuse<'_> {
    type Scalar = f32;
    type Output = Vec<Fused>;

    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) -> Vec<Fused> {
        let mut clusters: Vec<Cluster> = Vec::new();
        let mut groups: Vec<Group> = vec![Group::default(); self.num_groups];
        for (score, index) in Ranked::of_scores(self.boxes.scores, usize::MAX) {
            let corners = self.boxes.corners[index as usize];
            let group = &mut groups[self.groups[index as usize] as usize];
            let place = group.most_overlapping::<V>(corners, &self.rule).unwrap_or_else(|| {
                group.members.push(clusters.len());
                clusters.push(Cluster { first: index as usize, ..Cluster::default() });
                group.members.len() - 1
            });
            let cluster = &mut clusters[group.members[place]];
            cluster.add(corners, score);
            group.set(place, cluster.corners(corners));
        }
        clusters.iter().map(|c| c.fused(self.boxes.corners[c.first], self.num_models)).collect()
    }
}

/// Sums over the members of a fused box.
#[derive(Clone, Copy, Default)]
struct Cluster {
    first: usize,
    weighted: [f64; 4],
    scores: f64,
    number: usize,
}

impl Cluster {
    fn add(&mut self, corners: [f32; 4], score: f32) {
        for (sum, v) in self.weighted.iter_mut().zip(corners) {
            *sum += f64::from(v) * f64::from(score);
        }
        self.scores += f64::from(score);
        self.number += 1;
    }

    /// The mean, or `only` where no score is positive.
    fn corners(&self, only: [f32; 4]) -> [f32; 4] {
        if self.scores > 0.0 { self.weighted.map(|sum| (sum / self.scores) as f32) } else { only }
    }

    fn fused(&self, first: [f32; 4], num_models: usize) -> Fused {
        let share = self.number.min(num_models) as f64 / num_models as f64;
        let score = (self.scores / self.number as f64 * share) as f32;
        Fused { corners: self.corners(first), score, first: self.first }
    }
}

/// Fused boxes of one class.
#[derive(Clone, Default)]
struct Group {
    blocks: Vec<Block>,
    /// Their clusters.
    members: Vec<usize>,
}

impl Group {
    /// Place of the fused box with the highest IoU above the threshold, the earliest of equals.
    #[inline(always)]
    fn most_overlapping<V: Vector<Scalar = f32>>(&self, corners: [f32; 4], rule: &Rule) -> Option<usize> {
        let one = Corners::new(corners).splat::<V>();
        let (mut best, mut place) = (rule.threshold, None);
        for (block, at) in self.blocks.iter().zip((0..).step_by(LANES)) {
            if let Some(overlap) = rule.overlap(&block.load(), &one) {
                let mut overlaps = [0.0; LANES];
                overlap.write_lanes(&mut overlaps);
                for (lane, &overlap) in overlaps.iter().enumerate() {
                    if overlap > best {
                        (best, place) = (overlap, Some(at + lane));
                    }
                }
            }
        }
        place
    }

    fn set(&mut self, place: usize, corners: [f32; 4]) {
        if place / LANES == self.blocks.len() {
            self.blocks.push(Block::default());
        }
        self.blocks[place / LANES].set(place % LANES, Corners::new(corners));
    }
}
