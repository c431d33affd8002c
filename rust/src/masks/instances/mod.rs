//! Masks of found objects: coefficients times prototypes under the box, interpolated; above zero is inside.
//!
//! The plain definition is `ops/instances_ref.py`. Between cells of prototypes, logits are interpolated along x, then
//! along y, with the same rounding by [`fill`] and [`trace`], so that both find the same pixels.

mod axis;
mod cells;
mod fill;
mod trace;

use crate::cpu::{self, Level};
use crate::error::{Error, Result, expect_len};
use crate::masks::Rle;
use crate::masks::rle::check_size;
use crate::simd::dispatch;
use crate::threads::for_each;

use axis::{Axis, Span};
use cells::Multiply;
use fill::Fill;
use trace::Trace;

/// Pixels of the network's input per cell of the prototypes.
const STRIDE: f64 = 4.0;

/// Objects of one image, and where its pixels lie among the prototypes.
#[derive(Clone, Copy, Debug)]
pub struct Instances<'a> {
    /// Coefficients (n, C).
    pub coefs: &'a [f32],
    /// Prototypes (C, Hp, Wp).
    pub protos: &'a [f32],
    /// C, Hp, Wp.
    pub shape: (usize, usize, usize),
    /// Boxes x1 y1 x2 y2 in pixels of the masks.
    pub boxes: &'a [[f32; 4]],
    /// Height and width of the masks.
    pub size: (usize, usize),
    /// Pixels of the network's input per pixel of the masks.
    pub gain: f64,
    /// Where the masks begin in the network's input: x, y.
    pub padding: (f64, f64),
}

/// One object: its box in whole pixels and its coefficients.
struct Object<'a> {
    /// Along x, y.
    spans: (Span, Span),
    coefs: &'a [f32],
}

impl Instances<'_> {
    /// Fills masks (n, H, W), which are zero, with 1 inside.
    ///
    /// # Errors
    /// [`Error::Argument`] for lengths that do not fit the shapes, and masks above the limit of pixels.
    pub fn fill(&self, masks: &mut [u8], threads: usize) -> Result<()> {
        let (height, width) = self.size;
        let (level, axes) = self.prepare()?;
        expect_len("masks", masks.len(), self.boxes.len() * height * width)?;
        if masks.is_empty() {
            return Ok(());
        }
        let objects = self.objects(&axes).zip(masks.chunks_mut(height * width));
        for_each(threads, objects, |(object, mask)| {
            if let Some(object) = object {
                let cells = dispatch(level, Multiply { of: self, object: &object });
                dispatch(level, Fill { cells: &cells, spans: &object.spans, axes: &axes, mask, width });
            }
        })
    }

    /// Run lengths of the masks, without the masks.
    ///
    /// # Errors
    /// As [`Instances::fill`].
    pub fn trace(&self, threads: usize) -> Result<Vec<Rle>> {
        let (height, width) = self.size;
        let (level, axes) = self.prepare()?;
        let mut found: Vec<Result<Rle>> = self.boxes.iter().map(|_| Rle::new(0, 0, Vec::new())).collect();
        for_each(threads, self.objects(&axes).zip(&mut found), |(object, found)| {
            let flips = object.map_or_else(Vec::new, |object| {
                let cells = dispatch(level, Multiply { of: self, object: &object }).turned();
                dispatch(level, Trace { cells: &cells, spans: &object.spans, axes: &axes, height })
            });
            *found = Rle::of_flips(height, width, &flips);
        })?;
        found.into_iter().collect()
    }

    /// The level of the kernels, and the axes x, y of the masks, once everything is checked.
    fn prepare(&self) -> Result<(Level, (Axis, Axis))> {
        let ((channels, high, wide), (height, width)) = (self.shape, self.size);
        check_size(height, width)?;
        if high < 2 || wide < 2 || !(self.gain > 0.0 && self.gain.is_finite()) {
            let message =
                format!("expected 2 x 2 cells or more and a gain above 0, got {high} x {wide}, {}", self.gain);
            return Err(Error::Argument(message));
        }
        expect_len("protos", self.protos.len(), channels * high * wide)?;
        expect_len("coefs", self.coefs.len(), self.boxes.len() * channels)?;
        let axes =
            (Axis::new(width, self.gain, self.padding.0, wide), Axis::new(height, self.gain, self.padding.1, high));
        Ok((cpu::level()?, axes))
    }

    /// Every object in order; None without a pixel.
    fn objects<'o>(&'o self, axes: &'o (Axis, Axis)) -> impl ExactSizeIterator<Item = Option<Object<'o>>> {
        let channels = self.shape.0;
        self.boxes.iter().enumerate().map(move |(i, &[x1, y1, x2, y2])| {
            let spans = (axes.0.span(x1, x2)?, axes.1.span(y1, y2)?);
            Some(Object { spans, coefs: &self.coefs[i * channels..(i + 1) * channels] })
        })
    }
}
