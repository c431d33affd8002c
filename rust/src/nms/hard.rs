//! Suppression of ready boxes: lists of kept boxes where few are kept, a grid where many are.

use super::greedy::{Candidate, Greedy};
use super::grid::GridGreedy;
use super::overlap::Rule;
use super::rank::Ranked;
use super::{Boxes, groups_of};
use crate::cpu;
use crate::error::Result;
use crate::simd::dispatch;

/// With this many boxes a grid is built faster than lists are searched.
const GRID_FROM: usize = 1500;
/// Boxes that are sorted at first when few are to be kept.
const FIRST_BLOCK: usize = 1024;

/// Keep a box unless a better one of its class overlaps it by more than `threshold`; stop after `max_det`.
///
/// Overlap is the IoU, or the distance IoU (arXiv 1911.08287 §3.3). Returns indices by falling score.
///
/// # Errors
/// [`crate::error::Error::Argument`] for sizes that differ, and a NaN score or coordinate.
pub fn hard(boxes: Boxes<'_>, threshold: f64, distance: bool, max_det: usize) -> Result<Vec<usize>> {
    boxes.check()?;
    let (groups, num_groups) = groups_of(boxes.classes, boxes.corners.len());
    let rule = Rule::new(threshold, distance);
    let max_det = max_det.min(boxes.corners.len());
    if max_det < GRID_FROM {
        return by_lists(boxes, &groups, num_groups, rule, max_det);
    }
    let order: Vec<u32> = Ranked::of_scores(boxes.scores, usize::MAX).map(|(_, index)| index).collect();
    let mut kept = vec![true; order.len()];
    for ranks in ranks_by_group(&order, &groups, num_groups) {
        let corners: Vec<[f32; 4]> = ranks.iter().map(|&r| boxes.corners[order[r as usize] as usize]).collect();
        for (&rank, keep) in ranks.iter().zip(survivors(&corners, rule)?) {
            kept[rank as usize] = keep;
        }
    }
    Ok(order.iter().zip(kept).filter(|(_, keep)| *keep).map(|(&i, _)| i as usize).take(max_det).collect())
}

/// Walk the boxes by falling score, sorting no further than needed.
fn by_lists(boxes: Boxes<'_>, groups: &[u32], num_groups: usize, rule: Rule, max_det: usize) -> Result<Vec<usize>> {
    let mut seen = Vec::new();
    let ranked = Ranked::of_scores(boxes.scores, FIRST_BLOCK.max(2 * max_det));
    let candidates = ranked.map(|(_, index)| {
        seen.push(index);
        Candidate { corners: boxes.corners[index as usize], group: groups[index as usize] as usize }
    });
    let kept = dispatch(cpu::level()?, Greedy { candidates, num_groups, rule, max_det });
    Ok(kept.into_iter().map(|position| seen[position] as usize).collect())
}

/// Which boxes of one group, in order of rank, are kept.
fn survivors(corners: &[[f32; 4]], rule: Rule) -> Result<Vec<bool>> {
    if corners.len() >= GRID_FROM && GridGreedy::fits(corners, &rule) {
        return Ok(dispatch(cpu::level()?, GridGreedy { boxes: corners, rule }));
    }
    let candidates = corners.iter().map(|&corners| Candidate { corners, group: 0 });
    let positions = dispatch(cpu::level()?, Greedy { candidates, num_groups: 1, rule, max_det: usize::MAX });
    let mut kept = vec![false; corners.len()];
    positions.into_iter().for_each(|position| kept[position] = true);
    Ok(kept)
}

