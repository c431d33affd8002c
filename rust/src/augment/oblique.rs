//! Rows of a canvas under any map: every tile is sampled straight into the output.
//!
//! Where a row of the output crosses a tile is an interval of its columns. Well inside, four neighbours are fetched
//! without asking; along the rim of a tile they are looked up one by one; elsewhere is grey.

use std::ops::Range;

use super::canvas::{Canvas, GREY, Placed, Rectangle};
use super::lerp::{BlendNeighbours, LEVEL_BITS, Neighbours, Pixel, WEIGHT_BITS, blend_pixel, run, weight};
use super::map::Line;
use crate::simd::{Kernel, Vector};

const GREY_PIXEL: Pixel = [(GREY as i16) << LEVEL_BITS; 4];
const WEIGHT_MASK: u32 = (1 << WEIGHT_BITS) - 1;
/// One pixel in so many is looked at before any is used, so that the memory they lie in arrives together.
const AHEAD: usize = 8;
/// How far inside a tile a point must lie to be fetched without asking, and outside to be grey, in pixels.
const MARGIN_PX: f64 = 2.0;
/// Points nearer to the horizon are grey, as seen from the middle of the canvas, where this is 1.
const MAX_DEPTH: f64 = 1e3;

/// Samples rows; keeps its buffers.
#[derive(Debug)]
pub(super) struct Oblique {
    neighbours: Neighbours,
    places: Vec<u32>,
}

impl Oblique {
    /// For outputs of `side` columns.
    pub(super) fn new(side: usize) -> Self {
        Self { neighbours: Neighbours::new(side), places: vec![0; side] }
    }

    /// Write some columns of the row whose canvas points are `line`.
    pub(super) fn sample(&mut self, canvas: &Canvas, line: &Line, columns: Range<usize>, row: &mut [Pixel]) {
        row[columns.clone()].fill(GREY_PIXEL);
        for tile in &canvas.tiles {
            let Some(seen) = canvas.visible(tile) else { continue };
            let near = crossing(line, seen, MARGIN_PX, &columns);
            let inside = crossing(line, seen, -MARGIN_PX, &near);
            for x in (near.start..inside.start).chain(inside.end..near.end) {
                row[x] = look_up(canvas, line, x);
            }
            self.fetch(tile, line, &inside);
            run(BlendNeighbours { from: &self.neighbours, out: &mut row[inside] });
        }
    }

    /// Collect the neighbours of columns that lie well inside a tile.
    fn fetch(&mut self, tile: &Placed, line: &Line, columns: &Range<usize>) {
        let stride = 3 * tile.image.width;
        let places = &mut self.places[..columns.len()];
        let [wx, wy] = &mut self.neighbours.weights;
        run(Locate { line, tile, first: columns.start, places, weights: [wx, wy] });
        let pixels = &tile.image.pixels;
        let touched = places.iter().step_by(AHEAD).fold(0, |sum, &offset| sum ^ pixels[offset as usize + stride]);
        std::hint::black_box(touched);
        let [a, b, c, d] = &mut self.neighbours.corners;
        for ((((offset, a), b), c), d) in places.iter().zip(a).zip(b).zip(c).zip(d) {
            (*a, *b) = pair(&pixels[*offset as usize..]);
            (*c, *d) = pair(&pixels[*offset as usize + stride..]);
        }
    }
}

/// Finds the offsets of the upper left neighbours in a tile, and the weights of the others.
struct Locate<'a> {
    line: &'a Line,
    tile: &'a Placed,
    first: usize,
    places: &'a mut [u32],
    weights: [&'a mut [Pixel]; 2],
}

impl Kernel for Locate<'_> {
    type Scalar = f32;
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        let line = *self.line;
        if line.step[2] == 0.0 {
            let [(u, du), (v, dv)] = [0, 1].map(|i| (line.base[i] / line.base[2], line.step[i] / line.base[2]));
            return self.locate(|x| (u + du * x, v + dv * x));
        }
        self.locate(|x| at(&line, x));
    }
}

impl Locate<'_> {
    #[inline(always)]
    fn locate(self, point: impl Fn(f64) -> (f64, f64)) {
        let stride = 3 * self.tile.image.width as u32;
        let (left, top) = (self.tile.left as f64, self.tile.top as f64);
        let [wx, wy] = self.weights;
        for (i, ((place, wx), wy)) in self.places.iter_mut().zip(wx).zip(wy).enumerate() {
            let (u, v) = point((self.first + i) as f64);
            let (u, v) = (fixed(u - left), fixed(v - top));
            *place = stride * (v >> WEIGHT_BITS) + 3 * (u >> WEIGHT_BITS);
            *wx = [(u & WEIGHT_MASK) as i16; 4];
            *wy = [(v & WEIGHT_MASK) as i16; 4];
        }
    }
}

/// A coordinate in 0..2^16 in units of a weight: the last bits of a float of at least 2^37 count them.
#[inline(always)]
fn fixed(coordinate: f64) -> u32 {
    const WHOLE: f64 = (1u64 << (52 - WEIGHT_BITS)) as f64;
    (coordinate + WHOLE).to_bits() as u32
}

/// Two pixels side by side, each with one byte of what follows.
#[inline(always)]
fn pair(bytes: &[u8]) -> ([u8; 4], [u8; 4]) {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[..8]);
    let word = u64::from_le_bytes(eight);
    ((word as u32).to_le_bytes(), ((word >> 24) as u32).to_le_bytes())
}

/// The canvas point under a column.
#[inline(always)]
fn at(line: &Line, x: f64) -> (f64, f64) {
    let [u, v, w] = [0, 1, 2].map(|i| line.base[i] + line.step[i] * x);
    (u / w, v / w)
}

/// The columns among `columns` whose points lie in a rectangle of pixels grown by `margin`.
fn crossing(line: &Line, seen: Rectangle, margin: f64, columns: &Range<usize>) -> Range<usize> {
    let [u, v, w] = [0, 1, 2].map(|i| (line.base[i], line.step[i]));
    let (left, top) = (seen.left as f64 - margin, seen.top as f64 - margin);
    let (right, bottom) = ((seen.right - 1) as f64 + margin, (seen.bottom - 1) as f64 + margin);
    let minus = |p: (f64, f64), k: f64, q: (f64, f64)| (p.0 - k * q.0, p.1 - k * q.1);
    let times = |p: (f64, f64), k: f64| (p.0 * k, p.1 * k);
    let conditions = [
        w,
        (MAX_DEPTH - w.0, -w.1),
        minus(u, left, w),
        minus(v, top, w),
        times(minus(u, right, w), -1.0),
        times(minus(v, bottom, w), -1.0),
    ];
    let (mut first, mut last) = (columns.start as f64, columns.end as f64 - 1.0);
    for (base, step) in conditions {
        let root = -base / step;
        if step > 0.0 {
            first = first.max(root.ceil());
        } else if step < 0.0 {
            last = last.min(root.floor());
        } else if base < 0.0 {
            return columns.start..columns.start;
        }
    }
    if first > last { columns.start..columns.start } else { first as usize..last as usize + 1 }
}

/// A pixel by looking at the canvas.
fn look_up(canvas: &Canvas, line: &Line, x: usize) -> Pixel {
    let (u, v) = at(line, x as f64);
    let (column, row) = (u.floor(), v.floor());
    let (wx, wy) = (u - column, v - row);
    let (column, row) = (column as i64, row as i64);
    let corners = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| canvas.pixel(column + dx, row + dy));
    blend_pixel(&corners, weight(wx), weight(wy))
}
