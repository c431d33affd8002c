//! Polygons to masks by the rule of pycocotools.
//!
//! The outline is drawn on a grid five times finer. Where it passes the middle of a column of pixels, the column changes
//! between outside and inside at the pixel below; crossings in one place cancel.

use super::Rle;
use super::rle::check_size;
use crate::error::{Error, Result};

/// Steps of the outline per pixel.
const FINE: f64 = 5.0;
/// Coordinates beyond this are damaged data, and would take long to walk.
const FURTHEST: f64 = 65_536.0;

/// Runs of a polygon of x, y in pixels, scaled by `scale`.
///
/// # Errors
/// [`Error::Argument`] for fewer than three points, a coordinate that is not finite or beyond 65 536 pixels, or a
/// picture that is too large.
pub fn rle_from_polygon(points: &[[f64; 2]], scale: f64, height: usize, width: usize) -> Result<Rle> {
    check_size(height, width)?;
    if points.len() < 3 {
        return Err(Error::Argument(format!("a polygon needs 3 points or more, got {}", points.len())));
    }
    let mut fine = Vec::with_capacity(points.len() + 1);
    for point in points {
        let [x, y] = point.map(|v| v * scale);
        if !(x.abs() <= FURTHEST && y.abs() <= FURTHEST) {
            let message = format!("a polygon has the point ({x}, {y}), expected values within {FURTHEST} pixels");
            return Err(Error::Argument(message));
        }
        fine.push([x, y].map(|v| (FINE * v + 0.5) as i64));
    }
    fine.push(fine[0]);
    let mut starts = crossings(&fine, height, width);
    starts.push((height * width) as u32);
    starts.sort_unstable();
    Rle::new(height, width, runs(&starts))
}

/// Set the pixels of several polygons in a mask (H, W) that lies row by row.
///
/// # Errors
/// As [`rle_from_polygon`], and when the mask has another size.
pub fn fill_polygons(polygons: &[&[[f64; 2]]], scale: f64, height: usize, width: usize, mask: &mut [u8]) -> Result<()> {
    if mask.len() != height * width {
        return Err(Error::Argument(format!("a {height} x {width} mask cannot have {} pixels", mask.len())));
    }
    for polygon in polygons {
        for run in rle_from_polygon(polygon, scale, height, width)?.inside() {
            run.for_each(|at| mask[at % height * width + at / height] = 1);
        }
    }
    Ok(())
}

/// Column-by-column indices where the outline crosses the middles of columns.
fn crossings(fine: &[[i64; 2]], height: usize, width: usize) -> Vec<u32> {
    let mut found = Vec::new();
    let mut before: Option<[i64; 2]> = None;
    for edge in fine.windows(2) {
        outline(edge[0], edge[1], |[u, v]| {
            if let Some([u0, v0]) = before.replace([u, v]).filter(|b| b[0] != u) {
                let x = if u < u0 { u } else { u - 1 };
                // (x + 0.5) / 5 - 0.5 is whole for x = 5 c + 2 alone.
                if x >= 2 && x % 5 == 2 && x / 5 < width as i64 {
                    let y = (v.min(v0) as f64 + 0.5) / FINE - 0.5;
                    let y = y.clamp(0.0, height as f64).ceil() as usize;
                    found.push((x as usize / 5 * height + y) as u32);
                }
            }
        });
    }
    found
}

/// Visits the points of an edge, ends included, one for each step along its longer direction.
fn outline(from: [i64; 2], to: [i64; 2], mut visit: impl FnMut([i64; 2])) {
    let long = usize::from((to[0] - from[0]).abs() < (to[1] - from[1]).abs());
    let flip = from[long] > to[long]; // the rounding is that of the rising direction
    let (low, high) = if flip { (to, from) } else { (from, to) };
    let steps = high[long] - low[long];
    let slope = (high[1 - long] - low[1 - long]) as f64 / steps as f64;
    for d in 0..=steps {
        let t = if flip { steps - d } else { d };
        let mut point = low;
        if t > 0 {
            point[long] += t;
            point[1 - long] = (low[1 - long] as f64 + slope * t as f64 + 0.5) as i64;
        } else {
            point[1 - long] = (low[1 - long] as f64 + 0.5) as i64; // towards zero, which moves negative values
        }
        visit(point);
    }
}

/// Differences of sorted places; a run of length 0 joins its neighbours.
fn runs(starts: &[u32]) -> Vec<u32> {
    let mut counts: Vec<u32> = Vec::with_capacity(starts.len());
    let (mut last, mut joins) = (0, false);
    for &start in starts {
        let run = start - last;
        last = start;
        match counts.last_mut() {
            Some(before) if joins => {
                *before += run;
                joins = false;
            }
            Some(_) if run == 0 => joins = true,
            _ => counts.push(run),
        }
    }
    counts
}
