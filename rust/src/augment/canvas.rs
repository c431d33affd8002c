//! The picture before the warp: one tile, or four around a centre; grey 114 where no tile lies. Never built whole.

use std::sync::Arc;

use crate::image::Image;

/// Grey where nothing lies.
pub(super) const GREY: u8 = 114;
/// Grey pixels at each end of a row: both neighbours of a point far outside lie there.
pub(super) const BORDER: usize = 2;

/// A tile on the canvas.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The tile's pixels.
    pub image: Arc<Image>,
    /// Column of the tile's first column; negative where the canvas cuts it.
    pub left: i64,
    /// Row of the tile's first row; negative where the canvas cuts it.
    pub top: i64,
}

/// Pixels of a canvas, ends excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rectangle {
    pub(super) left: i64,
    pub(super) top: i64,
    pub(super) right: i64,
    pub(super) bottom: i64,
}

/// Tiles that do not overlap, on a canvas that cuts them.
#[derive(Clone, Debug)]
pub struct Canvas {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// The tiles.
    pub tiles: Vec<Placed>,
}

impl Canvas {
    /// A single picture.
    pub fn single(image: Arc<Image>) -> Self {
        Self { height: image.height, width: image.width, tiles: vec![Placed { image, left: 0, top: 0 }] }
    }

    /// Four pictures around `centre` (y, x) on a canvas of twice the side: top-left, top-right, bottom-left,
    /// bottom-right, each touching the centre with a corner.
    pub fn mosaic(images: [Arc<Image>; 4], side: usize, centre: (usize, usize)) -> Self {
        let (y, x) = (centre.0 as i64, centre.1 as i64);
        let tiles = images.into_iter().enumerate().map(|(k, image)| Placed {
            left: if k % 2 == 0 { x - image.width as i64 } else { x },
            top: if k < 2 { y - image.height as i64 } else { y },
            image,
        });
        Self { height: 2 * side, width: 2 * side, tiles: tiles.collect() }
    }

    /// Write row `y` with `BORDER` grey pixels added at both ends; rows outside the canvas are grey.
    pub(super) fn row(&self, y: i64, out: &mut [u8]) {
        out.fill(GREY);
        if !(0..self.height as i64).contains(&y) {
            return;
        }
        for (tile, seen) in self.tiles.iter().filter_map(|tile| Some((tile, self.visible(tile)?))) {
            if !(seen.top..seen.bottom).contains(&y) {
                continue;
            }
            let from = 3 * ((y - tile.top) as usize * tile.image.width + (seen.left - tile.left) as usize);
            let (to, length) = (3 * (seen.left as usize + BORDER), 3 * (seen.right - seen.left) as usize);
            out[to..to + length].copy_from_slice(&tile.image.pixels[from..from + length]);
        }
    }

    /// The part of a tile that the canvas shows.
    pub(super) fn visible(&self, tile: &Placed) -> Option<Rectangle> {
        let seen = Rectangle {
            left: tile.left.max(0),
            top: tile.top.max(0),
            right: (tile.left + tile.image.width as i64).min(self.width as i64),
            bottom: (tile.top + tile.image.height as i64).min(self.height as i64),
        };
        (seen.left < seen.right && seen.top < seen.bottom).then_some(seen)
    }

    /// One pixel.
    pub(super) fn pixel(&self, x: i64, y: i64) -> [u8; 3] {
        let shows = |seen: Rectangle| (seen.left..seen.right).contains(&x) && (seen.top..seen.bottom).contains(&y);
        let Some(tile) = self.tiles.iter().find(|tile| self.visible(tile).is_some_and(shows)) else {
            return [GREY; 3];
        };
        let offset = 3 * ((y - tile.top) as usize * tile.image.width + (x - tile.left) as usize);
        [0, 1, 2].map(|c| tile.image.pixels[offset + c])
    }
}
