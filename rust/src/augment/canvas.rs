//! The picture before the warp: one tile, or four around a centre; grey 114 where no tile lies. Never built whole.

use std::sync::Arc;

use crate::image::Image;

/// Grey where nothing lies.
pub(super) const GREY: u8 = 114;

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

    /// Write row `y` with one grey pixel added at both ends; rows outside the canvas are grey.
    pub(super) fn row(&self, y: i64, out: &mut [u8]) {
        out.fill(GREY);
        if !(0..self.height as i64).contains(&y) {
            return;
        }
        for tile in &self.tiles {
            let row = y - tile.top;
            if !(0..tile.image.height as i64).contains(&row) {
                continue;
            }
            let first = (-tile.left).clamp(0, tile.image.width as i64) as usize;
            let last = (self.width as i64 - tile.left).clamp(first as i64, tile.image.width as i64) as usize;
            let from = 3 * (row as usize * tile.image.width);
            let to = 3 * (tile.left + first as i64 + 1) as usize;
            out[to..to + 3 * (last - first)].copy_from_slice(&tile.image.pixels[from + 3 * first..from + 3 * last]);
        }
    }
}
