//! Three rows of a map, one channel group of them packed into vectors, under a 3x3 filter that walks along.

use crate::simd::Vector;

use super::map::{Group, Map, Shape};

/// Taps of a filter.
pub(super) const TAPS: usize = 9;

/// The row above, the row itself and the row below, each with a zero at both ends; zeros outside the image.
pub(super) struct Window<V> {
    rows: [Vec<V>; 3],
}

impl<V: Vector> Window<V> {
    #[inline(always)]
    pub(super) fn new(width: usize) -> Self {
        let row = vec![V::zero(); width + 2];
        Self { rows: [row.clone(), row.clone(), row] }
    }

    /// Goes to `row`, counted over all images; from the row before it unless `fresh`.
    #[inline(always)]
    pub(super) fn move_to(
        &mut self,
        row: usize,
        fresh: bool,
        map: &Map<'_, V::Scalar>,
        shape: &Shape,
        group: Group<false>,
    ) {
        let within = row % shape.height;
        if fresh || within == 0 {
            self.fill(0, (within > 0).then(|| map.from((row - 1) * shape.width)), group);
            self.fill(1, Some(map.from(row * shape.width)), group);
        } else {
            self.rows.rotate_left(1);
        }
        self.fill(2, (within + 1 < shape.height).then(|| map.from((row + 1) * shape.width)), group);
    }

    #[inline(always)]
    fn fill(&mut self, slot: usize, map: Option<Map<'_, V::Scalar>>, group: Group<false>) {
        let width = self.rows[slot].len() - 2;
        let row = &mut self.rows[slot][1..=width];
        let Some(map) = map else {
            row.fill(V::zero());
            return;
        };
        for (column, v) in row.iter_mut().enumerate() {
            *v = group.load(map.values, column * map.stride); // a loop: a closure here is not inlined
        }
    }

    /// Calls `each` for every column with the values around it, by side and row.
    #[inline(always)]
    pub(super) fn walk(&self, mut each: impl FnMut(usize, &[[V; 3]; 3])) {
        let len = self.rows[0].len();
        let (above, at, below) = (&self.rows[0][..len], &self.rows[1][..len], &self.rows[2][..len]);
        let mut window = [[V::zero(); 3], [V::zero(); 3], [above[1], at[1], below[1]]];
        for column in 0..len - 2 {
            let next = column + 2;
            window = [window[1], window[2], [above[next], at[next], below[next]]];
            each(column, &window);
        }
    }
}

/// The taps (9, D) of a group of channels.
#[inline(always)]
pub(super) fn filter<V: Vector>(taps: &[V::Scalar], channels: usize, group: Group<false>) -> [V; TAPS] {
    let mut filter = [V::zero(); TAPS];
    for tap in 0..TAPS {
        filter[tap] = group.load(taps, tap * channels);
    }
    filter
}

/// The filter at one place, added to `start`.
#[inline(always)]
pub(super) fn apply<V: Vector>(filter: &[V; TAPS], window: &[[V; 3]; 3], start: V) -> V {
    let mut sums = [start, V::zero(), V::zero()]; // three chains
    for side in 0..3 {
        for row in 0..3 {
            sums[side] = window[side][row].fma(filter[3 * row + side], sums[side]);
        }
    }
    sums[0].add(sums[1].add(sums[2]))
}
