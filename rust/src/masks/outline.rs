//! The outline of a mask as a polygon along the edges of pixels.

use super::Rle;

/// One step along the edge of a pixel that is inside and lies on the right: dx, dy.
type Step = (isize, isize);

impl Rle {
    /// Corners x, y of the outer outline of the part that encloses most pixels, clockwise on the screen.
    ///
    /// Parts that touch only at a corner are apart; empty for an empty mask.
    pub fn outline(&self) -> Vec<[u32; 2]> {
        let Some([left, top, right, bottom]) = self.bounds() else { return Vec::new() };
        let mut field = Field::new(self, [left, top, right, bottom]);
        let mut largest = (0, Vec::new());
        for (x, rows) in self.columns() {
            let start = (x - left + 1, rows.start - top + 1);
            let pixel = start.0 * field.height + start.1;
            if field.walked[pixel] || field.inside[pixel - 1] {
                continue; // the pixel above is inside where a run of nothing lies between two
            }
            let (area, corners) = field.walk(start);
            if area > largest.0 {
                largest = (area, corners);
            }
        }
        let moved = |&[x, y]: &[usize; 2]| [(x + left - 1) as u32, (y + top - 1) as u32];
        largest.1.iter().map(moved).collect()
    }
}

/// Pixels column by column with one outside on every side.
struct Field {
    inside: Vec<bool>,
    /// Whether the upper edge of a pixel is part of an outline already.
    walked: Vec<bool>,
    height: usize,
}

impl Field {
    fn new(rle: &Rle, [left, top, right, bottom]: [usize; 4]) -> Self {
        let height = bottom - top + 2;
        let mut inside = vec![false; (right - left + 2) * height];
        for (x, rows) in rle.columns() {
            let first = (x - left + 1) * height + 1 - top;
            inside[first + rows.start..first + rows.end].fill(true);
        }
        Self { walked: vec![false; inside.len()], inside, height }
    }

    /// Twice the area, negative around a hole, and the corners of the outline that has this pixel's upper edge.
    fn walk(&mut self, start: (usize, usize)) -> (i64, Vec<[usize; 2]>) {
        let (mut x, mut y) = start;
        let (mut step, mut area, mut corners): (Step, i64, Vec<[usize; 2]>) = ((1, 0), 0, Vec::new());
        loop {
            if step == (1, 0) {
                self.walked[x * self.height + y] = true;
            }
            area += x as i64 * step.1 as i64 - y as i64 * step.0 as i64;
            (x, y) = (x.wrapping_add_signed(step.0), y.wrapping_add_signed(step.1));
            let (right, left) = ((-step.1, step.0), (step.1, -step.0));
            let next = if !self.ahead(x, y, step, right) {
                right
            } else if self.ahead(x, y, step, left) {
                left
            } else {
                step
            };
            if next != step {
                corners.push([x, y]);
            }
            step = next;
            if (x, y) == start && step == (1, 0) {
                corners.rotate_right(1); // it begins where the walk began
                return (area, corners);
            }
        }
    }

    /// Whether the pixel ahead of a corner, on one side, is inside.
    fn ahead(&self, x: usize, y: usize, step: Step, side: Step) -> bool {
        let pixel = |at: usize, a: isize, b: isize| if a + b < 0 { at - 1 } else { at };
        self.inside[pixel(x, step.0, side.0) * self.height + pixel(y, step.1, side.1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(rows: &[&str]) -> Vec<[u32; 2]> {
        let (height, width) = (rows.len(), rows[0].len());
        let pixel = |i: usize| u8::from(rows[i % height].as_bytes()[i / height] == b'#');
        Rle::of_mask(height, width, &(0..height * width).map(pixel).collect::<Vec<_>>()).unwrap().outline()
    }

    #[test]
    fn corners_are_clockwise_from_the_top_of_the_first_column() {
        assert_eq!(outline(&["...", ".#.", "..."]), [[1, 1], [2, 1], [2, 2], [1, 2]]);
        assert_eq!(outline(&["##", "##", "#."]), [[0, 0], [2, 0], [2, 2], [1, 2], [1, 3], [0, 3]]);
        assert!(outline(&["..", ".."]).is_empty());
    }

    #[test]
    fn the_largest_part_without_its_holes() {
        let square = [[2, 0], [5, 0], [5, 3], [2, 3]];
        assert_eq!(outline(&["..###", "#.#.#", "..###"]), square);
        assert_eq!(outline(&["..###", "..###", "..###", "##...", "##..."]), square);
    }
}
