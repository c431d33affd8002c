//! Which boxes survive an augmentation.

/// Sides must be longer than this, in output pixels.
const MIN_SIDE_PX: f64 = 2.0;
/// More than this part of the area must remain.
const MIN_AREA_RATIO: f64 = 0.1;
/// The same for an object with an outline, whose box is exact.
const MIN_OUTLINED_AREA_RATIO: f64 = 0.01;
/// The longer side must be less than this many times the shorter.
const MAX_ASPECT: f64 = 100.0;
/// Keeps divisions by an empty side finite.
const TINY: f64 = 1e-16;

/// A box by its corners, pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BoxXyxy {
    /// Left.
    pub x1: f64,
    /// Top.
    pub y1: f64,
    /// Right.
    pub x2: f64,
    /// Bottom.
    pub y2: f64,
}

impl BoxXyxy {
    /// Width.
    pub fn width(&self) -> f64 {
        self.x2 - self.x1
    }

    /// Height.
    pub fn height(&self) -> f64 {
        self.y2 - self.y1
    }

    /// Scaled, then moved.
    #[must_use]
    pub fn mapped(&self, scale: (f64, f64), shift: (f64, f64)) -> Self {
        Self {
            x1: self.x1 * scale.0 + shift.0,
            y1: self.y1 * scale.1 + shift.1,
            x2: self.x2 * scale.0 + shift.0,
            y2: self.y2 * scale.1 + shift.1,
        }
    }

    /// Area; 0 for a box turned inside out.
    pub fn area(&self) -> f64 {
        self.width().max(0.0) * self.height().max(0.0)
    }

    /// Area of what two boxes share.
    pub fn shared_area(&self, other: &Self) -> f64 {
        self.within(other).area()
    }

    /// Cut at the borders of another box.
    #[must_use]
    pub fn within(&self, frame: &Self) -> Self {
        Self {
            x1: self.x1.clamp(frame.x1, frame.x2),
            y1: self.y1.clamp(frame.y1, frame.y2),
            x2: self.x2.clamp(frame.x1, frame.x2),
            y2: self.y2.clamp(frame.y1, frame.y2),
        }
    }

    /// The smallest box around points; none without points.
    pub fn around(points: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        points.into_iter().map(|(x, y)| Self { x1: x, y1: y, x2: x, y2: y }).reduce(|a, b| Self {
            x1: a.x1.min(b.x1),
            y1: a.y1.min(b.y1),
            x2: a.x2.max(b.x2),
            y2: a.y2.max(b.y2),
        })
    }

    /// The corners, in turn.
    pub fn corners(&self) -> [(f64, f64); 4] {
        [(self.x1, self.y1), (self.x2, self.y1), (self.x2, self.y2), (self.x1, self.y2)]
    }

    /// Cut at the borders of (height, width).
    #[must_use]
    pub fn clipped(&self, height: f64, width: f64) -> Self {
        self.within(&Self { x1: 0.0, y1: 0.0, x2: width, y2: height })
    }

    /// Centre and size over the size of the picture: cx, cy, w, h in 0..1.
    pub fn cxcywh_norm(&self, height: f64, width: f64) -> [f32; 4] {
        [
            (f64::midpoint(self.x1, self.x2) / width) as f32,
            (f64::midpoint(self.y1, self.y2) / height) as f32,
            (self.width() / width) as f32,
            (self.height() / height) as f32,
        ]
    }
}

/// Whether enough of a box is left: `before` zoomed by `gain` and uncut, `after` cut at the borders.
pub(super) fn is_kept(before: &BoxXyxy, after: &BoxXyxy, gain: f64, has_outline: bool) -> bool {
    let min_area_ratio = if has_outline { MIN_OUTLINED_AREA_RATIO } else { MIN_AREA_RATIO };
    let (w, h) = (after.width(), after.height());
    let before_area = before.width() * gain * before.height() * gain;
    let aspect = (w / (h + TINY)).max(h / (w + TINY));
    w > MIN_SIDE_PX && h > MIN_SIDE_PX && w * h / (before_area + TINY) > min_area_ratio && aspect < MAX_ASPECT
}

#[cfg(test)]
mod tests {
    use super::{BoxXyxy, is_kept};

    fn sized(width: f64, height: f64) -> BoxXyxy {
        BoxXyxy { x1: 0.0, y1: 0.0, x2: width, y2: height }
    }

    #[test]
    fn every_limit_is_strict() {
        let large = sized(10.0, 10.0);
        assert!(is_kept(&large, &large, 1.0, false));
        assert!(!is_kept(&sized(2.0, 9.0), &sized(2.0, 9.0), 1.0, false));
        assert!(is_kept(&sized(2.1, 9.0), &sized(2.1, 9.0), 1.0, false));
        assert!(!is_kept(&sized(100.0, 10.0), &sized(10.0, 10.0), 1.0, false));
        assert!(is_kept(&sized(100.0, 10.0), &sized(10.1, 10.0), 1.0, false));
        assert!(!is_kept(&sized(300.0, 3.0), &sized(300.0, 3.0), 1.0, false));
        assert!(is_kept(&sized(299.0, 3.0), &sized(299.0, 3.0), 1.0, false));
        assert!(!is_kept(&large, &large, 4.0, false));
        assert!(is_kept(&sized(100.0, 10.0), &sized(10.0, 10.0), 1.0, true));
        assert!(!is_kept(&sized(0.0, 0.0), &sized(0.0, 0.0), 1.0, false));
    }
}
