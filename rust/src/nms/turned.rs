//! Suppression of turned boxes, by the exact overlap of their areas or by the likeness of Gaussians (ProbIoU, arXiv
//! 2106.06072): greedy by falling score as for upright ones, in f64. The torch definition is `ops/turned_ref.py`.

use super::groups_of;
use super::rank::Ranked;
use crate::error::{Error, Result};

/// Boxes sorted at once.
const BLOCK: usize = 512;
/// Corners of the overlap of two rectangles, at most.
const MAX_CORNERS: usize = 8;
/// Variance of a uniform distribution of width 1 is one in so many.
const VARIANCE: f64 = 12.0;

/// Turned boxes with their scores and, where they do not all compete, their classes.
#[derive(Clone, Copy, Debug)]
pub struct TurnedBoxes<'a> {
    /// Centre x and y, width, height, angle in radians from x towards y.
    pub boxes: &'a [[f32; 5]],
    /// One per box.
    pub scores: &'a [f32],
    /// One per box, or nothing for a single class.
    pub classes: Option<&'a [i64]>,
}

/// What two boxes are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Overlap over union of their areas.
    Polygon,
    /// One less the Hellinger distance of Gaussians of their extent.
    Gaussian,
}

type Point = (f64, f64);

/// A box made ready to be compared.
struct Shape {
    centre: Point,
    corners: [Point; 4],
    radius: f64,
    area: f64,
    /// Variance of x and of y, and covariance.
    spread: [f64; 3],
}

/// Indices kept, by falling score, at most `max_det`.
///
/// # Errors
/// [`Error::Argument`] for sizes that differ, and a NaN among scores or boxes.
pub fn turned(boxes: TurnedBoxes<'_>, threshold: f64, max_det: usize, likeness: Likeness) -> Result<Vec<usize>> {
    let TurnedBoxes { boxes, scores, classes } = boxes;
    if scores.len() != boxes.len() || classes.is_some_and(|classes| classes.len() != boxes.len()) {
        return Err(Error::Argument(format!("{} boxes need as many scores and classes", boxes.len())));
    }
    if scores.iter().chain(boxes.as_flattened()).any(|value| value.is_nan()) {
        return Err(Error::Argument("boxes or scores are NaN; the model or its input is broken".into()));
    }
    let shapes: Vec<_> = boxes.iter().map(Shape::new).collect();
    let (groups, num_groups) = groups_of(classes, boxes.len());
    let (mut kept, mut rivals) = (Vec::new(), vec![Vec::<usize>::new(); num_groups]);
    for (_, index) in Ranked::of_scores(scores, BLOCK) {
        if kept.len() >= max_det {
            break;
        }
        let (shape, rivals) = (&shapes[index as usize], &mut rivals[groups[index as usize] as usize]);
        let is_like = |&rival: &usize| match likeness {
            Likeness::Polygon => shapes[rival].overlaps(shape, threshold),
            Likeness::Gaussian => shapes[rival].resembles(shape, threshold),
        };
        if !rivals.iter().any(is_like) {
            rivals.push(index as usize);
            kept.push(index as usize);
        }
    }
    Ok(kept)
}

