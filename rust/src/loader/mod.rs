//! Batches: a pure function from (seed, epoch, position) to bytes, and threads that run it ahead of the consumer.
//!
//! `planner` says which pictures and which numbers belong to a position, `sample` makes one picture in its slot of the
//! batch, `stream` fills batches in order on its own threads, `cache` keeps decoded tiles.

mod cache;
mod planner;
mod sample;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;

use crate::augment::{Ranges, Ring};
use crate::error::{Error, Result};

pub use planner::{Epoch, Ticket};
pub use sample::Target;
pub use stream::{Batch, BatchStream, Running};

use cache::TileCache;

/// Decoded training tiles kept in memory.
const CACHE_BYTES: usize = 256 << 20;

/// The annotated pictures of a data set: boxes and classes of picture k are rows `offsets[k]..offsets[k + 1]`.
#[derive(Debug)]
pub struct Index {
    /// Files.
    pub paths: Vec<PathBuf>,
    /// Corners in pixels of the upright picture.
    pub boxes: Vec<[f32; 4]>,
    /// Class of each box.
    pub classes: Vec<i64>,
    /// Where each picture's rows begin, and the end.
    pub offsets: Vec<usize>,
    /// Outlines of the rows.
    pub outlines: Outlines,
}

/// Polygons of boxes: those of row k are `objects[k]..objects[k + 1]`, the points of polygon r are
/// `rings[r]..rings[r + 1]`.
#[derive(Debug)]
pub struct Outlines {
    /// Corners (x, y) in pixels of the upright picture.
    pub points: Vec<[f32; 2]>,
    /// Where each polygon begins, and the end.
    pub rings: Vec<usize>,
    /// Where each row's polygons begin, and the end.
    pub objects: Vec<usize>,
}

impl Outlines {
    /// The polygons of a row.
    fn of(&self, row: usize) -> Vec<Ring> {
        let points = |r: usize| &self.points[self.rings[r]..self.rings[r + 1]];
        let ring = |r: usize| points(r).iter().map(|&[x, y]| (f64::from(x), f64::from(y))).collect();
        (self.objects[row]..self.objects[row + 1]).map(ring).collect()
    }
}

/// Whether offsets bound so many parts and rise from 0 to `last`.
fn are_offsets(offsets: &[usize], parts: usize, last: usize) -> bool {
    offsets.len() == parts + 1
        && offsets[0] == 0
        && offsets[parts] == last
        && offsets.windows(2).all(|pair| pair[0] <= pair[1])
}

impl Index {
    /// Check that the parts belong together.
    ///
    /// # Errors
    /// [`Error::Argument`] when they do not.
    pub fn new(
        paths: Vec<PathBuf>,
        boxes: Vec<[f32; 4]>,
        classes: Vec<i64>,
        offsets: Vec<usize>,
        outlines: Outlines,
    ) -> Result<Self> {
        let Outlines { points, rings, objects } = &outlines;
        let fit = are_offsets(&offsets, paths.len(), boxes.len())
            && classes.len() == boxes.len()
            && are_offsets(objects, boxes.len(), rings.len().saturating_sub(1))
            && are_offsets(rings, rings.len().saturating_sub(1), points.len());
        if !fit {
            return Err(Error::Argument(format!(
                "{} pictures, {} boxes, {} classes, {} offsets and {} polygons do not belong together",
                paths.len(),
                boxes.len(),
                classes.len(),
                offsets.len(),
                rings.len().saturating_sub(1)
            )));
        }
        Ok(Self { paths, boxes, classes, offsets, outlines })
    }
}

/// What a batch looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Side of the square pictures in pixels.
    pub side: usize,
    /// Pictures per batch; the last batch may be smaller.
    pub batch_size: usize,
}

/// A data set ready to be loaded, with its cache of tiles.
#[derive(Debug)]
pub struct Pipeline {
    index: Arc<Index>,
    shape: Shape,
    tiles: Arc<TileCache>,
}

impl Pipeline {
    /// A pipeline over `index`.
    ///
    /// # Errors
    /// [`Error::Argument`] for an empty shape.
    pub fn new(index: Index, shape: Shape) -> Result<Self> {
        if shape.side == 0 || shape.batch_size == 0 {
            return Err(Error::Argument("side and batch_size must be positive".into()));
        }
        Ok(Self { index: Arc::new(index), shape, tiles: Arc::new(TileCache::new(CACHE_BYTES)) })
    }

    /// Start threads that fill the batches of an epoch from sampler position `start` on; `ranges` are the
    /// augmentations of a training epoch, none means validation: in order and letterboxed.
    ///
    /// # Errors
    /// [`Error::Argument`] when no thread can be started.
    pub fn start(&self, key: (u64, u32), start: usize, ranges: Option<Ranges>, threads: usize) -> Result<BatchStream> {
        let epoch = Epoch::new(key, self.index.paths.len(), ranges);
        let maker = sample::Maker::new(Arc::clone(&self.index), Arc::clone(&self.tiles), self.shape.side);
        stream::start(Arc::new(maker), epoch, self.shape, start, threads)
    }
}
