//! Which boxes survive an augmentation.

/// Sides must be longer than this, in output pixels.
const MIN_SIDE_PX: f64 = 2.0;
/// More than this part of the area must remain.
const MIN_AREA_RATIO: f64 = 0.1;
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
    pub fn mapped(&self, scale: (f64, f64), shift: (f64, f64)) -> Self {
        Self {
            x1: self.x1 * scale.0 + shift.0,
            y1: self.y1 * scale.1 + shift.1,
            x2: self.x2 * scale.0 + shift.0,
            y2: self.y2 * scale.1 + shift.1,
        }
    }

    /// Cut at the borders of (height, width).
    pub fn clipped(&self, height: f64, width: f64) -> Self {
        Self {
            x1: self.x1.clamp(0.0, width),
            y1: self.y1.clamp(0.0, height),
            x2: self.x2.clamp(0.0, width),
            y2: self.y2.clamp(0.0, height),
        }
    }

    /// Centre and size over the size of the picture: cx, cy, w, h in 0..1.
    pub fn cxcywh_norm(&self, height: f64, width: f64) -> [f32; 4] {
        [
            ((self.x1 + self.x2) / 2.0 / width) as f32,
            ((self.y1 + self.y2) / 2.0 / height) as f32,
            (self.width() / width) as f32,
            (self.height() / height) as f32,
        ]
    }
}

/// Whether enough of a box is left: `before` zoomed by `gain` and uncut, `after` cut at the borders.
pub fn is_kept(before: &BoxXyxy, after: &BoxXyxy, gain: f64) -> bool {
    let (w, h) = (after.width(), after.height());
    let before_area = before.width() * gain * before.height() * gain;
    let aspect = (w / (h + TINY)).max(h / (w + TINY));
    w > MIN_SIDE_PX && h > MIN_SIDE_PX && w * h / (before_area + TINY) > MIN_AREA_RATIO && aspect < MAX_ASPECT
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
        assert!(is_kept(&large, &large, 1.0));
        assert!(!is_kept(&sized(2.0, 9.0), &sized(2.0, 9.0), 1.0));
        assert!(is_kept(&sized(2.1, 9.0), &sized(2.1, 9.0), 1.0));
        assert!(!is_kept(&sized(100.0, 10.0), &sized(10.0, 10.0), 1.0));
        assert!(is_kept(&sized(100.0, 10.0), &sized(10.1, 10.0), 1.0));
        assert!(!is_kept(&sized(300.0, 3.0), &sized(300.0, 3.0), 1.0));
        assert!(is_kept(&sized(299.0, 3.0), &sized(299.0, 3.0), 1.0));
        assert!(!is_kept(&large, &large, 4.0));
        assert!(!is_kept(&sized(0.0, 0.0), &sized(0.0, 0.0), 1.0));
    }
}
