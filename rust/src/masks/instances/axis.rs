//! Where the pixels of a mask lie between the cells of the prototypes, along x or along y.

use std::ops::Range;
use std::slice::SliceIndex;

use super::STRIDE;

/// For every pixel the cell before it and the way to the next one.
#[derive(Debug)]
pub(super) struct Axis {
    /// At most the last cell but one.
    cells: Vec<u32>,
    /// 0 at the centre of the cell, 1 at that of the next.
    parts: Vec<f32>,
}

/// Pixels of a box along one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Pixels, at least one.
    pub pixels: Range<usize>,
    /// Cells around them, at least two.
    pub cells: Range<usize>,
}

impl Axis {
    /// Of `length` pixels over `num_cells`, two or more; beyond the centres of the outer cells lies what is there.
    pub(super) fn new(length: usize, gain: f64, padding: f64, num_cells: usize) -> Self {
        let last = (num_cells - 1) as f64;
        let places = (0..length).map(|i| (((i as f64 + 0.5) * gain + padding) / STRIDE - 0.5).clamp(0.0, last));
        let (mut cells, mut parts) = (Vec::with_capacity(length), Vec::with_capacity(length));
        for place in places {
            let cell = place.floor().min(last - 1.0);
            cells.push(cell as u32);
            // Below 1, so that between two cells inside, however different, rounding leaves no pixel outside.
            parts.push(((place - cell) as f32).min(1.0 - f32::EPSILON));
        }
        Self { cells, parts }
    }

    /// Pixels touched from `low` to `high`, and the cells around them; None without a pixel.
    pub(super) fn span(&self, low: f32, high: f32) -> Option<Span> {
        let end = (high.ceil() as usize).min(self.cells.len()); // negative ones become 0
        let pixels = low.floor() as usize..end;
        if pixels.is_empty() {
            return None;
        }
        let cells = self.cell(pixels.start)..self.cell(end - 1) + 2;
        Some(Span { pixels, cells })
    }

    /// The cell before a pixel.
    pub(super) fn cell(&self, pixel: usize) -> usize {
        self.cells[pixel] as usize
    }

    /// The way from the cell before a pixel to the next one.
    pub(super) fn part(&self, pixel: usize) -> f32 {
        self.parts[pixel]
    }

    /// The cells before several pixels.
    pub(super) fn cells(&self, pixels: Range<usize>) -> &[u32] {
        &self.cells[pixels]
    }

    /// The ways from there.
    pub(super) fn parts(&self, pixels: impl SliceIndex<[f32], Output = [f32]>) -> &[f32] {
        &self.parts[pixels]
    }

    /// For each cell of a span, where its pixels begin, and behind the last one where the span ends.
    pub(super) fn starts(&self, span: &Span) -> Vec<usize> {
        let pixels = &self.cells[span.pixels.clone()];
        span.cells.clone().map(|cell| span.pixels.start + pixels.partition_point(|&c| (c as usize) < cell)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_lie_between_the_centres_of_cells() {
        let axis = Axis::new(16, 1.0, 0.0, 4);
        assert_eq!(axis.cells, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
        assert_eq!(axis.parts[..4], [0.0, 0.0, 0.125, 0.375]);
        assert!(axis.parts.iter().all(|part| (0.0..1.0).contains(part)));
    }

    #[test]
    fn spans_are_cut_to_the_mask() {
        let axis = Axis::new(16, 1.0, 0.0, 4);
        assert_eq!(axis.span(-3.5, 2.1), Some(Span { pixels: 0..3, cells: 0..2 }));
        assert_eq!(axis.span(9.9, f32::INFINITY), Some(Span { pixels: 9..16, cells: 1..4 }));
        for (low, high) in [(-5.0, -1.0), (16.0, 20.0), (4.0, 4.0), (5.0, 3.0), (f32::NAN, f32::NAN)] {
            assert_eq!(axis.span(low, high), None, "{low} {high}");
        }
        assert_eq!(axis.starts(&axis.span(3.0, 12.0).unwrap()), [3, 6, 10, 12]);
    }
}
