//! Overlap of boxes, in the arithmetic of torchvision so that the same boxes survive, sixteen at a time.

use crate::simd::Vector;

/// Boxes in a block: the lanes of every f32 vector.
pub(super) const LANES: usize = 16;

/// Corners and area of one box, or of a vector of boxes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Corners<T> {
    pub(super) x1: T,
    pub(super) y1: T,
    pub(super) x2: T,
    pub(super) y2: T,
    pub(super) area: T,
}

/// Sixteen boxes; a missing one is a point at the origin, which overlaps nothing.
pub(super) type Block = Corners<[f32; LANES]>;

impl Corners<f32> {
    /// With the area of torchvision: negative sides are not clamped.
    pub(super) fn new([x1, y1, x2, y2]: [f32; 4]) -> Self {
        Self { x1, y1, x2, y2, area: (x2 - x1) * (y2 - y1) }
    }

    /// In all lanes.
    #[inline(always)]
    pub(super) fn splat<V: Vector<Scalar = f32>>(&self) -> Corners<V> {
        Corners {
            x1: V::splat(self.x1),
            y1: V::splat(self.y1),
            x2: V::splat(self.x2),
            y2: V::splat(self.y2),
            area: V::splat(self.area),
        }
    }
}

impl Block {
    /// As vectors.
    #[inline(always)]
    pub(super) fn load<V: Vector<Scalar = f32>>(&self) -> Corners<V> {
        Corners {
            x1: V::from_lanes(&self.x1),
            y1: V::from_lanes(&self.y1),
            x2: V::from_lanes(&self.x2),
            y2: V::from_lanes(&self.y2),
            area: V::from_lanes(&self.area),
        }
    }

    /// Put `one` into a lane.
    pub(super) fn set(&mut self, lane: usize, one: Corners<f32>) {
        self.x1[lane] = one.x1;
        self.y1[lane] = one.y1;
        self.x2[lane] = one.x2;
        self.y2[lane] = one.y2;
        self.area[lane] = one.area;
    }
}

/// When a box is suppressed by a better one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Suppressed above this: the largest f32 that is not above the threshold, which decides alike for every f32.
    pub(super) threshold: f32,
    /// A little less, to find out without a division that nothing overlaps enough.
    floor: f32,
    /// Distance IoU in place of IoU.
    distance: bool,
}

impl Rule {
    /// IoU > `threshold`, or distance IoU > `threshold`.
    pub(super) fn new(threshold: f64, distance: bool) -> Self {
        let nearest = threshold as f32;
        let above = f64::from(nearest) > threshold;
        let floor = (threshold * (1.0 - 1e-6)) as f32;
        Self { threshold: if above { nearest.next_down() } else { nearest }, floor, distance }
    }

    /// Overlap of boxes, or nothing when no lane is above the threshold; NaN lanes are not above it.
    ///
    /// inter / union > t implies inter >= fl(union * floor), because rounding is monotone; and inter > 0.
    #[inline(always)]
    pub(super) fn overlap<V: Vector<Scalar = f32>>(&self, a: &Corners<V>, b: &Corners<V>) -> Option<V> {
        let zero = V::zero();
        let width = a.x2.min(b.x2).sub(a.x1.max(b.x1)).max(zero);
        let height = a.y2.min(b.y2).sub(a.y1.max(b.y1)).max(zero);
        let inter = width.mul(height);
        let union = a.area.add(b.area).sub(inter);
        let least = union.mul(V::splat(self.floor)).max(V::splat(f32::from_bits(1)));
        if inter.all_less(least) {
            return None;
        }
        let iou = inter.div(union);
        Some(if self.distance { iou.sub(centre_distance(a, b)) } else { iou })
    }

    /// The lanes of an overlap that are above the threshold, as bits.
    #[inline(always)]
    pub(super) fn above<V: Vector<Scalar = f32>>(&self, overlap: V) -> u32 {
        V::splat(self.threshold).less(overlap)
    }
}

/// Squared distance of the centres over the squared diagonal of the hull (arXiv 1911.08287 eq. 7).
#[inline(always)]
fn centre_distance<V: Vector<Scalar = f32>>(a: &Corners<V>, b: &Corners<V>) -> V {
    let half = V::splat(0.5);
    let dx = a.x1.add(a.x2).sub(b.x1).sub(b.x2).mul(half);
    let dy = a.y1.add(a.y2).sub(b.y1).sub(b.y2).mul(half);
    let hull_w = a.x2.max(b.x2).sub(a.x1.min(b.x1));
    let hull_h = a.y2.max(b.y2).sub(a.y1.min(b.y1));
    dx.mul(dx).add(dy.mul(dy)).div(hull_w.mul(hull_w).add(hull_h.mul(hull_h)))
}

/// Intersection over union of two boxes; the plain form of [`Rule::overlap`].
#[cfg(test)]
pub(super) fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let w = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let h = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    w * h / (Corners::new(a).area + Corners::new(b).area - w * h)
}
