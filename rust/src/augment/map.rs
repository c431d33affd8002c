//! Where the points of a canvas go: `T S R P C` and then the flips, as 3 x 3 matrices on (x, y, 1).
//!
//! C moves the canvas centre to the origin, P adds a perspective to the last row, R turns and zooms, S shears, T moves to
//! the drawn place. Pixels are taken on the integer grid (as `OpenCV`'s `warpAffine`), so the mirror image of column x is
//! `side - 1 - x`; boxes and outlines lie between pixels, so theirs is `side - x`.

use super::boxes::BoxXyxy;
use super::plan::Motion;
use super::polygon::{Ring, clip};

/// Points nearer to the horizon than this are cut off: w is 1 in the middle of the canvas and 0 on the horizon.
const MIN_W: f64 = 1e-3;

type Matrix = [[f64; 3]; 3];

/// A canvas point in homogeneous coordinates: a + b * column of the output row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) base: [f64; 3],
    pub(super) step: [f64; 3],
}

impl Line {
    /// The same points on the mirror image of a canvas.
    pub(super) fn mirrored(self, width: usize) -> Self {
        let last = width as f64 - 1.0;
        let turn = |p: [f64; 3]| [last * p[2] - p[0], p[1], p[2]];
        Self { base: turn(self.base), step: turn(self.step) }
    }
}

/// The map of a canvas into a square output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Map {
    /// Side of the output in pixels.
    pub side: usize,
    /// Zoom, from the canvas to the output.
    pub gain: f64,
    /// Upside down.
    pub flip_ud: bool,
    /// Left-right.
    pub flip_lr: bool,
    forward: Matrix,
    inverse: Matrix,
    is_upright: bool,
}

impl Map {
    /// The map of a canvas of (height, width), made for outputs of `planned` pixels, into one of `side`.
    pub fn new(
        motion: &Motion,
        size: (usize, usize),
        planned: usize,
        side: usize,
        (flip_ud, flip_lr): (bool, bool),
    ) -> Self {
        let gain = motion.gain * side as f64 / planned as f64;
        let (sin, cos) = libm::sincos(motion.angle_deg.to_radians());
        let shear = [motion.shear_deg.0, motion.shear_deg.1].map(|degrees| libm::tan(degrees.to_radians()));
        let (px, py) = motion.perspective;
        let shift = [motion.shift.0, motion.shift.1].map(|part| part * side as f64);
        let centred = [[1.0, 0.0, -(size.1 as f64) / 2.0], [0.0, 1.0, -(size.0 as f64) / 2.0], [0.0, 0.0, 1.0]];
        let tilted = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [px, py, 1.0]];
        let turned = [[gain * cos, gain * sin, 0.0], [-gain * sin, gain * cos, 0.0], [0.0, 0.0, 1.0]];
        let sheared = [[1.0, shear[0], 0.0], [shear[1], 1.0, 0.0], [0.0, 0.0, 1.0]];
        let moved = [[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]], [0.0, 0.0, 1.0]];
        let forward = [sheared, turned, tilted, centred].iter().fold(moved, |all, next| product(&all, next));
        let is_upright = motion.angle_deg == 0.0 && motion.shear_deg == (0.0, 0.0) && motion.perspective == (0.0, 0.0);
        Self { side, gain, flip_ud, flip_lr, forward, inverse: inverse(&forward), is_upright }
    }

    /// The canvas coordinates of output columns and rows where they do not depend on each other: neither turned,
    /// sheared nor tilted. Each is (base, step).
    pub(super) fn upright(&self) -> Option<[(f64, f64); 2]> {
        self.is_upright.then(|| {
            let (line, m) = (self.line(0), &self.inverse);
            let last = (self.side - 1) as f64;
            let row = if self.flip_ud { (m[1][2] + m[1][1] * last, -m[1][1]) } else { (m[1][2], m[1][1]) };
            [(line.base[0], line.step[0]), row]
        })
    }

    /// The canvas points under an output row.
    pub(super) fn line(&self, y: usize) -> Line {
        let last = (self.side - 1) as f64;
        let y = if self.flip_ud { last - y as f64 } else { y as f64 };
        let m = &self.inverse;
        let base = [0, 1, 2].map(|i| m[i][1] * y + m[i][2]);
        let step = [0, 1, 2].map(|i| m[i][0]);
        if self.flip_lr {
            return Line { base: [0, 1, 2].map(|i| base[i] + step[i] * last), step: step.map(|s| -s) };
        }
        Line { base, step }
    }

    /// A box in output pixels, the extent of its corners, clipped to the output; none when it lies behind the horizon.
    pub fn place_box(&self, b: &BoxXyxy) -> Option<BoxXyxy> {
        let corners = self.in_front(&b.corners());
        let side = self.side as f64;
        BoxXyxy::around(corners).map(|b| b.clipped(side, side))
    }

    /// A polygon in output pixels, clipped to the output; empty when nothing is left.
    pub fn place_ring(&self, ring: &[(f64, f64)]) -> Ring {
        let side = self.side as f64;
        clip(&self.in_front(ring), &BoxXyxy { x1: 0.0, y1: 0.0, x2: side, y2: side })
    }

    /// A polygon in output pixels, cut at the horizon only.
    fn in_front(&self, ring: &[(f64, f64)]) -> Ring {
        let m = &self.forward;
        let raised: Vec<[f64; 3]> =
            ring.iter().map(|&(x, y)| [0, 1, 2].map(|i| m[i][0] * x + m[i][1] * y + m[i][2])).collect();
        let mut front = Vec::with_capacity(raised.len());
        for (k, &b) in raised.iter().enumerate() {
            let a = raised[(k + raised.len() - 1) % raised.len()];
            if (a[2] > MIN_W) != (b[2] > MIN_W) {
                let t = (MIN_W - a[2]) / (b[2] - a[2]);
                front.push([a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1]), MIN_W]);
            }
            if b[2] > MIN_W {
                front.push(b);
            }
        }
        front.into_iter().map(|[x, y, w]| self.flipped(x / w, y / w)).collect()
    }

    fn flipped(&self, x: f64, y: f64) -> (f64, f64) {
        let side = self.side as f64;
        (if self.flip_lr { side - x } else { x }, if self.flip_ud { side - y } else { y })
    }
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    [0, 1, 2].map(|i| [0, 1, 2].map(|j| a[i][0] * b[0][j] + a[i][1] * b[1][j] + a[i][2] * b[2][j]))
}

/// The adjugate over the determinant, which is gain^2 * (1 - tan tan) and so never 0 in the ranges that are allowed.
fn inverse(m: &Matrix) -> Matrix {
    let minor = |i: usize, j: usize| {
        let (r, s) = ((i + 1) % 3, (i + 2) % 3);
        let (c, d) = ((j + 1) % 3, (j + 2) % 3);
        m[r][c] * m[s][d] - m[r][d] * m[s][c]
    };
    let determinant = m[0][0] * minor(0, 0) + m[0][1] * minor(0, 1) + m[0][2] * minor(0, 2);
    [0, 1, 2].map(|i| [0, 1, 2].map(|j| minor(j, i) / determinant))
}
