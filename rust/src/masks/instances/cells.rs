//! Logits of the cells under a box.

use crate::simd::{Kernel, Vector};

use super::{Instances, Object};

/// Further outside than any logit; also what is not a number.
pub(super) const OUTSIDE: f32 = -1e30;

/// Prototypes that are read at once: their rows lie in the same few lines of the first cache.
const PLANES: usize = 8;

/// Logits row by row.
#[derive(Debug)]
pub(super) struct Cells {
    pub values: Vec<f32>,
    /// Values from row to row; those behind the columns mean nothing.
    pub stride: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Cells {
    /// Columns as rows, with one cell outside before each and one or more behind it.
    pub(super) fn turned(&self) -> Self {
        let stride = (self.rows + 2).next_multiple_of(16);
        let mut values = vec![OUTSIDE; self.columns * stride];
        for (row, cells) in self.values.chunks_exact(self.stride).enumerate() {
            for (column, &cell) in values.chunks_exact_mut(stride).zip(cells) {
                column[1 + row] = cell;
            }
        }
        Self { values, stride, rows: self.columns, columns: self.rows }
    }

    /// A row, up to the stride.
    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.stride..(row + 1) * self.stride]
    }
}

/// Multiplies coefficients and prototypes.
pub(super) struct Multiply<'a> {
    pub of: &'a Instances<'a>,
    pub object: &'a Object<'a>,
}

impl Kernel for Multiply<'_> {
    type Scalar = f32;
    type Output = Cells;

    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) -> Cells {
        let Self { of: Instances { protos, shape: (_, high, wide), .. }, object: Object { coefs, spans } } = self;
        let (columns, rows) = (spans.0.cells.len(), spans.1.cells.len());
        let stride = columns.next_multiple_of(V::W);
        let mut values = vec![0.0; rows * stride];
        let planes: Vec<&[f32]> = protos.chunks_exact(high * wide).collect();
        for (planes, coefs) in planes.chunks(PLANES).zip(coefs.chunks(PLANES)) {
            for (row, values) in spans.1.cells.clone().zip(values.chunks_exact_mut(stride)) {
                let first = row * wide + spans.0.cells.start;
                for (block, values) in values.chunks_exact_mut(V::W).enumerate() {
                    let mut sum = V::load(values);
                    for (plane, &coef) in planes.iter().zip(coefs) {
                        sum = V::splat(coef).fma(V::load(plane.get(first + block * V::W..).unwrap_or_default()), sum);
                    }
                    sum.store(values);
                }
            }
        }
        let (low, high) = (V::splat(OUTSIDE), V::splat(-OUTSIDE));
        for values in values.chunks_exact_mut(V::W) {
            high.min(V::load(values).max(low)).store(values); // NaN: the second operand
        }
        Cells { values, stride, rows, columns }
    }
}
