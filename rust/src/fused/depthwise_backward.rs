//! Backward of the depth-wise convolution: v = conv(x) + bias [+ x] is computed again, then
//!
//! ```text
//! dgate = dy gelu(v);  dv = dy gate gelu'(v);  dweight = sum of dv x;  dbias = sum of dv
//! dx = dv convolved with the filter turned round
//! ```
//!
//! in two passes, with dv of a few images at a time in a kept buffer between them.

use crate::buffers::{give, take};
use crate::cpu;
use crate::error::{Result, expect_len};
use crate::simd::{Kernel, Vector, dispatch};
use crate::threads::for_each;

use super::depthwise::Depthwise;
use super::gelu::{Normal, gelu_and_slope_row};
use super::map::{Group, Map, Shape, covering};
use super::window::{TAPS, Window, apply, filter};
use super::{add_to, chunks};

/// Values of dv between the passes, about; few enough to stay in the caches.
const ROUND: usize = 1 << 20;

/// Where the gradients go; what is there before does not matter.
#[derive(Debug)]
pub struct DepthwiseGradients<'a, T> {
    /// Of x (B, H, W, D).
    pub x: &'a mut [T],
    /// Of the gate (B, H, W, D), where there is one.
    pub gate: Option<&'a mut [T]>,
    /// Of the filters (D, 3, 3).
    pub weight: &'a mut [T],
    /// Of the bias (D,).
    pub bias: &'a mut [T],
}

/// Gradients for `dy` (B, H, W, D).
///
/// # Errors
/// [`crate::error::Error::Argument`] when a length does not fit the shape.
pub fn depthwise_backward<T: Normal>(
    problem: &Depthwise<'_, T>,
    dy: Map<'_, T>,
    gradients: DepthwiseGradients<'_, T>,
    threads: usize,
) -> Result<()> {
    let shape = problem.shape;
    problem.check()?;
    dy.check("dy", shape.tokens(), shape.channels)?;
    gradients.check(&shape, problem.gate.is_some())?;
    let mut sums = vec![T::ZERO; (TAPS + 1) * shape.channels];
    if !shape.is_empty() {
        let image = shape.height * shape.width * shape.channels;
        let images = (ROUND / image).clamp(1, shape.batch);
        let mut d_v = take(images * image);
        let d_gate = chunks(gradients.gate, images * image, shape.batch.div_ceil(images));
        for (round, (d_x, d_gate)) in gradients.x.chunks_mut(images * image).zip(d_gate).enumerate() {
            let part = problem.images(round * images, d_x.len() / image);
            let d_v = &mut d_v[..d_x.len()];
            through_gelu(&part, dy.from(round * images * shape.height * shape.width), d_v, d_gate, &mut sums, threads)?;
            through_filter(&part, d_v, d_x, threads)?;
        }
        give(d_v);
    }
    let (taps, bias) = sums.split_at(TAPS * shape.channels);
    gradients.bias.copy_from_slice(bias);
    for (i, weight) in gradients.weight.iter_mut().enumerate() {
        *weight = taps[i % TAPS * shape.channels + i / TAPS];
    }
    Ok(())
}

impl<T> DepthwiseGradients<'_, T> {
    fn check(&self, shape: &Shape, gated: bool) -> Result<()> {
        expect_len("dx", self.x.len(), shape.len())?;
        expect_len("dgate", self.gate.as_ref().map_or(0, |g| g.len()), if gated { shape.len() } else { 0 })?;
        expect_len("dweight", self.weight.len(), TAPS * shape.channels)?;
        expect_len("dbias", self.bias.len(), shape.channels)
    }
}

/// First pass: dv, dgate, and the sums of the filters (9, D) and of the bias (D,), added to `sums`.
fn through_gelu<T: Normal>(
    problem: &Depthwise<'_, T>,
    dy: Map<'_, T>,
    d_v: &mut [T],
    d_gate: Option<&mut [T]>,
    sums: &mut [T],
    threads: usize,
) -> Result<()> {
    let level = cpu::level()?;
    let (taps, rows) = (problem.taps(), problem.rows_per_task());
    let size = rows * problem.shape.width * problem.shape.channels;
    let count = d_v.len().div_ceil(size);
    let mut parts = vec![T::ZERO; count * sums.len()];
    let outputs = d_v.chunks_mut(size).zip(chunks(d_gate, size, count)).zip(parts.chunks_mut(sums.len()));
    for_each(threads, outputs.enumerate(), |(i, ((d_v, d_gate), sums))| {
        dispatch(level, GeluBand { problem, taps: &taps, dy, first: i * rows, d_v, d_gate, sums });
    })?;
    parts.chunks(sums.len()).for_each(|part| add_to(sums, part));
    Ok(())
}

