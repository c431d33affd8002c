//! Run lengths to polygons along pixel edges: one per part, holes cut open.
//!
//! Every edge between a pixel inside and one outside is a step with the inside on its right; parts that touch at a corner
//! stay apart. The loop of a hole is joined to the loop above it by a vertical cut of no width. So each polygon holds its
//! part alone by the even-odd rule, and polygons stay right when they are clipped or moved. The plain definition is
//! `ops/rings_ref.py`.

use std::collections::BTreeMap;

use super::Rle;

/// Moves (x, y): right, down, left, up.
const MOVES: [(isize, isize); 4] = [(1, 0), (0, 1), (-1, 0), (0, -1)];
const RIGHT: usize = 0;
const LEFT: usize = 2;
/// No loop has been here.
const NONE: u32 = u32::MAX;

/// Corners x, y of each part, clockwise on the screen; whole pixels.
pub fn rings_of(mask: &Rle) -> Vec<Vec<[f32; 2]>> {
    let Some(mut tracer) = Tracer::new(mask) else { return vec![] };
    let parts = tracer.trace_all();
    parts.into_iter().map(|part| tracer.ring(part)).collect()
}

/// The pixels around what is inside, with an empty border, and the loops found so far.
struct Tracer {
    width: usize,
    inside: Vec<bool>,
    /// Column and row of the picture at the grid's origin.
    origin: (f32, f32),
    /// Which loop has the top edge of a pixel.
    top: Vec<u32>,
    /// Whether a loop has the bottom edge of a pixel.
    bottom: Vec<bool>,
    /// Corners of each loop, one per step.
    loops: Vec<Vec<(usize, usize)>>,
    /// Holes below the top edge of a pixel.
    holes: BTreeMap<usize, Vec<usize>>,
}

impl Tracer {
    /// None for an empty mask.
    fn new(mask: &Rle) -> Option<Self> {
        let high = mask.height();
        let runs = || mask.inside().filter(|run| !run.is_empty());
        let (first, last) = (runs().next()?.start / high, (runs().last()?.end - 1) / high);
        let ends = |run: &std::ops::Range<usize>| (run.start % high, run.start % high + run.len());
        let lowest = runs().map(|run| ends(&run)).map(|(a, b)| if b > high { 0 } else { a }).min()?;
        let highest = runs().map(|run| ends(&run)).map(|(_, b)| b.min(high)).max()?;
        let (width, height) = (last - first + 3, highest - lowest + 2);
        let mut inside = vec![false; width * height];
        for run in runs() {
            for at in run {
                inside[(at % high - lowest + 1) * width + at / high - first + 1] = true;
            }
        }
        let cells = inside.len();
        let (top, bottom) = (vec![NONE; cells], vec![false; cells]);
        let origin = (first as f32 - 1.0, lowest as f32 - 1.0);
        Some(Self { width, inside, origin, top, bottom, loops: vec![], holes: BTreeMap::new() })
    }

    /// Trace every loop, from the top downwards; the loops around parts.
    fn trace_all(&mut self) -> Vec<usize> {
        let (width, mut parts) = (self.width, vec![]);
        for cell in width..self.inside.len() {
            let (x, y) = (cell % width, cell / width);
            match (self.inside[cell - width], self.inside[cell]) {
                (false, true) if self.top[cell] == NONE => {
                    parts.push(self.loops.len());
                    self.trace((x, y), RIGHT);
                }
                (true, false) if !self.bottom[cell - width] => {
                    // Its highest line, so whatever lies above has been traced.
                    let above = (1..=y).map(|up| cell - up * width).take_while(|&c| self.inside[c]).last();
                    self.holes.entry(above.unwrap_or(cell)).or_default().push(self.loops.len());
                    self.trace((x + 1, y), LEFT);
                }
                _ => {}
            }
        }
        parts
    }

    /// Follow a loop from a corner until it closes.
    fn trace(&mut self, start: (usize, usize), first: usize) {
        let (width, id) = (self.width, self.loops.len() as u32);
        let (mut corners, mut at, mut direction) = (vec![], start, first);
        loop {
            corners.push(at);
            match direction {
                RIGHT => self.top[at.1 * width + at.0] = id,
                LEFT => self.bottom[(at.1 - 1) * width + at.0 - 1] = true,
                _ => {}
            }
            let (dx, dy) = MOVES[direction];
            at = (at.0.wrapping_add_signed(dx), at.1.wrapping_add_signed(dy));
            direction = self.turned(at, direction);
            if at == start && direction == first {
                self.loops.push(corners);
                return;
            }
        }
    }

