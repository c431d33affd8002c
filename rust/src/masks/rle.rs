//! Run lengths of a mask, column by column, alternating between outside and inside.

use std::ops::Range;

use crate::error::{Error, Result, expect_len};
use crate::image::MAX_PIXELS;

/// A mask as run lengths; they always fill the picture exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rle {
    height: u32,
    width: u32,
    counts: Vec<u32>,
}

impl Rle {
    /// Checked run lengths.
    ///
    /// # Errors
    /// [`Error::Argument`] for a picture above the limit of pixels, and runs that do not fill it.
    pub fn new(height: usize, width: usize, counts: Vec<u32>) -> Result<Self> {
        check_size(height, width)?;
        let sum = counts.iter().map(|&c| u64::from(c)).sum::<u64>();
        if sum != (height * width) as u64 {
            let message =
                format!("the runs of an RLE must sum to {height} x {width}, got {sum}; wrong size or damaged");
            return Err(Error::Argument(message));
        }
        Ok(Self { height: height as u32, width: width as u32, counts })
    }

    /// Runs of a mask that lies in memory column by column; anything but 0 is inside.
    ///
    /// # Errors
    /// [`Error::Argument`] for a size that does not fit.
    pub fn of_mask(height: usize, width: usize, columns: &[u8]) -> Result<Self> {
        check_size(height, width)?;
        if columns.len() != height * width {
            return Err(Error::Argument(format!("a {height} x {width} mask cannot have {} pixels", columns.len())));
        }
        let mut counts = Vec::new();
        let (mut rest, mut inside) = (columns, false);
        loop {
            let run = rest.iter().position(|&v| (v != 0) != inside).unwrap_or(rest.len());
            counts.push(run as u32);
            rest = &rest[run..];
            inside = !inside;
            if rest.is_empty() {
                return Self::new(height, width, counts);
            }
        }
    }

    /// Runs between the rising column-by-column indices where a mask changes; the first pixel is outside unless it is one.
    ///
    /// # Errors
    /// As [`Rle::new`].
    pub fn of_flips(height: usize, width: usize, flips: &[u32]) -> Result<Self> {
        check_size(height, width)?;
        let pixels = (height * width) as u32;
        let ends = flips.iter().copied().filter(|&flip| flip < pixels).chain([pixels]);
        let counts = ends.scan(0, |before, end| Some(end - std::mem::replace(before, end)));
        Self::new(height, width, counts.collect())
    }

    /// Rows of the picture.
    pub fn height(&self) -> usize {
        self.height as usize
    }

    /// Columns of the picture.
    pub fn width(&self) -> usize {
        self.width as usize
    }

    /// The runs.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Pixels inside.
    pub fn area(&self) -> u64 {
        self.inside().map(|run| run.len() as u64).sum()
    }

    /// The pixels inside, as ranges of column-by-column indices.
    pub fn inside(&self) -> impl Iterator<Item = Range<usize>> {
        let mut at = 0;
        let ranges = self.counts.iter().map(move |&count| {
            at += count as usize;
            at - count as usize..at
        });
        ranges.skip(1).step_by(2)
    }

    /// The pixels inside, as columns and ranges of rows.
    pub fn columns(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let height = self.height();
        self.inside().filter(|run| !run.is_empty()).flat_map(move |run| {
            (run.start / height..=(run.end - 1) / height).map(move |x| {
                let first = x * height;
                (x, run.start.max(first) - first..run.end.min(first + height) - first)
            })
        })
    }

    /// Left, top, right and bottom of the pixels inside; None without any.
    pub fn bounds(&self) -> Option<[usize; 4]> {
        self.columns().fold(None, |bounds, (x, rows)| {
            let [left, top, right, bottom] = bounds.unwrap_or([x, rows.start, x + 1, rows.end]);
            Some([left.min(x), top.min(rows.start), right.max(x + 1), bottom.max(rows.end)])
        })
    }

    /// Write 1 inside and 0 outside, column by column.
    ///
    /// # Errors
    /// [`Error::Argument`] when `columns` has another size.
    pub fn write(&self, columns: &mut [u8]) -> Result<()> {
        expect_len("columns", columns.len(), self.height() * self.width())?;
        columns.fill(0);
        self.inside().for_each(|run| columns[run].fill(1));
        Ok(())
    }

    /// The same of the part within `bounds`, which has all pixels inside.
    ///
    /// # Errors
    /// [`Error::Argument`] when `columns` has another size than the part, or pixels are not within.
    pub fn write_part(&self, [left, top, right, bottom]: [usize; 4], columns: &mut [u8]) -> Result<()> {
        let height = bottom.saturating_sub(top);
        expect_len("columns", columns.len(), right.saturating_sub(left) * height)?;
        columns.fill(0);
        for (x, rows) in self.columns() {
            if x < left || x >= right || rows.start < top || rows.end > bottom {
                return Err(Error::Argument(format!("column {x} of a mask is not within {left}..{right}")));
            }
            columns[(x - left) * height..][rows.start - top..rows.end - top].fill(1);
        }
        Ok(())
    }

    /// What is inside any of the masks, or all of them.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is none, or sizes differ.
    pub fn merge(masks: &[Self], intersect: bool) -> Result<Self> {
        let (first, rest) = masks.split_first().ok_or_else(|| Error::Argument("no RLE to merge".to_owned()))?;
        rest.iter().try_fold(first.clone(), |merged, mask| merged.with(mask, intersect))
    }

    /// Union or intersection of two masks.
    fn with(&self, other: &Self, intersect: bool) -> Result<Self> {
        if (self.height, self.width) != (other.height, other.width) {
            let message = format!(
                "masks to merge must have one size, got {} x {} and {} x {}",
                self.height, self.width, other.height, other.width
            );
            return Err(Error::Argument(message));
        }
        let mut sides = [Side::new(&self.counts), Side::new(&other.counts)];
        let (mut counts, mut run, mut inside) = (Vec::new(), 0, false);
        loop {
            let step = sides[0].left.min(sides[1].left);
            run += step;
            sides.iter_mut().for_each(|side| side.advance(step));
            let before = inside;
            inside = if intersect { sides.iter().all(|s| s.inside) } else { sides.iter().any(|s| s.inside) };
            let ended = sides.iter().all(|side| side.left == 0);
            if inside != before || ended {
                counts.push(std::mem::take(&mut run));
            }
            if ended {
                return Ok(Self { counts, ..*self });
            }
        }
    }
}

/// One of two masks that are walked together.
struct Side<'a> {
    counts: std::slice::Iter<'a, u32>,
    left: u32,
    inside: bool,
}

impl<'a> Side<'a> {
    fn new(counts: &'a [u32]) -> Self {
        let mut counts = counts.iter();
        Self { left: counts.next().copied().unwrap_or(0), counts, inside: false }
    }

    /// Go on; at the end of a run to the next one that is not empty.
    fn advance(&mut self, step: u32) {
        self.left -= step;
        while self.left == 0
            && let Some(&count) = self.counts.next()
        {
            (self.left, self.inside) = (count, !self.inside);
        }
    }
}

/// Refuse pictures above the limit of the decoders, before anything is allocated.
pub(super) fn check_size(height: usize, width: usize) -> Result<()> {
    if (height as u64).saturating_mul(width as u64) > MAX_PIXELS || height.max(width) > u32::MAX as usize {
        let message = format!("a {height} x {width} mask is more than the limit of {MAX_PIXELS} pixels");
        return Err(Error::Argument(message));
    }
    Ok(())
}
