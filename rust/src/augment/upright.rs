//! Rows of a canvas that is zoomed and shifted only: columns and rows are blended apart.

use super::canvas::Canvas;
use super::lerp::{BlendColumns, BlendRows, Pixel, run, weight};

/// Coordinates are kept this far inside 32 bits.
const FAR: f64 = 1e9;

/// Makes the rows of one output, one after the other.
#[derive(Debug)]
pub(super) struct Upright {
    /// Offsets of both neighbours of every column in a row that has one grey pixel at each end.
    columns: Vec<(usize, usize)>,
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
        let stride = 3 * (canvas.width + 2);
        let taps = (0..side).map(|x| (columns.0 + columns.1 * x as f64).clamp(-FAR, FAR));
        let offset = |x: f64| 3 * (x.clamp(-1.0, canvas.width as f64) + 1.0) as usize;
        let offsets: Vec<_> = taps.clone().map(|x| (offset(x.floor()), offset(x.floor() + 1.0))).collect();
        let ends = [offsets[0], offsets[side - 1]];
        let used = ends[0].0.min(ends[1].0)..ends[0].1.max(ends[1].1) + 3;
        Self {
            columns: offsets,
            weights: taps.map(|x| [weight(x - x.floor()); 4]).collect(),
            rows,
            top: vec![0; stride],
            bottom: vec![0; stride],
            at: None,
            used,
            blended: vec![0; stride + 1],
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
        let neighbours = self.columns.iter().zip(out.iter_mut().zip(&mut self.right));
        for (&(left, right), (out, next)) in neighbours {
            out.copy_from_slice(&self.blended[left..left + 4]);
            next.copy_from_slice(&self.blended[right..right + 4]);
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
