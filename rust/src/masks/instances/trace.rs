//! A mask as the places where it changes, column by column.
//!
//! Along a column, logits are linear from cell to cell: they pass zero once where the cells lie on both sides of it, and
//! nowhere else.

use crate::simd::{Kernel, Vector};

use super::axis::{Axis, Span};
use super::cells::Cells;

/// Finds the column-by-column indices of pixels where the mask changes between outside and inside.
pub(super) struct Trace<'a> {
    /// Turned.
    pub cells: &'a Cells,
    /// Of the box along x, y.
    pub spans: &'a (Span, Span),
    /// Of the mask along x, y.
    pub axes: &'a (Axis, Axis),
    /// Of the mask.
    pub height: usize,
}

impl Kernel for Trace<'_> {
    type Scalar = f32;
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) -> Vec<u32> {
        let starts = self.starts();
        let mut line = vec![0.0; self.cells.stride];
        let mut flips = Vec::new();
        for x in self.spans.0.pixels.clone() {
            let column = self.axes.0.cell(x) - self.spans.0.cells.start;
            let part = V::splat(self.axes.0.part(x));
            let sides = self.cells.row(column).chunks_exact(V::W).zip(self.cells.row(column + 1).chunks_exact(V::W));
            let mut before = 0;
            for (block, (left, right)) in sides.enumerate() {
                let left = V::load(left);
                let logits = part.fma(V::load(right).sub(left), left);
                logits.store(&mut line[block * V::W..][..V::W]);
                let inside = V::zero().less(logits);
                let mut changes = (inside ^ (inside << 1 | before)) & u32::MAX >> (32 - V::W);
                before = inside >> (V::W - 1);
                while changes != 0 {
                    let cell = block * V::W + changes.trailing_zeros() as usize;
                    changes &= changes - 1;
                    let y = self.crossing::<V>([line[cell - 1], line[cell]], starts[cell - 1], starts[cell]);
                    flip(&mut flips, (x * self.height + y) as u32);
                }
            }
        }
        flips
    }
}

impl Trace<'_> {
    /// Where the pixels of each cell of a turned row begin; those outside have none.
    fn starts(&self) -> Vec<usize> {
        let (span, axis) = (&self.spans.1, &self.axes.1);
        let mut starts = vec![span.pixels.start];
        starts.extend(axis.starts(span));
        starts.resize(self.cells.stride + 1, span.pixels.end);
        starts
    }

    /// The first pixel from `start` to `end` on the other side of zero.
    #[inline(always)]
    fn crossing<V: Vector<Scalar = f32>>(&self, [above, below]: [f32; 2], start: usize, end: usize) -> usize {
        let (above, difference) = (V::splat(above), V::splat(below).sub(V::splat(above)));
        let is_inside = |part: f32| V::zero().less(V::splat(part).fma(difference, above)) != 0;
        let begins_inside = V::zero().less(above) != 0;
        start + self.axes.1.parts(start..end).partition_point(|&part| is_inside(part) == begins_inside)
    }
}

/// Changes in one place cancel.
fn flip(flips: &mut Vec<u32>, place: u32) {
    if flips.pop_if(|last| *last == place).is_none() {
        flips.push(place);
    }
}
