//! Hue, saturation, value in floating point: greys stay grey.
//!
//! v = max, s = (max - min) / max, h in sixths of the circle; h + 6 * hue, min(s * saturation, 1),
//! min(v * value, 255); back by f(n) = v - v s max(0, min(k, 4 - k, 1)), k = (n + h) mod 6, n = 5, 3, 1 for R, G, B.

use super::plan::Gains;

const SECTORS: f32 = 6.0;

/// Change the colours of a planar picture in place.
pub fn shift_hsv(planes: &mut [u8], gains: &Gains) {
    if *gains == (Gains { hue: 0.0, saturation: 1.0, value: 1.0 }) {
        return;
    }
    let (hue, saturation, value) = (gains.hue as f32 * SECTORS, gains.saturation as f32, gains.value as f32);
    let plane = planes.len() / 3;
    let (reds, rest) = planes.split_at_mut(plane);
    let (greens, blues) = rest.split_at_mut(plane);
    for ((r, g), b) in reds.iter_mut().zip(greens).zip(blues) {
        let (h, s, v) = hsv_from_rgb([*r, *g, *b]);
        let shifted = (h + hue).rem_euclid(SECTORS);
        let s = (s * saturation).clamp(0.0, 1.0);
        let v = (v * value).clamp(0.0, 255.0);
        [*r, *g, *b] = rgb_from_hsv(shifted, s, v);
    }
}

/// Hue in sixths, saturation in 0..1, value in 0..255.
fn hsv_from_rgb(rgb: [u8; 3]) -> (f32, f32, f32) {
    let [r, g, b] = rgb.map(f32::from);
    let value = r.max(g).max(b);
    let chroma = value - r.min(g).min(b);
    if chroma == 0.0 {
        return (0.0, 0.0, value);
    }
    let hue = if value == r {
        (g - b) / chroma
    } else if value == g {
        2.0 + (b - r) / chroma
    } else {
        4.0 + (r - g) / chroma
    };
    (hue, chroma / value, value)
}

fn rgb_from_hsv(hue: f32, saturation: f32, value: f32) -> [u8; 3] {
    [5.0f32, 3.0, 1.0].map(|n| {
        let mut k = n + hue;
        if k >= SECTORS {
            k -= SECTORS;
        }
        let part = k.min(4.0 - k).clamp(0.0, 1.0);
        (value - value * saturation * part + 0.5) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::{Gains, hsv_from_rgb, rgb_from_hsv, shift_hsv};

    #[test]
    fn every_colour_survives_the_round_trip() {
        for code in 0..=0x00FF_FFFFu32 {
            if code % 7 == 0 {
                let rgb = [(code >> 16) as u8, (code >> 8) as u8, code as u8];
                let (h, s, v) = hsv_from_rgb(rgb);
                assert_eq!(rgb_from_hsv(h.rem_euclid(6.0), s, v), rgb);
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
