//! Glue of the masks room.

use pyo3::prelude::*;

use super::tensors::{Input, Output};
use crate::error::{Error, Result};
use crate::masks::{self, Instances, Rle};
use crate::threads::for_each;

/// COCO's two forms of runs.
#[derive(FromPyObject)]
pub(super) enum Counts {
    /// Compressed.
    Text(String),
    /// One number each.
    Numbers(Vec<u32>),
}

/// Height, width and runs.
pub(super) type Runs = (usize, usize, Counts);

/// Coefficients (n, C), prototypes (C, Hp, Wp), boxes (n, 4).
type Objects<'py> = (Input<'py, f32>, Input<'py, f32>, Input<'py, f32>);

/// C, Hp, Wp; height and width of the masks; gain, left, top.
type Placing = ((usize, usize, usize), (usize, usize), (f64, f64, f64));

/// Checked runs.
pub(super) fn rle((height, width, counts): Runs) -> Result<Rle> {
    match counts {
        Counts::Text(text) => Rle::from_text(height, width, text.as_bytes()),
        Counts::Numbers(numbers) => Rle::new(height, width, numbers),
    }
}

/// Text form of a mask (W, H), which is one (H, W) column by column.
#[pyfunction]
pub(super) fn encode_rle(height: usize, width: usize, columns: Input<'_, u8>) -> PyResult<String> {
    Ok(Rle::of_mask(height, width, &columns)?.to_text())
}

/// Fills a mask (W, H) from runs.
#[pyfunction]
pub(super) fn decode_rle(runs: Runs, mut columns: Output<'_, u8>) -> PyResult<()> {
    Ok(rle(runs)?.write(&mut columns)?)
}

/// Pixels inside.
#[pyfunction]
pub(super) fn rle_area(runs: Runs) -> PyResult<u64> {
    Ok(rle(runs)?.area())
}

/// Left, top, right and bottom of the pixels inside; None without any.
#[pyfunction]
pub(super) fn rle_bounds(runs: Runs) -> PyResult<Option<[usize; 4]>> {
    Ok(rle(runs)?.bounds())
}

/// Fills a part of a mask (w, h), within bounds, from runs.
#[pyfunction]
pub(super) fn decode_rle_part(runs: Runs, bounds: [usize; 4], mut columns: Output<'_, u8>) -> PyResult<()> {
    Ok(rle(runs)?.write_part(bounds, &mut columns)?)
}

/// Corners x, y of the outline of the largest part.
#[pyfunction]
pub(super) fn rle_outline(runs: Runs) -> PyResult<Vec<[u32; 2]>> {
    Ok(rle(runs)?.outline())
}

/// Text form of the union or the intersection.
#[pyfunction]
pub(super) fn merge_rle(masks: Vec<Runs>, intersect: bool) -> PyResult<String> {
    let masks: Vec<Rle> = masks.into_iter().map(rle).collect::<Result<_>>()?;
    Ok(Rle::merge(&masks, intersect)?.to_text())
}

/// Text form of a polygon (k, 2).
#[pyfunction]
pub(super) fn rle_from_polygon(polygon: Input<'_, f64>, height: usize, width: usize) -> PyResult<String> {
    Ok(masks::rle_from_polygon(polygon.as_chunks().0, 1.0, height, width)?.to_text())
}

/// Fills masks (n, H, W) with the union of the polygons (k, 2) of each object, scaled.
#[pyfunction]
pub(super) fn fill_polygons<'py>(
    py: Python<'py>,
    objects: Vec<Vec<Input<'py, f64>>>,
    scale: f64,
    size: (usize, usize),
    mut filled: Output<'py, u8>,
    threads: usize,
) -> PyResult<()> {
    let filled = &mut filled[..];
    let (height, width) = size;
    let pixels = height.saturating_mul(width);
    if pixels == 0 || filled.len() != objects.len().saturating_mul(pixels) {
        let message = format!("{} masks of {height} x {width} cannot have {} pixels", objects.len(), filled.len());
        return Err(Error::Argument(message).into());
    }
    let objects: Vec<Vec<&[[f64; 2]]>> =
        objects.iter().map(|polygons| polygons.iter().map(|p| p.as_chunks().0).collect()).collect();
    Ok(py.detach(|| {
        let mut done: Vec<Result<()>> = objects.iter().map(|_| Ok(())).collect();
        let items = done.iter_mut().zip(objects.iter().zip(filled.chunks_mut(pixels)));
        for_each(threads, items, |(done, (polygons, mask))| {
            *done = masks::fill_polygons(polygons, scale, height, width, mask);
        })?;
        done.into_iter().collect::<Result<()>>()
    })?)
}

/// Fills masks (n, H, W), which are zero, with 1 inside objects.
#[pyfunction]
pub(super) fn instance_masks<'py>(
    py: Python<'py>,
    objects: Objects<'py>,
    placing: Placing,
    mut filled: Output<'py, u8>,
    threads: usize,
) -> PyResult<()> {
    let (instances, filled) = (instances(&objects, placing), &mut filled[..]);
    Ok(py.detach(|| instances.fill(filled, threads))?)
}

/// Text forms of the masks of objects.
#[pyfunction]
pub(super) fn instance_rles<'py>(
    py: Python<'py>,
    objects: Objects<'py>,
    placing: Placing,
    threads: usize,
) -> PyResult<Vec<String>> {
    let instances = instances(&objects, placing);
    Ok(py.detach(|| Ok::<_, Error>(instances.trace(threads)?.iter().map(Rle::to_text).collect()))?)
}

/// The objects of these tensors.
fn instances<'a>((coefs, protos, boxes): &'a Objects<'_>, placing: Placing) -> Instances<'a> {
    let (shape, size, (gain, left, top)) = placing;
    Instances { coefs, protos, shape, boxes: boxes.as_chunks().0, size, gain, padding: (left, top) }
}
