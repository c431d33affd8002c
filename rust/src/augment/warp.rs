//! Zoom and shift of a canvas into a square planar picture: exact two-tap bilinear, grey 114 blended at the borders.
//!
//! `x_out = gain * (x - centre_x) + shift_x` on the integer pixel grid (as `OpenCV`'s `warpAffine`), then the flips.
//! Oracle: `tests/data/reference.py`.

use crate::image::{Taps, blend_columns, blend_rows};

use super::boxes::BoxXyxy;
use super::canvas::Canvas;
use super::plan::Plan;

/// An axis-aligned map from canvas to output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warp {
    /// Side of the square output in pixels.
    pub side: usize,
    /// Zoom.
    pub gain: f64,
    /// Canvas centre (x, y) in pixels.
    pub centre: (f64, f64),
    /// Where the centre goes, (x, y) in output pixels.
    pub shift: (f64, f64),
    /// Upside down.
    pub flip_ud: bool,
    /// Left-right.
    pub flip_lr: bool,
}

impl Warp {
    /// The map of a plan for one canvas.
    pub fn new(plan: &Plan, canvas: &Canvas, side: usize) -> Self {
        Self {
            side,
            gain: plan.gain,
            centre: (canvas.width as f64 / 2.0, canvas.height as f64 / 2.0),
            shift: (plan.shift.0 * side as f64, plan.shift.1 * side as f64),
            flip_ud: plan.flip_ud,
            flip_lr: plan.flip_lr,
        }
    }

    /// Canvas coordinate under each output coordinate of one axis.
    fn taps(&self, centre: f64, shift: f64, flipped: bool) -> Taps {
        let last = self.side - 1;
        Taps::new(self.side, |i| (if flipped { last - i } else { i } as f64 - shift) / self.gain + centre)
    }

    /// A canvas box in output pixels, clipped to the output.
    pub fn apply(&self, b: &BoxXyxy) -> BoxXyxy {
        let side = self.side as f64;
        let x = |x: f64| (self.gain * (x - self.centre.0) + self.shift.0).clamp(0.0, side);
        let y = |y: f64| (self.gain * (y - self.centre.1) + self.shift.1).clamp(0.0, side);
        let (mut x1, mut x2, mut y1, mut y2) = (x(b.x1), x(b.x2), y(b.y1), y(b.y2));
        if self.flip_lr {
            (x1, x2) = (side - x2, side - x1);
        }
        if self.flip_ud {
            (y1, y2) = (side - y2, side - y1);
        }
        BoxXyxy { x1, y1, x2, y2 }
    }
}

/// Write the warped canvas as three planes of side * side bytes.
pub fn warp_into(canvas: &Canvas, warp: &Warp, out: &mut [u8]) {
    let plane = warp.side * warp.side;
    let columns = bordered(&warp.taps(warp.centre.0, warp.shift.0, warp.flip_lr), canvas.width);
    let rows = warp.taps(warp.centre.1, warp.shift.1, warp.flip_ud);
    let stride = 3 * (canvas.width + 2);
    let mut lines = Lines { top: vec![0; stride], bottom: vec![0; stride], at: None };
    let mut blended = vec![0; stride];
    for (y, &(top, weight)) in rows.pairs.iter().enumerate() {
        lines.load(canvas, i64::from(top));
        blend_rows(&lines.top, &lines.bottom, weight, &mut blended);
        for (x, &(left, right, weight)) in columns.iter().enumerate() {
            for c in 0..3 {
                out[c * plane + y * warp.side + x] = blend_columns(blended[left + c], blended[right + c], weight);
            }
        }
    }
}

/// Two neighbouring canvas rows.
struct Lines {
    top: Vec<u8>,
    bottom: Vec<u8>,
    at: Option<i64>,
}

impl Lines {
    /// Have rows `y` and `y + 1` ready, keeping what is there.
    fn load(&mut self, canvas: &Canvas, y: i64) {
        if self.at == Some(y) {
            return;
        }
        if self.at == Some(y - 1) {
            std::mem::swap(&mut self.top, &mut self.bottom);
        } else {
            canvas.row(y, &mut self.top);
        }
        canvas.row(y + 1, &mut self.bottom);
        self.at = Some(y);
    }
}

