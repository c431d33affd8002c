//! Rows of a canvas that is zoomed and shifted only: columns and rows are blended apart.

use super::canvas::{BORDER, Canvas};
use super::lerp::{BlendColumns, BlendRows, Pixel, run, weight};

/// Coordinates are kept this far inside 32 bits.
const FAR: f64 = 1e9;
/// Values of two neighbours, and one that means nothing.
const TAP_VALUES: usize = 7;

/// Makes the rows of one output, one after the other.
#[derive(Debug)]
pub(super) struct Upright {
    /// The first value of every column's left neighbour, in a row that has grey pixels at each end; the right follows.
    places: Vec<u32>,
    weights: Vec<Pixel>,
    rows: (f64, f64),
    top: Vec<u8>,
    bottom: Vec<u8>,
    at: Option<i64>,
    /// Values of a row that are ever looked at.
    used: std::ops::Range<usize>,
    blended: Vec<i16>,
    right: Vec<Pixel>,
}

impl Upright {
    /// `columns` and `rows` are (base, step) of the canvas coordinates.
    pub(super) fn new(canvas: &Canvas, side: usize, columns: (f64, f64), rows: (f64, f64)) -> Self {
        let stride = 3 * (canvas.width + 2 * BORDER);
        let points = (0..side).map(|x| (columns.0 + columns.1 * x as f64).clamp(-FAR, FAR));
        let left = |x: f64| (x.floor().clamp(-(BORDER as f64), canvas.width as f64) + BORDER as f64) as u32;
        let places: Vec<_> = points.clone().map(|x| 3 * left(x)).collect();
        let ends = [places[0] as usize, places[side - 1] as usize];
        let used = ends[0].min(ends[1])..(ends[0].max(ends[1]) + 6);
        Self {
            places,
            weights: points.map(|x| [weight(x - x.floor()); 4]).collect(),
            rows,
            top: vec![0; stride],
            bottom: vec![0; stride],
            at: None,
            used,
            blended: vec![0; stride + TAP_VALUES],
            right: vec![[0; 4]; side],
        }
    }

    /// Write row `y`.
    pub(super) fn row(&mut self, canvas: &Canvas, y: usize, out: &mut [Pixel]) {
        let at = (self.rows.0 + self.rows.1 * y as f64).clamp(-FAR, FAR);
        self.load(canvas, at.floor() as i64);
        run(BlendRows {
            top: &self.top[self.used.clone()],
            bottom: &self.bottom[self.used.clone()],
            weight: weight(at - at.floor()),
            out: &mut self.blended[self.used.clone()],
        });
        // all of them before any is blended: what was just written in parts is slow to read as a whole
        for ((out, next), &place) in out.iter_mut().zip(&mut self.right).zip(&self.places) {
            let place = place as usize;
            let pair = &self.blended[place..place + TAP_VALUES];
            out.copy_from_slice(&pair[..4]);
            next.copy_from_slice(&pair[3..7]);
        }
        run(BlendColumns { left: out, right: &self.right, weights: &self.weights });
    }

    /// Have rows `y` and `y + 1` ready, keeping what is there.
    fn load(&mut self, canvas: &Canvas, y: i64) {
        if self.at == Some(y) {
            return;
        }
        if self.at == Some(y - 1) {
            std::mem::swap(&mut self.top, &mut self.bottom);
            canvas.row(y + 1, &mut self.bottom);
        } else if self.at == Some(y + 1) {
            std::mem::swap(&mut self.top, &mut self.bottom);
            canvas.row(y, &mut self.top);
        } else {
            canvas.row(y, &mut self.top);
            canvas.row(y + 1, &mut self.bottom);
        }
        self.at = Some(y);
    }
}
