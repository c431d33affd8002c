//! A mask as pixels, row by row.

use std::ops::Range;

use crate::simd::{Kernel, Vector};

use super::axis::{Axis, Span};
use super::cells::Cells;

/// Writes the pixels of a box into a mask.
pub(super) struct Fill<'a> {
    pub cells: &'a Cells,
    /// Of the box along x, y.
    pub spans: &'a (Span, Span),
    /// Of the mask along x, y.
    pub axes: &'a (Axis, Axis),
    pub mask: &'a mut [u8],
    /// Of the mask.
    pub width: usize,
}

impl Kernel for Fill<'_> {
    type Scalar = f32;
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        let (Range { start: left, end: right }, rows) = (self.spans.0.pixels.clone(), self.spans.1.pixels.clone());
        let room = (right - left).next_multiple_of(V::W);
        let (mut above, mut below) = (vec![0.0; room], vec![0.0; room]);
        let mut at = None;
        for y in rows {
            let cell = self.axes.1.cell(y) - self.spans.1.cells.start;
            if at != Some(cell) {
                if cell > 0 && at == Some(cell - 1) {
                    std::mem::swap(&mut above, &mut below);
                } else {
                    self.along_x::<V>(cell, &mut above);
                }
                self.along_x::<V>(cell + 1, &mut below);
                at = Some(cell);
            }
            let part = V::splat(self.axes.1.part(y));
            let pixels = &mut self.mask[y * self.width..][left..right];
            let lines = above.chunks_exact(V::W).zip(below.chunks_exact(V::W));
            for (pixels, (above, below)) in pixels.chunks_mut(V::W).zip(lines) {
                let above = V::load(above);
                let logits = part.fma(V::load(below).sub(above), above);
                write_bits(V::zero().less(logits), pixels);
            }
        }
    }
}

impl Fill<'_> {
    /// Logits of a row of cells at the columns of the box.
    #[inline(always)]
    fn along_x<V: Vector<Scalar = f32>>(&self, row: usize, line: &mut [f32]) {
        let (cells, span) = (self.cells.row(row), &self.spans.0);
        let (mut before, mut after) = ([0.0; 16], [0.0; 16]);
        for (block, line) in line.chunks_exact_mut(V::W).enumerate() {
            let first = span.pixels.start + block * V::W;
            let places = self.axes.0.cells(first..(first + V::W).min(span.pixels.end));
            for ((before, after), &cell) in before.iter_mut().zip(&mut after).zip(places) {
                let cell = cell as usize - span.cells.start;
                (*before, *after) = (cells[cell], cells[cell + 1]);
            }
            let before = V::load(&before);
            V::load(self.axes.0.parts(first..)).fma(V::load(&after).sub(before), before).store(line);
        }
    }
}

/// One byte, 0 or 1, for each bit, the lowest first.
#[inline(always)]
fn write_bits(bits: u32, bytes: &mut [u8]) {
    let (eights, rest) = bytes.as_chunks_mut::<8>();
    let done = 8 * eights.len();
    for (i, eight) in eights.iter_mut().enumerate() {
        // eight copies, of each another bit; what is not 0 reaches the highest bit and moves down to the lowest
        let copies = u64::from(bits >> (8 * i) & 255) * 0x0101_0101_0101_0101;
        let spread = copies & 0x8040_2010_0804_0201;
        *eight = ((spread + 0x7F7F_7F7F_7F7F_7F7F) >> 7 & 0x0101_0101_0101_0101).to_le_bytes();
    }
    for (i, byte) in rest.iter_mut().enumerate() {
        *byte = (bits >> (done + i) & 1) as u8;
    }
}
