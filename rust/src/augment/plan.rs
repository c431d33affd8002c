//! All random numbers of one training picture, in one fixed order.
//!
//! Order: first scene (mosaic?, centre y, centre x, perspective x, perspective y, angle, zoom, shear x, shear y, shift x,
//! shift y), three partners, hue, saturation, value, flip up-down, flip left-right, how two scenes are put together,
//! second scene, four partners, mixing weight (63 numbers), three rectangles (area, centre x, centre y), which of them.
//! Every number is drawn whether it is used or not, so switching one kind off moves no other.

use crate::random::Stream;

/// The mixing weight follows Beta(32, 32), which is the law of the middle one of this many uniform numbers.
const UNIFORMS_PER_WEIGHT: usize = 63;

/// Sides of batches are multiples of this.
const SIDE_STEP: usize = 32;

/// How far pictures are varied (names and meaning of `AugmentConfig`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ranges {
    /// Hue shift: ± this fraction of the circle.
    pub hsv_h: f64,
    /// Saturation gain: 1 ± this.
    pub hsv_s: f64,
    /// Value gain: 1 ± this.
    pub hsv_v: f64,
    /// Rotation: ± degrees.
    pub degrees: f64,
    /// Shift: ± this fraction of the side.
    pub translate: f64,
    /// Zoom: 1 ± this.
    pub scale: f64,
    /// Shear: ± degrees.
    pub shear: f64,
    /// Perspective: ± this per pixel.
    pub perspective: f64,
    /// Probability of a left-right flip.
    pub fliplr: f64,
    /// Probability of an up-down flip.
    pub flipud: f64,
    /// Probability of a mosaic.
    pub mosaic: f64,
    /// Probability of a blend with a second scene.
    pub mixup: f64,
    /// Probability of a rectangle from a second scene.
    pub cutmix: f64,
    /// Part of the outlined objects that is pasted mirrored.
    pub copy_paste: f64,
    /// Side of a batch: 1 ± this, in steps of 32 pixels.
    pub multi_scale: f64,
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

/// How a canvas moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Motion {
    /// Perspective (x, y) per pixel.
    pub perspective: (f64, f64),
    /// Rotation, degrees, counter-clockwise on the screen.
    pub angle_deg: f64,
    /// Zoom.
    pub gain: f64,
    /// Shear (x, y), degrees.
    pub shear_deg: (f64, f64),
    /// Where the canvas centre goes, (x, y) as fractions of the output side.
    pub shift: (f64, f64),
}

/// One canvas: a picture or a mosaic, and how it moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scene {
    /// Four pictures instead of one.
    pub is_mosaic: bool,
    /// Mosaic centre (y, x) as a fraction of the side, in 0.5..1.5.
    pub centre: (f64, f64),
    /// How the canvas moves.
    pub motion: Motion,
}

/// A rectangle as fractions of the side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Side of the rectangle.
    pub side: f64,
    /// Centre (x, y).
    pub centre: (f64, f64),
}

/// How two scenes are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Union {
    /// The first alone.
    Alone,
    /// Blended by the weight.
    Mixup,
    /// A rectangle of the second.
    Cutmix,
}

/// One training picture's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// The sample's own scene, and the one that is mixed in.
    pub scenes: [Scene; 2],
    /// How many positions back the other pictures lie: three of the first scene, four of the second.
    pub partners: [usize; 7],
    /// Colour.
    pub gains: Gains,
    /// Upside down.
    pub flip_ud: bool,
    /// Left-right.
    pub flip_lr: bool,
    /// How the scenes are put together.
    pub union: Union,
    /// Weight of the first scene in a blend.
    pub weight: f64,
    /// Candidates for the rectangle.
    pub cuts: [Cut; 3],
    /// Which of the candidates that fit, in 0..1.
    pub pick: f64,
    /// Part of the outlined objects that is pasted.
    pub paste: f64,
}

impl Plan {
    /// Draw; partners lie less than `window` positions back.
    pub fn draw(stream: &mut Stream, ranges: &Ranges, window: usize) -> Self {
        let first = Scene::draw(stream, ranges);
        let mut partners = [0; 7];
        partners[..3].fill_with(|| stream.below(window));
        let hue = stream.between(-ranges.hsv_h, ranges.hsv_h);
        let saturation = 1.0 + stream.between(-ranges.hsv_s, ranges.hsv_s);
        let value = 1.0 + stream.between(-ranges.hsv_v, ranges.hsv_v);
        let flip_ud = stream.unit() < ranges.flipud;
        let flip_lr = stream.unit() < ranges.fliplr;
        let union = match stream.unit() {
            u if u < ranges.mixup => Union::Mixup,
            u if u < ranges.mixup + ranges.cutmix => Union::Cutmix,
            _ => Union::Alone,
        };
        let second = Scene::draw(stream, ranges);
        partners[3..].fill_with(|| stream.below(window));
        let weight = middle(stream);
        let cuts = [(); 3].map(|()| Cut { side: (1.0 - stream.unit()).sqrt(), centre: (stream.unit(), stream.unit()) });
        Self {
            scenes: [first, second],
            partners,
            gains: Gains { hue, saturation, value },
            flip_ud,
            flip_lr,
            union,
            weight,
            cuts,
            pick: stream.unit(),
            paste: ranges.copy_paste,
        }
    }
}

