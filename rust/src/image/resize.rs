//! Two-tap bilinear resizing: half-pixel centres, edges repeated, as `OpenCV`'s `INTER_LINEAR` (no antialiasing).
//!
//! `source = (target + 0.5) * scale - 0.5`. Weights have 11 bits and all sums are integers, so every machine gives
//! the same bytes; at most 1 level from the exact value. Test: `tests/data/test_letterbox.py`.

use super::{Image, View};
use crate::cpu::{self, Level};
use crate::simd::{Kernel, Vector, dispatch};

/// Fraction bits of a weight.
const WEIGHT_BITS: u32 = 11;
/// A weight of one.
const ONE: i32 = 1 << WEIGHT_BITS;

/// Per target coordinate the first of two neighbouring source coordinates, and the weight of the second in 0..=2^11.
fn taps(source: usize, target: usize) -> Vec<(usize, i32)> {
    let scale = source as f64 / target as f64;
    let pair = |i: usize| {
        let at = ((i as f64 + 0.5) * scale - 0.5).clamp(0.0, source as f64 - 1.0);
        (at as usize, (at.fract() * f64::from(ONE) + 0.5) as i32)
    };
    (0..target).map(pair).collect()
}

/// The picture at another size.
pub fn resize(image: View<'_>, height: usize, width: usize) -> Image {
    let mut pixels = vec![0; height * width * 3];
    resize_rows(image, height, width, |y, row| {
        pixels[y * width * 3..(y + 1) * width * 3].copy_from_slice(row);
    });
    Image { height, width, pixels }
}

/// Call `store` with each row of the resized picture.
pub(super) fn resize_rows(image: View<'_>, height: usize, width: usize, mut store: impl FnMut(usize, &[u8])) {
    let stride = image.width * 3;
    if (height, width) == (image.height, image.width) {
        image.pixels.chunks_exact(stride).enumerate().for_each(|(y, row)| store(y, row));
        return;
    }
    let columns = taps(image.width, width);
    // a level that is not there was refused when the module was imported
    let level = cpu::level().unwrap_or(Level::Scalar);
    let mut blended = vec![0; stride + 3];
    let mut row = vec![0; width * 3];
    for (y, &(top, weight)) in taps(image.height, height).iter().enumerate() {
        let bottom = (top + 1).min(image.height - 1);
        let [top, bottom] = [top, bottom].map(|y| &image.pixels[y * stride..][..stride]);
        dispatch(level, BlendRows { top, bottom, weight, out: &mut blended[..stride] });
        blended.copy_within(stride - 3..stride, stride); // the pixel beyond the edge
        dispatch(level, BlendColumns { pixels: &blended, taps: &columns, out: &mut row });
        store(y, &row);
    }
}

/// Vertical blend of two rows, scaled by 2^11.
struct BlendRows<'a> {
    top: &'a [u8],
    bottom: &'a [u8],
    weight: i32,
    out: &'a mut [i32],
}

impl Kernel for BlendRows<'_> {
    type Scalar = f32;
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        for ((out, &a), &b) in self.out.iter_mut().zip(self.top).zip(self.bottom) {
            *out = i32::from(a) * (ONE - self.weight) + i32::from(b) * self.weight;
        }
    }
}

/// Horizontal blend of the vertical one, rounded half up.
struct BlendColumns<'a> {
    pixels: &'a [i32],
    taps: &'a [(usize, i32)],
    out: &'a mut [u8],
}

impl Kernel for BlendColumns<'_> {
    type Scalar = f32;
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        const HALF: i32 = 1 << (2 * WEIGHT_BITS - 1);
        for (out, &(left, weight)) in self.out.as_chunks_mut::<3>().0.iter_mut().zip(self.taps) {
            let pair = &self.pixels[3 * left..][..6];
            *out = [0, 1, 2]
                .map(|c| ((pair[c] * (ONE - weight) + pair[c + 3] * weight + HALF) >> (2 * WEIGHT_BITS)) as u8);
        }
    }
}
