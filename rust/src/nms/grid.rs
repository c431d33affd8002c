//! Greedy suppression of many boxes: each kept box strikes out what it overlaps, looking only near its centre.
//!
//! Boxes lie in memory by the cell of their centre, row by row, so that the part of a row of cells that a kept box can
//! reach is one run of memory. IoU > t bounds the reach: the smaller width is above t times the larger one, so the
//! centres are nearer than (1 - t) w for t >= 1/2 and (1/t - 1) w / 2 below; the same holds for heights.

use super::overlap::{Corners, LANES, Rule};
use crate::simd::{Kernel, Vector};

/// Boxes with smaller areas lose relative precision in f32, which the reach relies on.
const LEAST_AREA: f32 = 1e-30;

/// Candidates of one group in order of rank; returns which are kept.
pub(super) struct GridGreedy<'a> {
    pub(super) boxes: &'a [[f32; 4]],
    pub(super) rule: Rule,
}

impl GridGreedy<'_> {
    /// Whether the reach holds for these boxes, and is finite.
    pub(super) fn fits(boxes: &[[f32; 4]], rule: &Rule) -> bool {
        rule.threshold > 0.01 && boxes.iter().all(|&b| !is_active(b) || Corners::new(b).area >= LEAST_AREA)
    }
}

impl Kernel for GridGreedy<'_> {
    type Scalar = f32;
    type Output = Vec<bool>;

    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) -> Vec<bool> {
        let grid = Grid::over(self.boxes, reach(self.rule.threshold));
        let cells = Cells::of(&grid, self.boxes);
        let mut struck = vec![0.0f32; cells.columns.x1.len()];
        let (one, threshold) = (V::splat(1.0), V::splat(self.rule.threshold));
        let mut kept = vec![true; self.boxes.len()];
        for (rank, &b) in self.boxes.iter().enumerate() {
            let place = cells.place[rank];
            if place == NOWHERE {
                continue;
            }
            if struck[place as usize] != 0.0 {
                kept[rank] = false;
                continue;
            }
            let corners = Corners::new(b).splat::<V>();
            let [columns, rows] = grid.near(b);
            for row in rows.0..=rows.1 {
                for at in cells.run(&grid, row, columns).step_by(LANES) {
                    // What lies beyond the run may be struck too: only what overlaps is, and earlier ranks are decided.
                    if let Some(overlap) = self.rule.overlap(&corners, &cells.load::<V>(at)) {
                        let before = V::from_lanes(&struck[at..]);
                        overlap.select_greater(threshold, one, before).write_lanes(&mut struck[at..]);
                    }
                }
            }
        }
        kept
    }
}

/// A box that may overlap another by more than nothing: positive sides, finite area.
fn is_active([x1, y1, x2, y2]: [f32; 4]) -> bool {
    let area = (x2 - x1) * (y2 - y1);
    x2 > x1 && y2 > y1 && area > 0.0 && area.is_finite()
}

/// Largest distance of centres over the side of a box, widened for rounding.
fn reach(threshold: f32) -> f64 {
    let t = f64::from(threshold) * (1.0 - 1e-5);
    (if t >= 0.5 { 1.0 - t } else { (1.0 / t - 1.0) / 2.0 }) + 1e-5
}

/// Where a box has no cell: it overlaps nothing.
const NOWHERE: u32 = u32::MAX;

/// Cells over the centres of the active boxes.
struct Grid {
    /// Per axis, x then y: start, cells per unit, number of cells.
    axes: [(f64, f64, usize); 2],
    reach: f64,
}

