//! The latest tiles: enough of them that a mosaic's partners need not be decoded again.
//!
//! A tile depends on its picture alone, so what is held never changes a batch. Tiles leave in the order in which they
//! came; a tile that two threads want at once is made once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::tiles::Tile;
use crate::error::Result;
use crate::image::give_back;

type Cell = Arc<Mutex<Option<Tile>>>;

#[derive(Debug, Default)]
struct Entries {
    cells: HashMap<usize, Cell>,
    arrivals: VecDeque<usize>,
}

#[derive(Debug)]
pub(super) struct TileCache {
    entries: Mutex<Entries>,
    capacity: usize,
}

impl TileCache {
    /// A cache of `capacity` tiles.
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: Mutex::default(), capacity }
    }

    /// The tile of a sample, made when it is not there.
    pub(super) fn get(&self, sample: usize, make: impl FnOnce() -> Result<Tile>) -> Result<Tile> {
        let cell = lock(&self.entries).cell(sample, self.capacity);
        let mut held = lock(&cell);
        if let Some(tile) = &*held {
            return Ok(tile.clone());
        }
        let tile = make()?;
        *held = Some(tile.clone());
        Ok(tile)
    }
}

impl Entries {
    fn cell(&mut self, sample: usize, capacity: usize) -> Cell {
        if let Some(cell) = self.cells.get(&sample) {
            return Arc::clone(cell);
        }
        while self.arrivals.len() >= capacity.max(1) {
            let oldest = self.arrivals.pop_front().and_then(|oldest| self.cells.remove(&oldest));
            if let Some(held) = oldest.and_then(Arc::into_inner) {
                drop_tile(held);
            }
        }
        self.arrivals.push_back(sample);
        Arc::clone(self.cells.entry(sample).or_default())
    }
}

/// Give the memory of a tile to later ones, if nobody else holds it.
fn drop_tile(held: Mutex<Option<Tile>>) {
    let tile = held.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(image) = tile.and_then(|tile| Arc::into_inner(tile.image)) {
        give_back(image);
    }
}

/// A tile whose maker panicked is not there, so a poisoned lock holds nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Tile, TileCache, lock};
    use crate::image::Image;

    fn tile(sample: usize) -> Tile {
        let image = Arc::new(Image { height: 1, width: 1, pixels: vec![0; 3] });
        Tile { sample, image, original: (1, 1) }
    }

    #[test]
    fn the_first_that_came_leaves_first_and_the_limit_holds() {
        let cache = TileCache::new(3);
        for sample in [0, 1, 2, 0, 3] {
            assert_eq!(cache.get(sample, || Ok(tile(sample))).unwrap().sample, sample);
        }
        let held = lock(&cache.entries);
        assert_eq!(held.cells.len(), 3);
        assert!(held.cells.contains_key(&1) && !held.cells.contains_key(&0));
    }

    #[test]
    fn two_threads_make_a_tile_once() {
        let (cache, made) = (TileCache::new(3), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    cache.get(7, || {
                        made.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        Ok(tile(7))
                    })
                });
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}