impl Shape {
    fn new(values: &[f32; 5]) -> Self {
        let [x, y, width, height, angle] = values.map(f64::from);
        let (sin, cos) = libm::sincos(angle);
        let (half_width, half_height) = (width.abs() / 2.0, height.abs() / 2.0);
        let corner = |(right, down): Point| {
            let (dx, dy) = (right * half_width, down * half_height);
            (x + dx * cos - dy * sin, y + dx * sin + dy * cos)
        };
        let (a, b) = (width * width / VARIANCE, height * height / VARIANCE);
        Self {
            centre: (x, y),
            corners: [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)].map(corner),
            radius: libm::hypot(half_width, half_height),
            area: 4.0 * half_width * half_height,
            spread: [a * cos * cos + b * sin * sin, a * sin * sin + b * cos * cos, (a - b) * cos * sin],
        }
    }

    /// Whether overlap over union is above the threshold; not for two boxes without an area.
    fn overlaps(&self, other: &Self, threshold: f64) -> bool {
        let (dx, dy, reach) =
            (self.centre.0 - other.centre.0, self.centre.1 - other.centre.1, self.radius + other.radius);
        let most = self.area.min(other.area);
        if dx * dx + dy * dy >= reach * reach || most <= threshold * (self.area + other.area - most) {
            return false;
        }
        let common = common_area(&self.corners, &other.corners, self.centre);
        common > threshold * (self.area + other.area - common)
    }

    /// Whether 1 - sqrt(1 - exp(-d)) is above the threshold, d the Bhattacharyya distance of the Gaussians.
    fn resembles(&self, other: &Self, threshold: f64) -> bool {
        let (dx, dy) = (self.centre.0 - other.centre.0, self.centre.1 - other.centre.1);
        let [a, b, c] = [0, 1, 2].map(|i| self.spread[i] + other.spread[i]);
        let both = a * b - c * c;
        let apart = (b * dx * dx - 2.0 * c * dx * dy + a * dy * dy) / both / 4.0;
        let likeness = |distance: f64| 1.0 - libm::sqrt(-libm::expm1(-distance));
        if likeness(apart) <= threshold {
            return false; // the second part only adds to the distance
        }
        let alone = |[a, b, c]: [f64; 3]| (a * b - c * c).max(0.0);
        let unlike = libm::log(both / (4.0 * libm::sqrt(alone(self.spread) * alone(other.spread)))) / 2.0;
        likeness(apart + unlike.max(0.0)) > threshold
    }
}

/// The area of two rectangles' overlap; corners go round from x towards y and are taken relative to `origin`.
fn common_area(a: &[Point; 4], b: &[Point; 4], origin: Point) -> f64 {
    let near = |p: &Point| (p.0 - origin.0, p.1 - origin.1);
    let (mut polygon, mut count) = ([(0.0, 0.0); MAX_CORNERS], 4);
    polygon.iter_mut().zip(a).for_each(|(corner, p)| *corner = near(p));
    let b = [0, 1, 2, 3].map(|i| near(&b[i]));
    for i in 0..4 {
        let (from, to) = (b[i], b[(i + 1) % 4]);
        let side = |p: Point| (to.0 - from.0) * (p.1 - from.1) - (to.1 - from.1) * (p.0 - from.0);
        let whole = polygon;
        let number = std::mem::take(&mut count);
        for k in 0..number {
            let (p, q) = (whole[k], whole[(k + 1) % number]);
            let (s, t) = (side(p), side(q));
            let crossing = (s >= 0.0) != (t >= 0.0);
            let cut = || (p.0 + (q.0 - p.0) * (s / (s - t)), p.1 + (q.1 - p.1) * (s / (s - t)));
            for corner in [(s >= 0.0).then_some(p), crossing.then(cut)].into_iter().flatten() {
                if count < MAX_CORNERS {
                    polygon[count] = corner;
                    count += 1;
                }
            }
        }
    }
    let twice = |k: usize| {
        let (p, q) = (polygon[k], polygon[(k + 1) % count]);
        p.0 * q.1 - p.1 * q.0
    };
    (0..count).map(twice).sum::<f64>() / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_and_itself_turned_share_a_regular_octagon() {
        let square = Shape::new(&[5.0, -3.0, 2.0, 2.0, 0.0]);
        let turned = Shape::new(&[5.0, -3.0, 2.0, 2.0, std::f32::consts::FRAC_PI_4]);
        let octagon = 8.0 * (2f64.sqrt() - 1.0); // 2 (1 + sqrt 2) times the square of its side, 2 (sqrt 2 - 1)
        assert!((common_area(&square.corners, &turned.corners, square.centre) - octagon).abs() < 1e-6);
        assert!(square.overlaps(&turned, 0.70) && !square.overlaps(&turned, 0.71)); // 1 / sqrt 2
    }

    #[test]
    fn classes_compete_apart_and_boxes_without_area_with_none() {
        let boxes = [[0.0, 0.0, 4.0, 2.0, 0.3], [0.0, 0.0, 4.0, 2.0, 0.3], [0.0; 5], [0.0; 5]];
        for likeness in [Likeness::Polygon, Likeness::Gaussian] {
            let kept = |classes| {
                let boxes = TurnedBoxes { boxes: &boxes, scores: &[0.1, 0.9, 0.5, 0.5], classes };
                turned(boxes, 0.5, 9, likeness).unwrap()
            };
            assert_eq!(kept(None), [1, 2, 3]);
            assert_eq!(kept(Some(&[0, 1, 0, 1])), [1, 2, 3, 0]);
        }
    }
}