impl Grid {
    fn over(boxes: &[[f32; 4]], reach: f64) -> Self {
        let (mut low, mut high, mut sides, mut count) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2], [0.0; 2], 0.0f64);
        for &b in boxes.iter().filter(|b| is_active(**b)) {
            for axis in 0..2 {
                let (centre, side) = span(b, axis);
                low[axis] = low[axis].min(centre);
                high[axis] = high[axis].max(centre);
                sides[axis] += side;
            }
            count += 1.0;
        }
        // Rows about as high as a mean reach; columns so that there is about one cell per box.
        let cells = |axis: usize, wanted: f64| {
            let extent = high[axis] - low[axis];
            let number = if extent > 0.0 { wanted.clamp(1.0, 4096.0).floor() } else { 1.0 };
            let start = if count > 0.0 { low[axis] } else { 0.0 };
            (start, if extent > 0.0 { number / extent } else { 0.0 }, number as usize)
        };
        let rows = (high[1] - low[1]) / (2.0 * reach * sides[1] / count);
        let y = cells(1, rows.min(count.sqrt()));
        let x = cells(0, count / y.2 as f64);
        Self { axes: [x, y], reach }
    }

    /// Cell of a coordinate; rises with it.
    #[inline(always)]
    fn cell(&self, axis: usize, at: f64) -> usize {
        let (start, per_unit, number) = self.axes[axis];
        (((at - start) * per_unit) as usize).min(number - 1) // negative counts as 0
    }

    /// First and last column and row of cells that the centre of an overlapping box may be in.
    #[inline(always)]
    fn near(&self, b: [f32; 4]) -> [(usize, usize); 2] {
        [0, 1].map(|axis| {
            let (centre, side) = span(b, axis);
            (self.cell(axis, centre - self.reach * side), self.cell(axis, centre + self.reach * side))
        })
    }
}

/// Centre and side along an axis.
#[inline(always)]
fn span(b: [f32; 4], axis: usize) -> (f64, f64) {
    let (low, high) = (f64::from(b[axis]), f64::from(b[axis + 2]));
    (f64::midpoint(low, high), high - low)
}

/// Boxes sorted by cell.
struct Cells {
    columns: Corners<Vec<f32>>,
    /// First box of each cell, and the end.
    starts: Vec<u32>,
    /// Where each box went, or [`NOWHERE`].
    place: Vec<u32>,
}

impl Cells {
    fn of(grid: &Grid, boxes: &[[f32; 4]]) -> Self {
        let num_columns = grid.axes[0].2;
        let cell = |b: [f32; 4]| grid.cell(1, span(b, 1).0) * num_columns + grid.cell(0, span(b, 0).0);
        let mut place: Vec<u32> = boxes.iter().map(|&b| if is_active(b) { cell(b) as u32 } else { NOWHERE }).collect();
        let mut starts = vec![0u32; num_columns * grid.axes[1].2 + 1];
        place.iter().filter(|&&p| p != NOWHERE).for_each(|&p| starts[p as usize] += 1);
        let mut sum = 0;
        for start in &mut starts {
            sum += std::mem::replace(start, sum);
        }
        let mut next = starts.clone();
        let empty = || vec![0.0f32; boxes.len() + LANES]; // room for a vector at the last box
        let mut columns = Corners { x1: empty(), y1: empty(), x2: empty(), y2: empty(), area: empty() };
        for (place, &b) in place.iter_mut().zip(boxes).filter(|(place, _)| **place != NOWHERE) {
            let slot = &mut next[*place as usize];
            *place = *slot;
            *slot += 1;
            let (at, one) = (*place as usize, Corners::new(b));
            columns.x1[at] = one.x1;
            columns.y1[at] = one.y1;
            columns.x2[at] = one.x2;
            columns.y2[at] = one.y2;
            columns.area[at] = one.area;
        }
        Self { columns, starts, place }
    }

    /// Boxes of some columns of a row.
    #[inline(always)]
    fn run(&self, grid: &Grid, row: usize, (first, last): (usize, usize)) -> std::ops::Range<usize> {
        let row = row * grid.axes[0].2;
        self.starts[row + first] as usize..self.starts[row + last + 1] as usize
    }

    /// Sixteen boxes from `at`.
    #[inline(always)]
    fn load<V: Vector<Scalar = f32>>(&self, at: usize) -> Corners<V> {
        let Corners { x1, y1, x2, y2, area } = &self.columns;
        Corners {
            x1: V::from_lanes(&x1[at..]),
            y1: V::from_lanes(&y1[at..]),
            x2: V::from_lanes(&x2[at..]),
            y2: V::from_lanes(&y2[at..]),
            area: V::from_lanes(&area[at..]),
        }
    }
}
