//! Polygons: clipping to a box (Sutherland and Hodgman, CACM 1974) and the spans of pixels inside (even-odd).

use super::boxes::BoxXyxy;

/// Corners (x, y) of a closed polygon.
pub type Ring = Vec<(f64, f64)>;

/// The part of a polygon inside a box; empty when there is none. Parts that fall apart stay joined along the border.
pub(super) fn clip(ring: &[(f64, f64)], frame: &BoxXyxy) -> Ring {
    let inside = |&(x, y): &(f64, f64)| frame.x1 <= x && x <= frame.x2 && frame.y1 <= y && y <= frame.y2;
    if ring.iter().all(inside) {
        return ring.to_vec();
    }
    let left = cut(ring, |p| p.0 - frame.x1);
    let right = cut(&left, |p| frame.x2 - p.0);
    let top = cut(&right, |p| p.1 - frame.y1);
    let mut ring = cut(&top, |p| frame.y2 - p.1);
    for (x, y) in &mut ring {
        (*x, *y) = (x.clamp(frame.x1, frame.x2), y.clamp(frame.y1, frame.y2)); // crossings are rounded
    }
    ring
}

/// The part of a polygon where `distance` is not negative; it is linear in the point.
fn cut(ring: &[(f64, f64)], distance: impl Fn(&(f64, f64)) -> f64) -> Ring {
    let mut kept = Vec::with_capacity(ring.len() + 4);
    for (k, b) in ring.iter().enumerate() {
        let a = &ring[(k + ring.len() - 1) % ring.len()];
        let (from, to) = (distance(a), distance(b));
        if (from < 0.0) != (to < 0.0) {
            let t = from / (from - to);
            kept.push((a.0 + t * (b.0 - a.0), a.1 + t * (b.1 - a.1)));
        }
        if to >= 0.0 {
            kept.push(*b);
        }
    }
    kept
}

/// Call `paint` with each range of columns whose pixel centres in row `y` lie inside a polygon of an output of `side`.
pub(super) fn spans(ring: &[(f64, f64)], y: usize, side: usize, mut paint: impl FnMut(std::ops::Range<usize>)) {
    let level = y as f64 + 0.5;
    let mut crossings: Vec<f64> = (0..ring.len())
        .filter_map(|k| {
            let (a, b) = (ring[k], ring[(k + 1) % ring.len()]);
            let crosses = (a.1 <= level) != (b.1 <= level);
            crosses.then(|| a.0 + (level - a.1) / (b.1 - a.1) * (b.0 - a.0))
        })
        .collect();
    crossings.sort_unstable_by(f64::total_cmp);
    for pair in crossings.chunks_exact(2) {
        let column = |x: f64| (x - 0.5).ceil().clamp(0.0, side as f64) as usize;
        paint(column(pair[0])..column(pair[1]));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BoxXyxy, clip, spans};

    const FRAME: BoxXyxy = BoxXyxy { x1: 0.0, y1: 0.0, x2: 16.0, y2: 16.0 };

    fn is_inside(ring: &[(f64, f64)], x: f64, y: f64) -> bool {
        (0..ring.len()).fold(false, |odd, k| {
            let (a, b) = (ring[k], ring[(k + 1) % ring.len()]);
            let right_of = (a.1 <= y) != (b.1 <= y) && x >= a.0 + (y - a.1) / (b.1 - a.1) * (b.0 - a.0);
            odd != right_of
        })
    }

    fn painted(ring: &[(f64, f64)]) -> Vec<bool> {
        let mut mask = vec![false; 256];
        for y in 0..16 {
            spans(ring, y, 16, |columns| mask[16 * y + columns.start..16 * y + columns.end].fill(true));
        }
        mask
    }

    proptest! {
        #[test]
        fn clipping_keeps_what_is_inside_and_spans_are_the_pixels_inside(
            ring in prop::collection::vec((-20.0f64..40.0, -20.0f64..40.0), 0..9)
        ) {
            let kept = clip(&ring, &FRAME);
            prop_assert!(kept.iter().all(|&(x, y)| (0.0..=16.0).contains(&x) && (0.0..=16.0).contains(&y)));
            let expected: Vec<bool> =
                (0..256).map(|i| is_inside(&ring, f64::from(i % 16) + 0.5, f64::from(i / 16) + 0.5)).collect();
            prop_assert_eq!(&painted(&ring), &expected);
            prop_assert_eq!(&painted(&kept), &expected);
        }
    }

    #[test]
    fn a_polygon_that_holds_the_frame_becomes_the_frame() {
        let around = clip(&[(-5.0, -5.0), (30.0, -5.0), (30.0, 30.0), (-5.0, 30.0)], &FRAME);
        assert_eq!(BoxXyxy::around(around), Some(FRAME));
        assert!(clip(&[(20.0, 20.0), (30.0, 20.0), (30.0, 30.0)], &FRAME).is_empty());
    }
}
