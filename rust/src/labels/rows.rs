//! Rows of one label file: `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 …`; none where anything is out of order.
//!
//! Arithmetic as in `data/readers/yolo.py` and `data/annotations.py`: float64, then clipped onto the grid of 2^-16 px.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Steps per pixel.
const GRID: f64 = 65536.0;
/// Boxes that reach further out, as a fraction of the side, are reported.
const REPORTED_OVERHANG: f64 = 0.01;
/// Larger files are no label files.
const MAX_BYTES: u64 = 64 << 20;
/// Larger class ids are judged in Python.
const MAX_CLASS: f64 = 65_535.0;
/// Up to so many objects are compared each with each.
const MAX_PAIRWISE: usize = 256;

/// Objects of a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    /// Classes, numbered anew.
    pub classes: Vec<i64>,
    /// Corners in pixels.
    pub boxes: Vec<[f32; 4]>,
    /// Points of all polygons; empty where objects are boxes.
    pub points: Vec<[f32; 2]>,
    /// Number of points of each object's polygon; empty where objects are boxes.
    pub counts: Vec<u32>,
}

/// Read a label file for a picture of (height, width); a file that is not there has no objects.
pub(super) fn read(path: &Path, size: (usize, usize), classes: Option<&[i64]>) -> Option<Objects> {
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == ErrorKind::NotFound => return Some(Objects::default()),
        Err(_) => return None,
    };
    if !about.is_file() || about.len() > MAX_BYTES {
        return None; // asked before it is opened: a pipe would wait for a writer
    }
    let mut text = Vec::with_capacity(about.len() as usize + 1);
    File::open(path).ok()?.read_to_end(&mut text).ok()?;
    parse(&text, size, classes)
}

fn parse(text: &[u8], size: (usize, usize), classes: Option<&[i64]>) -> Option<Objects> {
    // Python also splits lines and columns at other characters: those files are its own.
    if !text.iter().all(|&b| matches!(b, b'\n' | b'\r' | b'\t' | b' '..=b'~')) {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let mut objects = Objects::default();
    let mut numbers = Vec::new();
    for line in text.split(['\n', '\r']) {
        numbers.clear();
        for column in line.split_ascii_whitespace() {
            numbers.push(number(column)?);
        }
        if let [class, values @ ..] = &numbers[..] {
            objects.add(class_number(*class, classes)?, values, size)?;
        }
    }
    objects.are_distinct().then_some(objects)
}

/// A plain decimal number; what only Python reads as one is left to it.
fn number(column: &str) -> Option<f64> {
    let plain = column.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
    column.parse().ok().filter(|value: &f64| plain && value.is_finite())
}

/// The class's place among the known ones.
fn class_number(class: f64, classes: Option<&[i64]>) -> Option<i64> {
    if class.fract() != 0.0 || !(0.0..=MAX_CLASS).contains(&class) {
        return None;
    }
    let class = class as i64;
    classes.map_or(Some(class), |known| known.binary_search(&class).ok().map(|place| place as i64))
}

impl Objects {
    fn add(&mut self, class: i64, values: &[f64], (height, width): (usize, usize)) -> Option<()> {
        let (h, w) = (height as f64, width as f64);
        let corners = if let [cx, cy, bw, bh] = *values {
            if !self.counts.is_empty() {
                return None;
            }
            [(cx - bw / 2.0) * w, (cy - bh / 2.0) * h, (cx + bw / 2.0) * w, (cy + bh / 2.0) * h]
        } else {
            self.add_polygon(values, (h, w))?
        };
        let [x1, y1, x2, y2] = corners;
        let out = (-x1 / w).max(-y1 / h).max(x2 / w - 1.0).max(y2 / h - 1.0);
        let corners = [on_grid(x1, w), on_grid(y1, h), on_grid(x2, w), on_grid(y2, h)];
        if out.is_nan() || out > REPORTED_OVERHANG || corners[2] <= corners[0] || corners[3] <= corners[1] {
            return None;
        }
        self.classes.push(class);
        self.boxes.push(corners);
        Some(())
    }

    /// Keep a polygon's points; its extent in pixels.
    fn add_polygon(&mut self, values: &[f64], (h, w): (f64, f64)) -> Option<[f64; 4]> {
        let (points, rest) = values.as_chunks::<2>();
        if points.len() < 3 || !rest.is_empty() || self.counts.len() != self.classes.len() {
            return None;
        }
        let mut extent = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
        for &[x, y] in points {
            let (x, y) = (x * w, y * h);
            extent = [extent[0].min(x), extent[1].min(y), extent[2].max(x), extent[3].max(y)];
            self.points.push([on_grid(x, w), on_grid(y, h)]);
        }
        self.counts.push(points.len() as u32);
        Some(extent)
    }

    /// Whether no object occurs twice.
    fn are_distinct(&self) -> bool {
        let key = |k: usize| (self.classes[k], self.boxes[k].map(f32::to_bits));
        let count = self.classes.len();
        if count <= MAX_PAIRWISE {
            return (1..count).all(|b| (0..b).all(|a| key(a) != key(b)));
        }
        let mut keys: Vec<_> = (0..count).map(key).collect();
        keys.sort_unstable();
        keys.windows(2).all(|pair| pair[0] != pair[1])
    }
}

/// Within 0..=limit, on the grid.
fn on_grid(value: f64, limit: f64) -> f32 {
    ((value.clamp(0.0, limit) * GRID).round_ties_even() / GRID + 0.0) as f32 // + 0.0: no negative zero
}
