//! Two-tap bilinear resizing: half-pixel centres, edges repeated, as OpenCV's INTER_LINEAR (no antialiasing).
//!
//! `source = (target + 0.5) * scale - 0.5`. Weights have 11 bits and all sums are integers, so every machine gives
//! the same bytes; at most 1 level from the exact value. Test: `tests/data/test_letterbox.py`.

use super::Image;

/// Fraction bits of a weight.
const WEIGHT_BITS: u32 = 11;
/// A weight of one.
const ONE: i32 = 1 << WEIGHT_BITS;

/// Per target coordinate: the first of two neighbouring source coordinates and the weight of the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taps {
    /// (first source coordinate, weight of the next one in 0..=2^11).
    pub pairs: Vec<(i32, i32)>,
}

impl Taps {
    /// Source positions of `target` coordinates under `position`; the weight is rounded to 11 bits.
    pub fn new(target: usize, position: impl Fn(usize) -> f64) -> Self {
        let pair = |i| {
            let at = position(i).clamp(-1e9, 1e9);
            let first = at.floor();
            (first as i32, ((at - first) * f64::from(ONE) + 0.5) as i32)
        };
        Self { pairs: (0..target).map(pair).collect() }
    }

    /// Half-pixel centres from `source` to `target` pixels, edges repeated.
    fn stretched(source: usize, target: usize) -> Self {
        let scale = source as f64 / target as f64;
        let last = source as f64 - 1.0;
        Self::new(target, |i| ((i as f64 + 0.5) * scale - 0.5).clamp(0.0, last))
    }
}

/// The picture at another size.
pub fn resize(image: &Image, height: usize, width: usize) -> Image {
    let mut pixels = vec![0; height * width * 3];
    resize_rows(image, height, width, |y, row| {
        pixels[y * width * 3..(y + 1) * width * 3].copy_from_slice(row);
    });
    Image { height, width, pixels }
}

/// Call `store` with each row of the resized picture.
pub(super) fn resize_rows(image: &Image, height: usize, width: usize, mut store: impl FnMut(usize, &[u8])) {
    let stride = image.width * 3;
    if (height, width) == (image.height, image.width) {
        image.pixels.chunks_exact(stride).enumerate().for_each(|(y, row)| store(y, row));
        return;
    }
    let columns = Taps::stretched(image.width, width);
    let mut blended = vec![0i32; stride];
    let mut row = vec![0u8; width * 3];
    for (y, &(top, weight)) in Taps::stretched(image.height, height).pairs.iter().enumerate() {
        let top = top as usize;
        let bottom = (top + 1).min(image.height - 1);
        blend_rows(
            &image.pixels[top * stride..][..stride],
            &image.pixels[bottom * stride..][..stride],
            weight,
            &mut blended,
        );
        let last = image.width - 1;
        for (out, &(left, weight)) in row.chunks_exact_mut(3).zip(&columns.pairs) {
            let left = left as usize;
            let right = (left + 1).min(last);
            for c in 0..3 {
                out[c] = blend_columns(blended[3 * left + c], blended[3 * right + c], weight);
            }
        }
        store(y, &row);
    }
}

/// Vertical blend of two rows, scaled by 2^11.
pub fn blend_rows(top: &[u8], bottom: &[u8], weight: i32, out: &mut [i32]) {
    for ((out, &a), &b) in out.iter_mut().zip(top).zip(bottom) {
        *out = i32::from(a) * (ONE - weight) + i32::from(b) * weight;
    }
}

/// Horizontal blend of two vertical blends, rounded half up.
pub fn blend_columns(left: i32, right: i32, weight: i32) -> u8 {
    ((left * (ONE - weight) + right * weight + (1 << (2 * WEIGHT_BITS - 1))) >> (2 * WEIGHT_BITS)) as u8
}
