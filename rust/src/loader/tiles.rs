//! Decoded pictures for whoever puts a batch together: from the files, from memory, or from the cache file.
//!
//! A tile depends on its picture and the loader's settings alone, so where it comes from never changes a batch.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::cache::TileCache;
use super::disk::DiskCache;
use super::{Index, Kind, Settings};
use crate::error::{Error, Result};
use crate::image::{Image, Letterbox, Options, decode_file, resize};

/// With less room than this, starting anywhere decodes more pictures a second time.
const ROOM: usize = 32;

/// A decoded picture, and its original size.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    /// Which sample it is: the one asked for, or the readable one that stands in for it.
    pub(super) sample: usize,
    /// For training at loading size; for validation as decoded, or at letterboxed size.
    pub(super) image: Arc<Image>,
    /// (height, width) before resizing.
    pub(super) original: (usize, usize),
}

/// Where tiles are kept for the whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nowhere: pictures are decoded in every epoch.
    Nothing,
    /// In memory.
    Ram,
    /// In this file.
    Disk(PathBuf),
}

#[derive(Debug)]
enum Store {
    Recent(TileCache),
    Nothing,
    Ram(Vec<OnceLock<Tile>>),
    Disk(DiskCache, TileCache),
}

/// The tiles of a data set.
#[derive(Debug)]
pub(super) struct Tiles {
    index: Arc<Index>,
    settings: Settings,
    store: Store,
    skipped: Mutex<BTreeMap<usize, String>>,
    num_decoded: AtomicUsize,
}

impl Tiles {
    pub(super) fn new(index: Arc<Index>, settings: Settings, keep: &Keep) -> Result<Self> {
        // The window, what other threads made ahead, and some room: tiles made again at the start come out of turn.
        let recent = || TileCache::new(settings.window() + settings.batch_size + ROOM);
        let store = match keep {
            Keep::Nothing if settings.kind == Kind::Train => Store::Recent(recent()),
            Keep::Nothing => Store::Nothing,
            Keep::Ram => Store::Ram(index.paths.iter().map(|_| OnceLock::new()).collect()),
            Keep::Disk(path) => {
                let lengths = index.sizes.iter().map(|&size| {
                    let (height, width) = loading_size(settings, size);
                    3 * height * width
                });
                Store::Disk(DiskCache::open(path, lengths)?, recent())
            }
        };
        Ok(Self { index, settings, store, skipped: Mutex::default(), num_decoded: AtomicUsize::new(0) })
    }

    /// The tile of a sample; where unreadable files are skipped, that of the next readable sample instead.
    ///
    /// # Errors
    /// Those of decoding, with the file's name.
    pub(super) fn get(&self, sample: usize) -> Result<Tile> {
        let first = match self.load(sample) {
            Err(error) if self.settings.skip => error,
            outcome => return outcome,
        };
        self.lock_skipped().entry(sample).or_insert_with(|| first.to_string());
        let count = self.index.paths.len();
        (1..count).find_map(|k| self.load((sample + k) % count).ok()).ok_or(first)
    }

    /// Samples that could not be read, and why.
    pub(super) fn skipped(&self) -> Vec<(usize, String)> {
        self.lock_skipped().iter().map(|(&sample, reason)| (sample, reason.clone())).collect()
    }

    /// How many pictures were decoded so far.
    pub(super) fn num_decoded(&self) -> usize {
        self.num_decoded.load(Ordering::Relaxed)
    }

    fn lock_skipped(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, String>> {
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, sample: usize) -> Result<Tile> {
        match &self.store {
            Store::Recent(recent) => recent.get(sample, || self.decode_resized(sample)),
            Store::Nothing => self.decode(sample),
            Store::Ram(cells) => {
                if let Some(tile) = cells[sample].get() {
                    return Ok(tile.clone());
                }
                let tile = self.decode_resized(sample)?;
                Ok(cells[sample].get_or_init(|| tile).clone())
            }
            Store::Disk(disk, recent) => recent.get(sample, || self.through(disk, sample)),
        }
    }

    /// From the cache file, where it is put when it is not yet there.
    fn through(&self, disk: &DiskCache, sample: usize) -> Result<Tile> {
        let path = &self.index.paths[sample];
        let about = std::fs::metadata(path).map_err(|source| Error::Io { path: path.display().to_string(), source })?;
        if let Some((image, original)) = disk.read(sample, &about) {
            return Ok(Tile { sample, image: Arc::new(image), original });
        }
        let tile = self.decode_resized(sample)?;
        disk.write(sample, &about, &tile.image, tile.original);
        Ok(tile)
    }

    fn decode(&self, sample: usize) -> Result<Tile> {
        self.num_decoded.fetch_add(1, Ordering::Relaxed);
        let image = decode_file(&self.index.paths[sample], Options::default())?;
        let original = (image.height, image.width);
        Ok(Tile { sample, image: Arc::new(image), original })
    }

    fn decode_resized(&self, sample: usize) -> Result<Tile> {
        let tile = self.decode(sample)?;
        let size = loading_size(self.settings, tile.original);
        let image =
            if size == tile.original { tile.image } else { Arc::new(resize(tile.image.view(), size.0, size.1)) };
        Ok(Tile { image, ..tile })
    }
}

/// (height, width) of a tile: for training the longer side becomes the output side and both are rounded up; for
/// validation the size in its letterbox, unless that is larger: it is then enlarged each time, and takes less memory.
fn loading_size(settings: Settings, original: (usize, usize)) -> (usize, usize) {
    let side = settings.side;
    if settings.kind != Kind::Train {
        let place = Letterbox::within(original, side, (side, side));
        return (place.height.min(original.0), place.width.min(original.1));
    }
    let ratio = side as f64 / original.0.max(original.1) as f64;
    let scaled = |of: usize| ((of as f64 * ratio).ceil() as usize).clamp(1, side);
    (scaled(original.0), scaled(original.1))
}
