//! Depth-wise 3x3 convolution, bias, GELU and gate in one pass: y = gelu(conv(x) + bias [+ x]) [* gate].

use crate::cpu;
use crate::error::{Result, expect_len};
use crate::simd::{Kernel, Vector, dispatch};
use crate::threads::for_each;

use super::TASK;
use super::gelu::{Normal, gelu_row};
use super::map::{Map, Shape, covering};
use super::window::{TAPS, Window, apply, filter};

/// Inputs.
#[derive(Clone, Copy, Debug)]
pub struct Depthwise<'a, T> {
    /// Sizes of all maps.
    pub shape: Shape,
    /// x (B, H, W, D).
    pub x: Map<'a, T>,
    /// Filters (D, 3, 3).
    pub weight: &'a [T],
    /// bias (D,).
    pub bias: &'a [T],
    /// Factor of the result (B, H, W, D).
    pub gate: Option<Map<'a, T>>,
    /// Add x before the GELU.
    pub residual: bool,
}

impl<T: Normal> Depthwise<'_, T> {
    /// Compares every length with the shape.
    pub(super) fn check(&self) -> Result<()> {
        let Shape { channels, .. } = self.shape;
        self.x.check("x", self.shape.tokens(), channels)?;
        expect_len("weight", self.weight.len(), TAPS * channels)?;
        expect_len("bias", self.bias.len(), channels)?;
        self.gate.map_or(Ok(()), |gate| gate.check("gate", self.shape.tokens(), channels))
    }

    /// Filters (9, D), with the residual as an addition to the tap in the centre.
    pub(super) fn taps(&self) -> Vec<T> {
        let channels = self.shape.channels;
        let mut taps = vec![T::ZERO; TAPS * channels];
        for (d, filter) in self.weight.chunks(TAPS).enumerate() {
            for (tap, &w) in filter.iter().enumerate() {
                let centre = self.residual && tap == TAPS / 2;
                taps[tap * channels + d] = if centre { w + T::ONE } else { w };
            }
        }
        taps
    }

    /// The same for `count` images from `first` on.
    pub(super) fn images(&self, first: usize, count: usize) -> Self {
        let start = first * self.shape.height * self.shape.width;
        Self {
            shape: Shape { batch: count, ..self.shape },
            x: self.x.from(start),
            gate: self.gate.map(|gate| gate.from(start)),
            ..*self
        }
    }

    /// Rows that make one task.
    pub(super) fn rows_per_task(&self) -> usize {
        TASK.div_ceil(self.shape.width * self.shape.channels)
    }
}

/// Bands of rows per thread.
const BANDS: usize = 3;

/// Writes y (B, H, W, D).
///
/// # Errors
/// [`crate::error::Error::Argument`] when a length does not fit the shape.
pub fn depthwise_forward<T: Normal>(problem: &Depthwise<'_, T>, y: &mut [T], threads: usize) -> Result<()> {
    problem.check()?;
    expect_len("y", y.len(), problem.shape.len())?;
    if y.is_empty() {
        return Ok(());
    }
    let level = cpu::level()?;
    let taps = problem.taps();
    // Values do not depend on the cut here, and every cut packs the rows at it twice.
    let rows = problem.rows_per_task().max((problem.shape.batch * problem.shape.height).div_ceil(BANDS * threads));
    let bands = y.chunks_mut(rows * problem.shape.width * problem.shape.channels).enumerate();
    for_each(threads, bands, |(i, y)| dispatch(level, Band { problem, taps: &taps, first: i * rows, y }))
}

/// Some rows of y, counted over all images.
struct Band<'a, 'p, T> {
    problem: &'a Depthwise<'p, T>,
    taps: &'a [T],
    first: usize,
    y: &'a mut [T],
}

impl<T: Normal> Kernel for Band<'_, '_, T> {
    type Scalar = T;
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Scalar = T>>(self) {
        let Self { problem, taps, first, y } = self;
        let shape = &problem.shape;
        let mut window = Window::<V>::new(shape.width);
        let mut values = vec![V::zero(); shape.width];
        for group in covering::<V>(shape.channels) {
            let (filter, bias) = (filter(taps, shape.channels, group), group.load(problem.bias, 0));
            for (i, y) in y.chunks_mut(shape.width * shape.channels).enumerate() {
                window.move_to(first + i, i == 0, &problem.x, shape, group);
                window.walk(|column, around| values[column] = apply(&filter, around, bias));
                gelu_row(&mut values);
                if let Some(gate) = &problem.gate {
                    let gate = gate.from((first + i) * shape.width);
                    for (column, value) in values.iter_mut().enumerate() {
                        *value = value.mul(group.load(gate.values, column * gate.stride));
                    }
                }
                for (column, &value) in values.iter().enumerate() {
                    group.store(value, y, column * shape.channels);
                }
            }
        }
    }
}