    /// The direction after a corner.
    fn turned(&self, (x, y): (usize, usize), direction: usize) -> usize {
        let south = y * self.width + x;
        let north = south - self.width;
        // Clockwise from the north-east.
        let around = [north, south, south - 1, north - 1].map(|cell| self.inside[cell]);
        let (ahead_left, ahead_right) = (around[direction], around[(direction + 1) % 4]);
        match (ahead_left, ahead_right) {
            (_, false) => (direction + 1) % 4,
            (false, true) => direction,
            (true, true) => (direction + 3) % 4,
        }
    }

    /// The corners of a part, through all of its holes.
    fn ring(&self, part: usize) -> Vec<[f32; 2]> {
        let mut ring: Vec<(usize, usize)> = vec![];
        let mut path = vec![(part, 0, 0)];
        while let Some((id, step, done)) = path.pop() {
            let corners = &self.loops[id];
            push(&mut ring, corners[step % corners.len()]);
            let below = self.holes_below(id, step);
            if done < below.len() {
                path.extend([(id, step, done + 1), (below[done], 0, 0)]);
            } else if step < corners.len() {
                path.push((id, step + 1, 0));
            }
        }
        ring.pop(); // the first corner again
        ring.into_iter().map(|(x, y)| [x as f32 + self.origin.0, y as f32 + self.origin.1]).collect()
    }

    /// Holes that are entered at the end of the step before this one.
    fn holes_below(&self, id: usize, step: usize) -> &[usize] {
        let corners = &self.loops[id];
        if step == 0 {
            return &[];
        }
        let ((x, y), end) = (corners[step - 1], corners[step % corners.len()]);
        let is_top = end == (x + 1, y);
        if is_top { self.holes.get(&(y * self.width + x)).map_or(&[], Vec::as_slice) } else { &[] }
    }
}

/// Go to a corner; one that lies straight on the way there is left out.
fn push(ring: &mut Vec<(usize, usize)>, to: (usize, usize)) {
    if let [.., a, b] = ring[..] {
        let same_way = |a: usize, b: usize, c: usize| (a <= b && b <= c) || (a >= b && b >= c);
        let straight = (a.0 == b.0 && b.0 == to.0) || (a.1 == b.1 && b.1 == to.1);
        if straight && same_way(a.0, b.0, to.0) && same_way(a.1, b.1, to.1) {
            ring.pop();
        }
    }
    ring.push(to);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Rle, rings_of};
    use crate::masks::rle_from_polygon;

    proptest! {
        #[test]
        fn polygons_give_the_mask_again(
            (height, width, mask) in (1usize..14, 1usize..14).prop_flat_map(|(h, w)| (
                Just(h), Just(w), prop::collection::vec(prop::bool::weighted(0.6).prop_map(u8::from), h * w)
            ))
        ) {
            let rle = Rle::of_mask(height, width, &mask).unwrap();
            let parts: Vec<Rle> = rings_of(&rle)
                .iter()
                .map(|ring| ring.iter().map(|p| p.map(f64::from)).collect::<Vec<_>>())
                .map(|ring| rle_from_polygon(&ring, 1.0, height, width).unwrap())
                .collect();
            prop_assert_eq!(parts.iter().map(Rle::area).sum::<u64>(), rle.area());
            if rle.area() > 0 {
                prop_assert_eq!(Rle::merge(&parts, false).unwrap(), rle);
            }
        }
    }

    #[test]
    fn a_ring_is_one_polygon_and_a_nest_is_two() {
        let picture = ["#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"];
        let columns: Vec<u8> = (0..49).map(|at| u8::from(picture[at % 7].as_bytes()[at / 7] == b'#')).collect();
        let rings = rings_of(&Rle::of_mask(7, 7, &columns).unwrap());
        assert_eq!(rings.len(), 2);
        assert_eq!(rings[0].len(), 4 + 4 + 4, "the cut is walked down and up");
        assert!(rings_of(&Rle::of_mask(2, 2, &[0; 4]).unwrap()).is_empty());
    }
}
