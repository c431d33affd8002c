//! Masks of the objects of a finished picture at the size of the network's prototypes.

use super::polygon::{Ring, spans};

/// Pixels of the picture per pixel of a mask.
pub const MASK_STRIDE: usize = 4;

/// A polygon in fractions of the picture's sides.
pub type NormRing = Vec<[f32; 2]>;

/// Set the pixels of a mask of (height, width) whose centres lie inside any of the polygons (each even-odd), and not under
/// any of those that were pasted above; the others are cleared.
pub fn draw_mask(rings: &[NormRing], above: &[NormRing], (height, width): (usize, usize), mask: &mut [u8]) {
    mask.fill(0);
    let scaled = |ring: &NormRing| -> Ring {
        ring.iter().map(|&[x, y]| (f64::from(x) * width as f64, f64::from(y) * height as f64)).collect()
    };
    for (rings, value) in [(rings, 1), (above, 0)] {
        for ring in rings.iter().map(scaled) {
            let first = ring.iter().map(|p| p.1).fold(height as f64, f64::min).max(0.0) as usize;
            let end = ring.iter().map(|p| p.1).fold(0.0, f64::max).ceil().min(height as f64) as usize;
            for y in first..end {
                spans(&ring, y, width, |columns| mask[y * width..][columns].fill(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::draw_mask;

    fn square(low: f32, high: f32) -> Vec<[f32; 2]> {
        vec![[low, low], [high, low], [high, high], [low, high]]
    }

    #[test]
    fn parts_are_joined_and_what_lies_above_is_left_out() {
        let mut mask = vec![7; 64];
        draw_mask(&[square(0.0, 0.5), square(0.25, 0.75)], &[square(0.0, 0.25)], (8, 8), &mut mask);
        let expected = |x: usize, y: usize| {
            let within = |low: usize, high: usize| (low..high).contains(&x) && (low..high).contains(&y);
            (within(0, 4) || within(2, 6)) && !within(0, 2)
        };
        assert!(mask.iter().enumerate().all(|(at, &value)| value == u8::from(expected(at % 8, at / 8))));
        draw_mask(&[square(0.26, 0.3), vec![]], &[], (8, 8), &mut mask);
        assert_eq!(mask, [0; 64], "no centre of a pixel is inside");
    }
}
