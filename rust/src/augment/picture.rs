//! One finished picture, row by row while a row is in the nearest cache: scenes, pasted objects, blend, colours.

use super::canvas::Canvas;
use super::hsv::shift_hsv;
use super::lerp::{Pixel, Store, run};
use super::map::Map;
use super::oblique::Oblique;
use super::plan::Gains;
use super::polygon::{Ring, spans};
use super::upright::Upright;
use crate::simd::{Kernel, Vector};

/// Weights of a blend have this many bits.
const MIX_BITS: u32 = 15;

/// Columns and rows of the output, ends excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Column after the last.
    pub right: usize,
    /// Row after the last.
    pub bottom: usize,
}

/// A canvas under its map, and the outlines (in output pixels) that are filled from the canvas's mirror image.
#[derive(Clone, Debug)]
pub struct View {
    /// The tiles.
    pub canvas: Canvas,
    /// Where they go.
    pub map: Map,
    /// Pasted objects.
    pub pasted: Vec<Ring>,
}

/// What is done with a second view.
#[derive(Clone, Debug)]
pub enum Second {
    /// There is none.
    None,
    /// Blended: the weight of the first.
    Blend(View, f64),
    /// Shown in a window.
    Window(View, Window),
}

/// Write the picture as three planes of side * side bytes.
pub fn render(first: &View, second: &Second, gains: &Gains, out: &mut [u8]) {
    let side = first.map.side;
    let mut painter = Painter::new(first);
    let mut other = match second {
        Second::None => None,
        Second::Blend(view, _) | Second::Window(view, _) => Some((Painter::new(view), vec![0; 3 * side])),
    };
    let mut line = vec![0; 3 * side];
    for y in 0..side {
        painter.row(y, &mut line);
        if let Some((painter, above)) = &mut other {
            join(second, y, &mut line, above, |above| painter.row(y, above));
        }
        shift_hsv(&mut line, gains);
        for (plane, values) in out.chunks_exact_mut(side * side).zip(line.chunks_exact(side)) {
            plane[y * side..(y + 1) * side].copy_from_slice(values);
        }
    }
}

/// Put a row of the second view, painted on demand, onto a row of the first.
fn join(second: &Second, y: usize, line: &mut [u8], above: &mut [u8], paint: impl FnOnce(&mut [u8])) {
    let side = line.len() / 3;
    match second {
        Second::Blend(_, weight) => {
            paint(above);
            run(Mix { line, above, weight: (weight * f64::from(1 << MIX_BITS)) as u32 });
        }
        Second::Window(_, window) if (window.top..window.bottom).contains(&y) => {
            paint(above);
            for start in [0, side, 2 * side] {
                let columns = start + window.left..start + window.right;
                line[columns.clone()].copy_from_slice(&above[columns]);
            }
        }
        _ => {}
    }
}

/// Blend a row of the second view into one of the first.
struct Mix<'a> {
    line: &'a mut [u8],
    above: &'a [u8],
    weight: u32,
}

impl Kernel for Mix<'_> {
    type Scalar = f32;
    type Output = ();
    #[inline(always)]
    fn run<V: Vector<Scalar = f32>>(self) {
        let (first, second) = (self.weight, (1 << MIX_BITS) - self.weight);
        for (a, &b) in self.line.iter_mut().zip(self.above) {
            *a = ((u32::from(*a) * first + u32::from(b) * second) >> MIX_BITS) as u8;
        }
    }
}

/// Makes the rows of one view.
struct Painter<'a> {
    view: &'a View,
    upright: Option<Upright>,
    oblique: Oblique,
    pixels: Vec<Pixel>,
}

impl<'a> Painter<'a> {
    fn new(view: &'a View) -> Self {
        let side = view.map.side;
        let upright = view.map.upright().map(|[columns, rows]| Upright::new(&view.canvas, side, columns, rows));
        Self { view, upright, oblique: Oblique::new(side), pixels: vec![[0; 4]; side] }
    }

    /// Three rows of bytes.
    fn row(&mut self, y: usize, planes: &mut [u8]) {
        let (canvas, map) = (&self.view.canvas, &self.view.map);
        let line = map.line(y);
        match &mut self.upright {
            Some(upright) => upright.row(canvas, y, &mut self.pixels),
            None => self.oblique.sample(canvas, &line, 0..map.side, &mut self.pixels),
        }
        let mirrored = line.mirrored(canvas.width);
        for ring in &self.view.pasted {
            spans(ring, y, map.side, |columns| {
                self.oblique.sample(canvas, &mirrored, columns, &mut self.pixels);
            });
        }
        run(Store { pixels: &self.pixels, planes });
    }
}