/// Offsets of both taps in a row that has one grey pixel at each end; everything outside reads those.
fn bordered(taps: &Taps, width: usize) -> Vec<(usize, usize, i32)> {
    let offset = |x: i64| 3 * (x.clamp(-1, width as i64) + 1) as usize;
    taps.pairs.iter().map(|&(x, weight)| (offset(x.into()), offset(i64::from(x) + 1), weight)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{BoxXyxy, Canvas, Warp, warp_into};
    use crate::image::Image;

    fn picture(height: usize, width: usize) -> Arc<Image> {
        let pixels = (0..height * width * 3).map(|i| (i * 37 % 251) as u8).collect();
        Arc::new(Image { height, width, pixels })
    }

    fn warp(side: usize, gain: f64, centre: (f64, f64), shift: (f64, f64)) -> Warp {
        Warp { side, gain, centre, shift, flip_ud: false, flip_lr: false }
    }

    #[test]
    fn the_identity_leaves_every_pixel_and_flips_mirror_it() {
        let image = picture(8, 8);
        let canvas = Canvas::single(Arc::clone(&image));
        let mut map = warp(8, 1.0, (4.0, 4.0), (4.0, 4.0));
        let mut out = vec![0; 3 * 64];
        warp_into(&canvas, &map, &mut out);
        let planar = |flip: bool| -> Vec<u8> {
            let x = |x: usize| if flip { 7 - x } else { x };
            (0..3 * 64).map(|i| image.pixels[3 * (i % 64 / 8 * 8 + x(i % 8)) + i / 64]).collect()
        };
        assert_eq!(out, planar(false));
        map.flip_lr = true;
        warp_into(&canvas, &map, &mut out);
        assert_eq!(out, planar(true));
    }

    proptest! {
        #[test]
        fn any_map_stays_in_bounds(h in 1usize..40, w in 1usize..40, gain in 0.01f64..4.0, cx in 0.5f64..1.5,
                                   sx in -2.0f64..3.0, sy in -2.0f64..3.0, flips in 0..4) {
            let side = 16;
            let images = [picture(h, w), picture(w, h), picture(h, h), picture(w, w)];
            let canvas = Canvas::mosaic(images, side, ((cx * 16.0) as usize, 16));
            let mut map = warp(side, gain, (16.0, 16.0), (sx * 16.0, sy * 16.0));
            (map.flip_lr, map.flip_ud) = (flips & 1 == 1, flips & 2 == 2);
            let mut out = vec![0; 3 * side * side];
            warp_into(&canvas, &map, &mut out);
            let b = map.apply(&BoxXyxy { x1: 1.0, y1: 2.0, x2: 30.0, y2: 29.0 });
            prop_assert!(0.0 <= b.x1 && b.x1 <= b.x2 && b.x2 <= 16.0);
            prop_assert!(0.0 <= b.y1 && b.y1 <= b.y2 && b.y2 <= 16.0);
        }
    }

    /// A canvas pixel by looking through the tiles.
    fn canvas_pixel(canvas: &Canvas, x: i64, y: i64, c: usize) -> f64 {
        let on_canvas = (0..canvas.width as i64).contains(&x) && (0..canvas.height as i64).contains(&y);
        let found = canvas.tiles.iter().filter(|_| on_canvas).find_map(|t| {
            let (column, row) = (usize::try_from(x - t.left).ok()?, usize::try_from(y - t.top).ok()?);
            let inside = column < t.image.width && row < t.image.height;
            inside.then(|| t.image.pixels[3 * (row * t.image.width + column) + c])
        });
        f64::from(found.unwrap_or(114))
    }

    #[test]
    fn a_mosaic_equals_exact_bilinear_within_one_level() {
        let side = 24;
        let images = [picture(20, 24), picture(24, 11), picture(5, 24), picture(24, 24)];
        let canvas = Canvas::mosaic(images, side, (17, 30));
        for (gain, shift) in [(0.5, (10.3, 13.7)), (1.0, (12.0, 12.0)), (1.47, (3.3, 20.9))] {
            let map = warp(side, gain, (24.0, 24.0), shift);
            let mut out = vec![0; 3 * side * side];
            warp_into(&canvas, &map, &mut out);
            for (i, &value) in out.iter().enumerate() {
                let (c, y, x) = (i / (side * side), i / side % side, i % side);
                let (u, v) = ((x as f64 - shift.0) / gain + 24.0, (y as f64 - shift.1) / gain + 24.0);
                let (left, top) = (u.floor() as i64, v.floor() as i64);
                let at = |dx, dy| canvas_pixel(&canvas, left + dx, top + dy, c);
                let (wx, wy) = (u - u.floor(), v - v.floor());
                let above = at(0, 0) * (1.0 - wx) + at(1, 0) * wx;
                let below = at(0, 1) * (1.0 - wx) + at(1, 1) * wx;
                let exact = above * (1.0 - wy) + below * wy;
                assert!((f64::from(value) - exact).abs() <= 1.0, "{gain} {x} {y}: {value} {exact}");
            }
        }
    }

    #[test]
    fn far_away_is_grey() {
        let mut out = vec![0; 3 * 16];
        warp_into(&Canvas::single(picture(4, 4)), &warp(4, 1.0, (2.0, 2.0), (100.0, 100.0)), &mut out);
        assert!(out.iter().all(|&v| v == 114));
    }
}
