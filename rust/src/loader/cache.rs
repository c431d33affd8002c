//! Recently used tiles, bounded in bytes. A tile depends on its picture alone, so the cache never changes a batch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::Result;
use crate::image::Image;

/// A decoded picture at loading size, and its original size.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    pub(super) image: Arc<Image>,
    /// (height, width) before resizing.
    pub(super) original: (usize, usize),
}

#[derive(Debug, Default)]
struct Entries {
    tiles: HashMap<usize, (Tile, u64)>,
    num_bytes: usize,
    clock: u64,
}

#[derive(Debug)]
pub(super) struct TileCache {
    entries: Mutex<Entries>,
    capacity: usize,
}

impl TileCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: Mutex::default(), capacity }
    }

    /// The tile of a sample, made when it is not there.
    pub(super) fn get(&self, sample: usize, make: impl FnOnce() -> Result<Tile>) -> Result<Tile> {
        if let Some(tile) = self.lock().touch(sample) {
            return Ok(tile);
        }
        let tile = make()?;
        self.lock().insert(sample, tile.clone(), self.capacity);
        Ok(tile)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Entries {
    fn touch(&mut self, sample: usize) -> Option<Tile> {
        self.clock += 1;
        let (tile, used) = self.tiles.get_mut(&sample)?;
        *used = self.clock;
        Some(tile.clone())
    }

    fn insert(&mut self, sample: usize, tile: Tile, capacity: usize) {
        self.clock += 1;
        self.num_bytes += tile.image.pixels.len();
        if let Some((old, _)) = self.tiles.insert(sample, (tile, self.clock)) {
            self.num_bytes -= old.image.pixels.len();
        }
        while self.num_bytes > capacity {
            let Some(oldest) = self.tiles.iter().min_by_key(|(_, (_, used))| *used).map(|(&key, _)| key) else {
                return;
            };
            if let Some((old, _)) = self.tiles.remove(&oldest) {
                self.num_bytes -= old.image.pixels.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Tile, TileCache};
    use crate::image::Image;

    #[test]
    fn the_oldest_tile_leaves_first_and_the_limit_holds() {
        let cache = TileCache::new(9);
        let make = || {
            let image = Arc::new(Image { height: 1, width: 1, pixels: vec![0; 3] });
            Ok(Tile { image, original: (1, 1) })
        };
        for sample in [0, 1, 2, 0, 3] {
            cache.get(sample, make).unwrap();
        }
        let held = cache.lock();
        assert_eq!(held.num_bytes, 9);
        assert!(held.tiles.contains_key(&0) && !held.tiles.contains_key(&1));
    }
}
