//! Candidates of a head (4 + nc + extra, A), read row by row as the memory lies.

use std::ops::Range;

use super::rank::key;
use crate::simd::{Kernel, Vector};

/// Anchors whose best scores stay in the nearest cache while all classes pass by.
const TILE: usize = 1024;
/// Lanes of a vector.
const LANES: usize = super::overlap::LANES;

/// What passes the threshold, as keys of score and `anchor * nc + class`.
pub(super) struct Select<'a> {
    /// The class rows alone.
    pub(super) scores: &'a [f32],
    /// Anchors of a whole row.
    pub(super) anchors: usize,
    pub(super) conf_thr: f32,
    /// One candidate per anchor and class, or per anchor with its best class.
    pub(super) multi_label: bool,
    /// By class, whether it is asked for.
    pub(super) wanted: &'a [bool],
}

/// Candidates found, or that a score is NaN.
pub(super) type Selected = Result<Vec<u64>, IsNan>;

/// A score is NaN.
#[derive(Debug)]
pub(super) struct IsNan;

impl Kernel for Select<'_> {
    type Scalar = f32;
    type Output = Selected;

    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) -> Selected {
        if self.multi_label { self.all_classes::<V>() } else { self.best_class::<V>() }
    }
}

impl Select<'_> {
    /// Scores of the anchors in `part`, class by class.
    #[inline(always)]
    fn rows(&self, part: Range<usize>) -> impl Iterator<Item = &[f32]> {
        self.scores.chunks_exact(self.anchors.max(1)).map(move |row| &row[part.clone()])
    }

    #[inline(always)]
    fn all_classes<V: Vector<Scalar = f32>>(&self) -> Selected {
        let mut keys = Vec::new();
        let threshold = V::splat(self.conf_thr);
        for (class, row) in self.rows(0..self.anchors).enumerate() {
            for (at, scores) in row.chunks(LANES).enumerate() {
                let below = V::load(scores).less(threshold);
                let mut rest = !below & ((1 << scores.len()) - 1); // at the threshold, above, or NaN
                while rest != 0 {
                    let lane = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    let score = scores[lane];
                    if score > self.conf_thr && self.wanted[class] {
                        let anchor = at * LANES + lane;
                        keys.push(key(score, (anchor * self.wanted.len() + class) as u32));
                    } else if score.is_nan() {
                        return Err(IsNan);
                    }
                }
            }
        }
        Ok(keys)
    }

    #[inline(always)]
    fn best_class<V: Vector<Scalar = f32>>(&self) -> Selected {
        let mut keys = Vec::new();
        for start in (0..self.anchors).step_by(TILE) {
            let part = start..self.anchors.min(start + TILE);
            // A class row that leaves no trace has nothing above the threshold; -1 stands for no class.
            let (mut best, mut class_of) = ([self.conf_thr; TILE], [-1.0f32; TILE]);
            let mut trace = V::zero();
            for (class, row) in self.rows(part.clone()).enumerate() {
                let class = V::splat(class as f32);
                for ((scores, best), class_of) in
                    row.chunks(LANES).zip(best.chunks_exact_mut(LANES)).zip(class_of.chunks_exact_mut(LANES))
                {
                    let (score, before) = (V::load(scores), V::from_lanes(best));
                    trace = score.fma(V::zero(), trace); // NaN from NaN and from infinity
                    score.select_greater(before, class, V::from_lanes(class_of)).write_lanes(class_of);
                    score.select_greater(before, score, before).write_lanes(best);
                }
            }
            let is_nan = |row: &[f32]| row.iter().any(|score| score.is_nan());
            if !trace.all_less(V::splat(1.0)) && self.rows(part.clone()).any(is_nan) {
                return Err(IsNan);
            }
            for (anchor, (&best, &class)) in part.zip(best.iter().zip(&class_of)) {
                if class >= 0.0 && self.wanted[class as usize] {
                    keys.push(key(best, (anchor * self.wanted.len() + class as usize) as u32));
                }
            }
        }
        Ok(keys)
    }
}