/// Some rows of the first pass.
struct GeluBand<'a, 'p, T> {
    problem: &'a Depthwise<'p, T>,
    taps: &'a [T],
    dy: Map<'a, T>,
    first: usize,
    d_v: &'a mut [T],
    d_gate: Option<&'a mut [T]>,
    sums: &'a mut [T],
}

impl<T: Normal> Kernel for GeluBand<'_, '_, T> {
    type Scalar = T;
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Scalar = T>>(mut self) {
        let (problem, shape) = (self.problem, &self.problem.shape);
        let mut window = Window::<V>::new(shape.width);
        let (mut row, mut slopes) = (vec![V::zero(); shape.width], vec![V::zero(); shape.width]);
        for group in covering::<V>(shape.channels) {
            let (filter, bias) = (filter(self.taps, shape.channels, group), group.load(problem.bias, 0));
            let mut sum = [V::zero(); TAPS + 1];
            for i in 0..self.d_v.len() / (shape.width * shape.channels) {
                window.move_to(self.first + i, i == 0, &problem.x, shape, group);
                window.walk(|column, around| row[column] = apply(&filter, around, bias));
                gelu_and_slope_row(&mut row, &mut slopes);
                self.turn(i, group, &row, &mut slopes);
                window.walk(|column, around| {
                    let d = slopes[column];
                    for tap in 0..TAPS {
                        sum[tap] = d.fma(around[tap % 3][tap / 3], sum[tap]);
                    }
                    sum[TAPS] = sum[TAPS].add(d);
                });
            }
            for tap in 0..=TAPS {
                group.store(sum[tap], self.sums, tap * shape.channels);
            }
        }
    }
}

impl<T: Normal> GeluBand<'_, '_, T> {
    /// Writes dgate of a row from gelu(v), and dv, turning slopes into it.
    #[inline(always)]
    fn turn<V: Vector<Scalar = T>>(&mut self, i: usize, group: Group<false>, values: &[V], slopes: &mut [V]) {
        let Shape { width, channels, .. } = self.problem.shape;
        let start = (self.first + i) * width;
        let dy = self.dy.from(start);
        for (column, d_v) in slopes.iter_mut().enumerate() {
            *d_v = group.load::<V>(dy.values, column * dy.stride).mul(*d_v);
        }
        if let (Some(gate), Some(d_gate)) = (&self.problem.gate, &mut self.d_gate) {
            let gate = gate.from(start);
            for (column, (value, d_v)) in values.iter().zip(&mut *slopes).enumerate() {
                let dy: V = group.load(dy.values, column * dy.stride);
                group.store(dy.mul(*value), d_gate, (i * width + column) * channels);
                *d_v = d_v.mul(group.load(gate.values, column * gate.stride));
            }
        }
        for (column, d_v) in slopes.iter().enumerate() {
            group.store(*d_v, self.d_v, (i * width + column) * channels);
        }
    }
}

/// Second pass: dx.
fn through_filter<T: Normal>(problem: &Depthwise<'_, T>, d_v: &[T], d_x: &mut [T], threads: usize) -> Result<()> {
    let Shape { width, channels, .. } = problem.shape;
    let level = cpu::level()?;
    let (taps, rows) = (problem.taps(), problem.rows_per_task());
    let d_v = Map { values: d_v, stride: channels };
    for_each(threads, d_x.chunks_mut(rows * width * channels).enumerate(), |(i, d_x)| {
        dispatch(level, FilterBand { shape: &problem.shape, taps: &taps, d_v, first: i * rows, d_x });
    })
}

/// Some rows of the second pass.
struct FilterBand<'a, T> {
    shape: &'a Shape,
    taps: &'a [T],
    d_v: Map<'a, T>,
    first: usize,
    d_x: &'a mut [T],
}

impl<T: Normal> Kernel for FilterBand<'_, T> {
    type Scalar = T;
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Scalar = T>>(self) {
        let Self { shape, taps, d_v, first, d_x } = self;
        let mut window = Window::<V>::new(shape.width);
        let mut values = vec![V::zero(); shape.width];
        for group in covering::<V>(shape.channels) {
            let mut turned = filter(taps, shape.channels, group);
            turned.reverse();
            for (i, d_x) in d_x.chunks_mut(shape.width * shape.channels).enumerate() {
                window.move_to(first + i, i == 0, &d_v, shape, group);
                window.walk(|column, around| values[column] = apply(&turned, around, V::zero()));
                for (column, &value) in values.iter().enumerate() {
                    group.store(value, d_x, column * shape.channels);
                }
            }
        }
    }
}
