//! Bilinear blending in 16-bit lanes: levels with 6 fraction bits, weights with 15.
//!
//! `a + (2 (b - a) * w) >> 16` takes the upper half of a product, one instruction of every vector unit. It is at most
//! 1/64 of a level too low; two blends are at most 1/32, which the last rounding takes into account. Integers only: every machine gives the same
//! bytes. Test: `tests/data/test_augment.py`.

use crate::cpu::Level;
use crate::simd::{Kernel, Vector, dispatch};

/// Fraction bits of a level.
pub(super) const LEVEL_BITS: u32 = 6;
/// Fraction bits of a weight.
pub(super) const WEIGHT_BITS: u32 = 15;
/// Half a level, and half of what two blends may be too low.
const ROUNDING: i16 = (1 << (LEVEL_BITS - 1)) + 1;

/// A pixel: red, green, blue and a lane that means nothing, in 2^-6 levels.
pub(super) type Pixel = [i16; 4];

/// The weight of the second of two neighbours, from a fraction in 0..1.
#[inline(always)]
pub(super) fn weight(fraction: f64) -> i16 {
    (fraction * f64::from(1 << WEIGHT_BITS) + 0.5).min(f64::from(i16::MAX)) as i16
}

#[inline(always)]
fn blend(a: i16, b: i16, weight: i16) -> i16 {
    a + ((i32::from((b - a) << 1) * i32::from(weight)) >> 16) as i16
}

/// Above-left, above-right, below-left, below-right.
#[inline(always)]
fn blend_four([a, b, c, d]: [u8; 4], right: i16, below: i16) -> i16 {
    blend(blend(raised(a), raised(b), right), blend(raised(c), raised(d), right), below)
}

/// A single pixel between four neighbours.
pub(super) fn blend_pixel(corners: &[[u8; 3]; 4], right: i16, below: i16) -> Pixel {
    let lane = |i: usize| blend_four(corners.map(|corner| corner[i]), right, below);
    [lane(0), lane(1), lane(2), 0]
}

#[inline(always)]
fn raised(level: u8) -> i16 {
    i16::from(level) << LEVEL_BITS
}

/// `out = top + (bottom - top) * weight` for bytes.
pub(super) struct BlendRows<'a> {
    pub(super) top: &'a [u8],
    pub(super) bottom: &'a [u8],
    pub(super) weight: i16,
    pub(super) out: &'a mut [i16],
}

impl Kernel for BlendRows<'_> {
    type Scalar = f32;
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        for ((out, &a), &b) in self.out.iter_mut().zip(self.top).zip(self.bottom) {
            *out = blend(raised(a), raised(b), self.weight);
        }
    }
}

/// `left = left + (right - left) * weight`, lane by lane.
pub(super) struct BlendColumns<'a> {
    pub(super) left: &'a mut [Pixel],
    pub(super) right: &'a [Pixel],
    pub(super) weights: &'a [Pixel],
}

impl Kernel for BlendColumns<'_> {
    type Scalar = f32;
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        let (left, right) = (self.left.as_flattened_mut(), self.right.as_flattened());
        for ((a, &b), &w) in left.iter_mut().zip(right).zip(self.weights.as_flattened()) {
            *a = blend(*a, b, w);
        }
    }
}

/// Four neighbours of every pixel, as bytes, and the weights of the right and the lower ones.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    pub(super) corners: [Vec<[u8; 4]>; 4],
    pub(super) weights: [Vec<Pixel>; 2],
}

impl Neighbours {
    /// Room for `count` pixels.
    pub(super) fn new(count: usize) -> Self {
        Self { corners: [(); 4].map(|()| vec![[0; 4]; count]), weights: [(); 2].map(|()| vec![[0; 4]; count]) }
    }
}

/// Both blends of the first `out.len()` pixels.
pub(super) struct BlendNeighbours<'a> {
    pub(super) from: &'a Neighbours,
    pub(super) out: &'a mut [Pixel],
}

impl Kernel for BlendNeighbours<'_> {
    type Scalar = f32;
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        let out = self.out.as_flattened_mut();
        let lanes = out.len();
        let [a, b, c, d] = [0, 1, 2, 3].map(|k| &self.from.corners[k].as_flattened()[..lanes]);
        let [x, y] = [0, 1].map(|k| &self.from.weights[k].as_flattened()[..lanes]);
        for i in 0..lanes {
            out[i] = blend_four([a[i], b[i], c[i], d[i]], x[i], y[i]);
        }
    }
}

/// Round pixels into three rows of bytes, one per colour, that lie one after the other.
pub(super) struct Store<'a> {
    pub(super) pixels: &'a [Pixel],
    pub(super) planes: &'a mut [u8],
}

impl Kernel for Store<'_> {
    type Scalar = f32;
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        let (red, rest) = self.planes.split_at_mut(self.pixels.len());
        let (green, blue) = rest.split_at_mut(self.pixels.len());
        for (((pixel, r), g), b) in self.pixels.iter().zip(red).zip(green).zip(blue) {
            [*r, *g, *b, _] = pixel.map(|level| ((level + ROUNDING) >> LEVEL_BITS) as u8);
        }
    }
}

/// Run a kernel at the level of this machine.
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    // a level that is not there was refused when the module was imported
    dispatch(crate::cpu::level().unwrap_or(Level::Scalar), kernel)
}