impl Scene {
    fn draw(stream: &mut Stream, ranges: &Ranges) -> Self {
        let mut around = |middle: f64, reach: f64| stream.between(middle - reach, middle + reach);
        let is_mosaic = around(0.5, 0.5) < ranges.mosaic;
        let centre = (around(1.0, 0.5), around(1.0, 0.5));
        let perspective = (around(0.0, ranges.perspective), around(0.0, ranges.perspective));
        let angle_deg = around(0.0, ranges.degrees);
        let gain = around(1.0, ranges.scale);
        let shear_deg = (around(0.0, ranges.shear), around(0.0, ranges.shear));
        let shift = (around(0.5, ranges.translate), around(0.5, ranges.translate));
        Self { is_mosaic, centre, motion: Motion { perspective, angle_deg, gain, shear_deg, shift } }
    }
}

/// The side of a batch: a multiple of 32 within `side` * (1 ± range), every one as likely.
pub fn draw_side(stream: &mut Stream, side: usize, range: f64) -> usize {
    let (low, high) = side_limits(side, range);
    low + SIDE_STEP * stream.below((high - low) / SIDE_STEP + 1)
}

/// The smallest and the largest side that is drawn.
pub fn side_limits(side: usize, range: f64) -> (usize, usize) {
    let rounded = |part: f64| SIDE_STEP * ((side as f64 * part / SIDE_STEP as f64).round() as usize).max(1);
    (rounded(1.0 - range), rounded(1.0 + range))
}

/// The middle one of an odd number of uniform numbers.
fn middle(stream: &mut Stream) -> f64 {
    let mut numbers = [(); UNIFORMS_PER_WEIGHT].map(|()| stream.unit());
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[UNIFORMS_PER_WEIGHT / 2]
}

#[cfg(test)]
mod tests {
    use super::{Plan, Ranges, Union, draw_side, middle};
    use crate::random::{Purpose, Stream};

    fn plans(ranges: &Ranges) -> Vec<Plan> {
        let stream = |i| Stream::new(3, 0, i, Purpose::Augment);
        (0..2000).map(|i| Plan::draw(&mut stream(i), ranges, 9)).collect()
    }

    #[test]
    fn the_weight_has_the_mean_and_variance_of_its_law() {
        let mut stream = Stream::new(1, 0, 0, Purpose::Augment);
        let weights: Vec<f64> = (0..4000).map(|_| middle(&mut stream)).collect();
        let mean = weights.iter().sum::<f64>() / 4000.0;
        let variance = weights.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / 4000.0;
        assert!((mean - 0.5).abs() < 0.004, "{mean}");
        assert!((variance - 0.25 / 65.0).abs() < 4e-4, "{variance}");
    }

    #[test]
    fn unions_come_as_often_as_asked_and_switching_one_kind_moves_no_other() {
        let ranges = Ranges { mixup: 0.3, cutmix: 0.2, scale: 0.5, degrees: 10.0, ..Ranges::default() };
        let drawn = plans(&ranges);
        let part = |union| drawn.iter().filter(|p| p.union == union).count() as f64 / 2000.0;
        assert!((part(Union::Mixup) - 0.3).abs() < 0.04 && (part(Union::Cutmix) - 0.2).abs() < 0.04);
        for (a, b) in drawn.iter().zip(plans(&Ranges { mixup: 0.0, cutmix: 0.0, degrees: 0.0, ..ranges })) {
            assert_eq!(a.scenes[1].motion.gain, b.scenes[1].motion.gain);
            assert_eq!((a.partners, a.cuts, a.pick), (b.partners, b.cuts, b.pick));
        }
    }

    #[test]
    fn sides_are_multiples_of_32_and_reach_both_ends() {
        let side = |batch| draw_side(&mut Stream::new(0, 0, batch, Purpose::Size), 640, 0.5);
        let sides: std::collections::BTreeSet<_> = (0..400).map(side).collect();
        assert_eq!(sides, (10..=30).map(|steps| 32 * steps).collect());
        assert_eq!(draw_side(&mut Stream::new(0, 0, 0, Purpose::Size), 640, 0.0), 640);
    }
}