/// Ranks of the boxes of each group, rising.
fn ranks_by_group(order: &[u32], groups: &[u32], num_groups: usize) -> Vec<Vec<u32>> {
    let mut ranks = vec![Vec::new(); num_groups];
    for (&index, rank) in order.iter().zip(0..) {
        ranks[groups[index as usize] as usize].push(rank);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::super::overlap::iou;
    use super::*;
    use proptest::prelude::*;

    fn boxes<'a>(corners: &'a [[f32; 4]], scores: &'a [f32]) -> Boxes<'a> {
        Boxes { corners, scores, classes: None }
    }

    #[test]
    fn equal_overlap_keeps_both() {
        let corners = [[0.0, 0.0, 2.0, 1.0], [1.0, 0.0, 3.0, 1.0]]; // IoU = 1/3
        let third = f64::from(1.0f32 / 3.0);
        assert_eq!(hard(boxes(&corners, &[0.5, 0.9]), third, false, 10).unwrap(), [1, 0]);
        assert_eq!(hard(boxes(&corners, &[0.5, 0.9]), 0.33, false, 10).unwrap(), [1]);
    }

    #[test]
    fn nan_is_refused_and_empty_is_fine() {
        assert!(hard(boxes(&[[0.0; 4]], &[f32::NAN]), 0.5, false, 10).is_err());
        assert!(hard(boxes(&[[f32::NAN; 4]], &[0.5]), 0.5, false, 10).is_err());
        assert!(hard(boxes(&[[0.0; 4]], &[]), 0.5, false, 10).is_err());
        assert!(hard(boxes(&[], &[]), 0.5, false, 10).unwrap().is_empty());
    }

    /// Boxes of whole and of awkward sizes, far and near, with some that overlap nothing.
    fn any_box() -> impl Strategy<Value = [f32; 4]> {
        let plain = (0u8..50, 0u8..50, 0u8..20, 0u8..20).prop_map(|(x, y, w, h)| [x, y, x + w, y + h].map(f32::from));
        let odd = prop::array::uniform4(prop_oneof![
            Just(f32::INFINITY),
            Just(f32::NEG_INFINITY),
            Just(f32::MAX),
            Just(1e-40),
            -1e3f32..1e3,
            1e7f32..1.0001e7
        ]);
        prop_oneof![9 => plain, 1 => odd]
    }

    proptest! {
        #[test]
        fn survivors_do_not_overlap_and_each_loser_has_a_better_rival(
            raw in prop::collection::vec((any_box(), 0u8..10, 0i64..3), 0..60), far in any::<bool>(),
            threshold in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0],
        ) {
            let classes: Vec<i64> = raw.iter().map(|r| if far { r.2 << 60 } else { r.2 }).collect();
            let corners: Vec<[f32; 4]> = raw.iter().map(|r| r.0).collect();
            let scores: Vec<f32> = raw.iter().map(|r| f32::from(r.1) / 10.0).collect();
            let all = Boxes { corners: &corners, scores: &scores, classes: Some(&classes) };
            let kept = hard(all, threshold, false, usize::MAX).unwrap();
            for i in 0..corners.len() {
                let better = |j: &usize| (scores[*j] > scores[i] || (scores[*j] == scores[i] && *j < i))
                    && classes[*j] == classes[i] && f64::from(iou(corners[*j], corners[i])) > threshold;
                prop_assert_eq!(kept.contains(&i), !kept.iter().any(better));
            }
        }

        #[test]
        fn the_grid_equals_lists(
            corners in prop::collection::vec(any_box(), 0..300), shift in prop_oneof![Just(0.0f32), Just(1e6)],
            threshold in 0.02f64..1.0, distance in any::<bool>(),
        ) {
            let corners: Vec<_> = corners.into_iter().map(|b| b.map(|v| v * 0.37 + shift)).collect();
            let rule = Rule::new(threshold, distance);
            prop_assume!(GridGreedy::fits(&corners, &rule));
            for level in cpu::Level::ALL.into_iter().filter(|level| level.is_available()) {
                let grid = dispatch(level, GridGreedy { boxes: &corners, rule });
                prop_assert_eq!(grid, survivors(&corners, rule).unwrap());
            }
        }
    }
}
