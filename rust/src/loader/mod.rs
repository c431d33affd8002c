//! Batches: a pure function from (seed, epoch, position) to bytes, and threads that run it ahead of the consumer.
//!
//! `planner` says which pictures and which numbers belong to a position, `tiles` gets them decoded (`cache`: the latest,
//! `disk`: all of them in a file), `sample` makes one picture in its slot of the batch, `stream` fills batches in order
//! on its own threads, in the memory of batches that were dropped (`spare`) or that the consumer lends (`slots`).

mod cache;
mod disk;
mod guarded;
mod planner;
mod sample;
mod slots;
mod spare;
mod stream;
mod tiles;

use std::path::PathBuf;
use std::sync::Arc;

use crate::augment::Ring;
use crate::error::{Error, Result};

pub use planner::{Course, Epoch, Ticket};
pub use sample::Target;
pub use slots::Slot;
pub use spare::Lent;
pub use stream::{Batch, BatchStream, Pixels, Running};
pub use tiles::Keep;

use tiles::Tiles;

/// Mosaic partners lie at most this many positions back.
const MAX_WINDOW: usize = 128;
/// Memory for twice the tiles of that window; larger pictures have a shorter one.
const WINDOW_BYTES: usize = 320 << 20;
/// But never fewer tiles than this.
const MIN_WINDOW: usize = 16;

/// The annotated pictures of a data set: boxes and classes of picture k are rows `offsets[k]..offsets[k + 1]`.
#[derive(Debug)]
pub struct Index {
    /// Files.
    pub paths: Vec<PathBuf>,
    /// (height, width) of each upright picture.
    pub sizes: Vec<(usize, usize)>,
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
    pub fn checked(self) -> Result<Self> {
        let Outlines { points, rings, objects } = &self.outlines;
        let num_rings = rings.len().saturating_sub(1);
        let fit = self.sizes.len() == self.paths.len()
            && self.sizes.iter().all(|&(height, width)| height > 0 && width > 0)
            && self.classes.len() == self.boxes.len()
            && are_offsets(&self.offsets, self.paths.len(), self.boxes.len())
            && are_offsets(objects, self.boxes.len(), num_rings)
            && are_offsets(rings, num_rings, points.len());
        if fit {
            return Ok(self);
        }
        Err(Error::Argument(format!(
            "{} pictures, {} sizes, {} boxes, {} classes, {} offsets and {num_rings} polygons do not belong together",
            self.paths.len(),
            self.sizes.len(),
            self.boxes.len(),
            self.classes.len(),
            self.offsets.len()
        )))
    }
}

/// What kind of batches are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Shuffled and augmented, square.
    Train,
    /// In order and letterboxed, square.
    Square,
    /// By aspect ratio and letterboxed, as small as the batch's pictures allow.
    Rect,
}

/// Where the other pictures of a mosaic come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partners {
    /// The latest positions, whose tiles are still there.
    Recent,
    /// The whole epoch: four decodes per picture unless all tiles are kept.
    Uniform,
}

/// What a batch looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Longer side of the pictures in pixels.
    pub side: usize,
    /// Pictures per batch; the last batch may be smaller.
    pub batch_size: usize,
    /// Training or validation.
    pub kind: Kind,
    /// Of mosaics and mixtures in training.
    pub partners: Partners,
    /// Values in 0..1 instead of bytes.
    pub as_floats: bool,
    /// Draw the masks of all objects.
    pub masks: bool,
    /// Put the next readable picture in the place of one that cannot be read.
    pub skip: bool,
    /// Of every `world` batches the one with this number is made.
    pub rank: usize,
    /// How many loaders share an epoch.
    pub world: usize,
}

impl Settings {
    /// Positions from which recent mosaic partners are drawn.
    pub(crate) fn window(&self) -> usize {
        (WINDOW_BYTES / (6 * self.side * self.side)).clamp(MIN_WINDOW, MAX_WINDOW)
    }
}

/// A data set ready to be loaded, with its tiles.
#[derive(Debug)]
pub struct Pipeline {
    index: Arc<Index>,
    settings: Settings,
    tiles: Arc<Tiles>,
}

impl Pipeline {
    /// A pipeline over `index`.
    ///
    /// # Errors
    /// [`Error::Argument`] for settings outside their domain, [`Error::Io`] for a cache file that cannot be opened.
    pub fn new(index: Index, settings: Settings, keep: &Keep) -> Result<Self> {
        if settings.side == 0 || settings.batch_size == 0 || settings.rank >= settings.world {
            return Err(Error::Argument("side and batch_size must be positive, rank below world".into()));
        }
        let index = Arc::new(index);
        let tiles = Arc::new(Tiles::new(Arc::clone(&index), settings, keep)?);
        Ok(Self { index, settings, tiles })
    }

    /// Start threads that fill this rank's batches from an epoch's sampler position `first` on; a training course goes
    /// on into the epochs after it, validation ends. Batches lie in slots that the consumer `lends`, or in our memory.
    ///
    /// # Errors
    /// [`Error::Argument`] when no thread can be started.
    pub fn start(&self, course: Course, at: (u32, usize), threads: usize, lends: bool) -> Result<BatchStream> {
        let maker = sample::Maker::new(Arc::clone(&self.index), Arc::clone(&self.tiles), self.settings.side);
        stream::start(maker, course, self.settings, at, threads, lends)
    }

    /// Samples that could not be read and were skipped, and why.
    pub fn skipped(&self) -> Vec<(usize, String)> {
        self.tiles.skipped()
    }

    /// How many pictures were decoded so far.
    pub fn num_decoded(&self) -> usize {
        self.tiles.num_decoded()
    }
}
