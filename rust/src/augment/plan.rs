//! All random numbers of one training picture, in one fixed order.
//!
//! Order: mosaic?, centre y, centre x, three partners, zoom, shift x, shift y, hue, saturation, value, flip up-down,
//! flip left-right. Every number is drawn whether it is used or not, so switching one kind off moves no other.

use crate::random::Stream;

/// How far pictures are varied (names and meaning of `AugmentConfig`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ranges {
    /// Hue shift: ± this fraction of the circle.
    pub hsv_h: f64,
    /// Saturation gain: 1 ± this.
    pub hsv_s: f64,
    /// Value gain: 1 ± this.
    pub hsv_v: f64,
    /// Shift: ± this fraction of the side.
    pub translate: f64,
    /// Zoom: 1 ± this.
    pub scale: f64,
    /// Probability of a left-right flip.
    pub fliplr: f64,
    /// Probability of an up-down flip.
    pub flipud: f64,
    /// Probability of a mosaic.
    pub mosaic: f64,
}

/// Colour change: hue in fractions of the circle, the others as factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gains {
    /// Added to the hue.
    pub hue: f64,
    /// Multiplies the saturation.
    pub saturation: f64,
    /// Multiplies the value.
    pub value: f64,
}

/// One training picture's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Four pictures instead of one.
    pub is_mosaic: bool,
    /// Mosaic centre (y, x) as a fraction of the output side, in 0.5..1.5.
    pub centre: (f64, f64),
    /// How many sampler positions back each of the three partners lies.
    pub partners: [usize; 3],
    /// Zoom.
    pub gain: f64,
    /// Where the canvas centre goes, (x, y) as fractions of the output side.
    pub shift: (f64, f64),
    /// Colour.
    pub gains: Gains,
    /// Upside down.
    pub flip_ud: bool,
    /// Left-right.
    pub flip_lr: bool,
}

impl Plan {
    /// Draw; partners lie within `window` positions.
    pub fn draw(stream: &mut Stream, ranges: &Ranges, window: usize) -> Self {
        let is_mosaic = stream.unit() < ranges.mosaic;
        let centre_y = stream.between(0.5, 1.5);
        let centre_x = stream.between(0.5, 1.5);
        let partners = [stream.below(window), stream.below(window), stream.below(window)];
        let gain = stream.between(1.0 - ranges.scale, 1.0 + ranges.scale);
        let shift_x = stream.between(0.5 - ranges.translate, 0.5 + ranges.translate);
        let shift_y = stream.between(0.5 - ranges.translate, 0.5 + ranges.translate);
        let hue = stream.between(-ranges.hsv_h, ranges.hsv_h);
        let saturation = 1.0 + stream.between(-ranges.hsv_s, ranges.hsv_s);
        let value = 1.0 + stream.between(-ranges.hsv_v, ranges.hsv_v);
        let flip_ud = stream.unit() < ranges.flipud;
        let flip_lr = stream.unit() < ranges.fliplr;
        Self {
            is_mosaic,
            centre: (centre_y, centre_x),
            partners,
            gain,
            shift: (shift_x, shift_y),
            gains: Gains { hue, saturation, value },
            flip_ud,
            flip_lr,
        }
    }
}
