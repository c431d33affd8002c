//! Hue, saturation, value in floating point: greys stay grey.
//!
//! v = max, s = (max - min) / max, h in sixths of the circle; h + 6 * hue, min(s * saturation, 1),
//! min(v * value, 255); back by f(n) = v - v s max(0, min(k, 4 - k, 1)), k = (n + h) mod 6, n = 5, 3, 1 for R, G, B.

use super::lerp::run;
use super::plan::Gains;
use crate::simd::{Kernel, Vector};

const SECTORS: f32 = 6.0;

/// Change the colours of a planar picture, or of a row of one, in place.
pub(super) fn shift_hsv(planes: &mut [u8], gains: &Gains) {
    if *gains != (Gains { hue: 0.0, saturation: 1.0, value: 1.0 }) {
        let hue = (gains.hue as f32 * SECTORS).rem_euclid(SECTORS);
        run(Shift { planes, hue, saturation: gains.saturation as f32, value: gains.value as f32 });
    }
}

/// `hue` in sixths, 0..6.
struct Shift<'a> {
    planes: &'a mut [u8],
    hue: f32,
    saturation: f32,
    value: f32,
}

impl Kernel for Shift<'_> {
    type Scalar = f32;
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        let plane = self.planes.len() / 3;
        let (reds, rest) = self.planes.split_at_mut(plane);
        let (greens, blues) = rest.split_at_mut(plane);
        for ((r, g), b) in reds.iter_mut().zip(greens).zip(blues) {
            let (h, s, v) = hsv_from_rgb([*r, *g, *b]);
            let s = least(s * self.saturation, 1.0);
            let v = least(v * self.value, 255.0);
            [*r, *g, *b] = rgb_from_hsv(once_round(h + self.hue), s, v);
        }
    }
}

/// Hue in sixths (-1..5), saturation in 0..1, value in 0..255.
#[inline(always)]
fn hsv_from_rgb(rgb: [u8; 3]) -> (f32, f32, f32) {
    let [r, g, b] = rgb.map(f32::from);
    let value = most(most(r, g), b);
    let chroma = value - least(least(r, g), b);
    let (c, v) = (most(chroma, 1.0), most(value, 1.0)); // whole numbers: greys get hue 0, black saturation 0
    let both = 1.0 / (c * v); // one division for two
    let (start, difference) = if value == g { (2.0, b - r) } else { (4.0, r - g) };
    let (start, difference) = if value == r { (0.0, g - b) } else { (start, difference) };
    (start + difference * (both * v), chroma * (both * c), value)
}

#[inline(always)]
fn rgb_from_hsv(hue: f32, saturation: f32, value: f32) -> [u8; 3] {
    [5.0f32, 3.0, 1.0].map(|n| {
        let k = once_round(n + hue);
        let part = most(least(least(k, 4.0 - k), 1.0), 0.0);
        rounded(value - value * saturation * part)
    })
}

/// The nearest whole number to one in 0..=255: the last bits of a float of at least 2^23 are its whole part.
#[inline(always)]
fn rounded(value: f32) -> u8 {
    (value + 8_388_608.0).to_bits() as u8
}

/// A hue in -6..12, in 0..6.
#[inline(always)]
fn once_round(hue: f32) -> f32 {
    let hue = if hue >= SECTORS { hue - SECTORS } else { hue };
    if hue < 0.0 { hue + SECTORS } else { hue }
}

/// The smaller of two numbers that can be compared: one instruction.
#[inline(always)]
fn least(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The larger.
#[inline(always)]
fn most(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::{Gains, hsv_from_rgb, once_round, rgb_from_hsv, shift_hsv};

    #[test]
    fn every_colour_survives_the_round_trip() {
        for code in 0..=0x00FF_FFFFu32 {
            if code % 7 == 0 {
                let rgb = [(code >> 16) as u8, (code >> 8) as u8, code as u8];
                let (h, s, v) = hsv_from_rgb(rgb);
                assert_eq!(rgb_from_hsv(once_round(h), s, v), rgb);
            }
        }
    }

    #[test]
    fn greys_stay_grey_and_a_third_of_the_circle_turns_red_to_green() {
        let mut grey = [0, 100, 255, 0, 100, 255, 0, 100, 255];
        shift_hsv(&mut grey, &Gains { hue: 0.3, saturation: 1.7, value: 1.0 });
        assert_eq!(grey, [0, 100, 255, 0, 100, 255, 0, 100, 255]);
        let mut red = [200, 10, 10];
        shift_hsv(&mut red, &Gains { hue: 1.0 / 3.0, saturation: 1.0, value: 1.0 });
        assert_eq!(red, [10, 200, 10]);
    }
}
