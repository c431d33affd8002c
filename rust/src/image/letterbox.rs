//! Letterbox: scale to fit, centre, pad with grey 114; planar output for the network.
//!
//! gain = min(H/h, W/w), at most 1 without `scale_up`; new side = round(side * gain), at least 1; the left and top
//! pads are round(rest / 2 - 0.1), so an odd rest goes right and down.

use super::View;
use super::resize::resize_rows;
use crate::cpu::{self, Level};
use crate::simd::{Kernel, Vector, dispatch};

/// Grey of the padding.
const PAD_VALUE: u8 = 114;

/// Where a picture lies in its letterbox: `x_box = x * gain + left`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Letterbox {
    /// Pixels of the box per pixel of the picture.
    pub gain: f64,
    /// Columns of padding on the left.
    pub left: usize,
    /// Rows of padding on top.
    pub top: usize,
    /// Columns of the scaled picture.
    pub width: usize,
    /// Rows of the scaled picture.
    pub height: usize,
}

impl Letterbox {
    /// Fit `(height, width)` into `(box_height, box_width)`.
    pub fn fit(size: (usize, usize), target: (usize, usize), scale_up: bool) -> Self {
        let ratio = |side: usize, of: usize| side as f64 / of as f64;
        let fitting = ratio(target.0, size.0).min(ratio(target.1, size.1));
        Self::centred(size, target, if scale_up { fitting } else { fitting.min(1.0) })
    }

    /// Scale the longer side of `(height, width)` to `side`, in the middle of `target`.
    pub fn within(size: (usize, usize), side: usize, target: (usize, usize)) -> Self {
        Self::centred(size, target, side as f64 / size.0.max(size.1) as f64)
    }

    fn centred(size: (usize, usize), target: (usize, usize), gain: f64) -> Self {
        let scaled = |side: usize, most: usize| ((side as f64 * gain).round_ties_even() as usize).clamp(1, most);
        let (height, width) = (scaled(size.0, target.0), scaled(size.1, target.1));
        let pad = |rest: usize| (rest as f64 / 2.0 - 0.1).round_ties_even().max(0.0) as usize;
        Self { gain, left: pad(target.1 - width), top: pad(target.0 - height), width, height }
    }
}

/// Write the letterboxed picture as three planes of `target` (height, width) into `out`.
pub fn letterbox_into(image: View<'_>, target: (usize, usize), place: Letterbox, out: &mut [u8]) {
    // a level that is not there was refused when the module was imported
    let level = cpu::level().unwrap_or(Level::Scalar);
    let size = target.0 * target.1;
    let start = |y: usize| (place.top + y) * target.1 + place.left;
    for plane in out.chunks_exact_mut(size) {
        plane[..start(0)].fill(PAD_VALUE);
        plane[start(place.height - 1) + place.width..].fill(PAD_VALUE);
    }
    resize_rows(image, place.height, place.width, |y, row| {
        let (red, rest) = out.split_at_mut(size);
        let (green, blue) = rest.split_at_mut(size);
        let planes = [red, green, blue].map(|plane| {
            if y > 0 {
                plane[start(y - 1) + place.width..start(y)].fill(PAD_VALUE);
            }
            &mut plane[start(y)..][..place.width]
        });
        dispatch(level, Split { row, planes });
    });
}

/// A row of pixels into a row of each colour.
struct Split<'a> {
    row: &'a [u8],
    planes: [&'a mut [u8]; 3],
}

impl Kernel for Split<'_> {
    type Scalar = f32;
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        let [red, green, blue] = self.planes;
        let pixels = self.row.as_chunks::<3>().0;
        for (((pixel, r), g), b) in pixels.iter().zip(red).zip(green).zip(blue) {
            [*r, *g, *b] = *pixel;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Letterbox;

    #[test]
    fn extreme_shapes_fit() {
        for size in [(1, 1), (1, 100), (100, 1), (65_535, 1), (480, 640), (33, 77)] {
            for up in [false, true] {
                let fit = Letterbox::fit(size, (64, 96), up);
                assert!(fit.height >= 1 && fit.width >= 1, "{size:?}");
                assert!(fit.top + fit.height <= 64 && fit.left + fit.width <= 96, "{size:?} {fit:?}");
            }
        }
        assert_eq!(Letterbox::fit((1, 1), (64, 64), false).gain, 1.0);
        let odd = Letterbox::fit((9, 10), (10, 10), false);
        assert_eq!((odd.top, odd.left), (0, 0));
    }
}
