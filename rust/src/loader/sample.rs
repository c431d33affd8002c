//! One picture of a batch: decode, place, warp, colour; its boxes go the same way.

use std::sync::Arc;

use super::Index;
use super::cache::{Tile, TileCache};
use super::planner::Ticket;
use crate::augment::{BoxXyxy, Canvas, Plan, Warp, is_kept, shift_hsv, warp_into};
use crate::error::Result;
use crate::image::{Letterbox, Options, decode_file, letterbox_into, resize};

/// A box of a finished picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// cx, cy, w, h in 0..1.
    pub cxcywh_norm: [f32; 4],
    /// Class.
    pub class: i64,
}

/// A finished picture's targets and its letterbox [gain, left, top] (NaN when augmented).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Made {
    pub(super) targets: Vec<Target>,
    pub(super) letterbox: [f32; 3],
}

/// Makes pictures; shared by all threads.
#[derive(Debug)]
pub(super) struct Maker {
    index: Arc<Index>,
    tiles: Arc<TileCache>,
    side: usize,
}

impl Maker {
    pub(super) fn new(index: Arc<Index>, tiles: Arc<TileCache>, side: usize) -> Self {
        Self { index, tiles, side }
    }

    /// Fill a slot of 3 * side * side bytes.
    pub(super) fn make(&self, ticket: &Ticket, slot: &mut [u8]) -> Result<Made> {
        match &ticket.plan {
            None => self.letterboxed(ticket.sample, slot),
            Some(plan) => self.augmented(ticket, plan, slot),
        }
    }

    fn letterboxed(&self, sample: usize, slot: &mut [u8]) -> Result<Made> {
        let image = decode_file(&self.index.paths[sample], Options::default())?;
        let target = (self.side, self.side);
        let fit = Letterbox::fit((image.height, image.width), target, false);
        letterbox_into(&image, target, fit, slot);
        let side = self.side as f64;
        let targets = self.annotated(sample).map(|(b, class)| {
            let b = b.clipped(image.height as f64, image.width as f64);
            let placed = b.mapped((fit.gain, fit.gain), (fit.left as f64, fit.top as f64));
            Target { cxcywh_norm: placed.cxcywh_norm(side, side), class }
        });
        let letterbox = [fit.gain as f32, fit.left as f32, fit.top as f32];
        Ok(Made { targets: targets.collect(), letterbox })
    }

    fn augmented(&self, ticket: &Ticket, plan: &Plan, slot: &mut [u8]) -> Result<Made> {
        let (canvas, boxes) = if plan.is_mosaic { self.mosaic(ticket, plan)? } else { self.single(ticket.sample)? };
        let warp = Warp::new(plan, &canvas, self.side);
        warp_into(&canvas, &warp, slot);
        shift_hsv(slot, &plan.gains);
        let side = self.side as f64;
        let kept = boxes.into_iter().filter_map(|(before, class)| {
            let after = warp.apply(&before);
            let target = Target { cxcywh_norm: after.cxcywh_norm(side, side), class };
            is_kept(&before, &after, warp.gain).then_some(target)
        });
        Ok(Made { targets: kept.collect(), letterbox: [f32::NAN; 3] })
    }

    fn single(&self, sample: usize) -> Result<(Canvas, Vec<(BoxXyxy, i64)>)> {
        let tile = self.tile(sample)?;
        let boxes = self.boxes_on_tile(sample, &tile, (0, 0));
        Ok((Canvas::single(tile.image), boxes))
    }

    fn mosaic(&self, ticket: &Ticket, plan: &Plan) -> Result<(Canvas, Vec<(BoxXyxy, i64)>)> {
        let samples = [ticket.sample, ticket.partners[0], ticket.partners[1], ticket.partners[2]];
        let [a, b, c, d] = samples.map(|sample| self.tile(sample));
        let tiles = [a?, b?, c?, d?];
        let centre = [plan.centre.0, plan.centre.1].map(|part| (part * self.side as f64) as usize);
        let canvas = Canvas::mosaic(tiles.clone().map(|tile| tile.image), self.side, (centre[0], centre[1]));
        let (height, width) = (canvas.height as f64, canvas.width as f64);
        let placed = samples.iter().zip(&tiles).zip(&canvas.tiles);
        let boxes = placed
            .flat_map(|((&sample, tile), place)| self.boxes_on_tile(sample, tile, (place.left, place.top)))
            .map(|(b, class)| (b.clipped(height, width), class))
            .filter(|(b, _)| b.width() > 0.0 && b.height() > 0.0)
            .collect();
        Ok((canvas, boxes))
    }

    /// The picture with its longer side at the output side (rounded up, as the shorter one).
    fn tile(&self, sample: usize) -> Result<Tile> {
        self.tiles.get(sample, || {
            let image = decode_file(&self.index.paths[sample], Options::default())?;
            let original = (image.height, image.width);
            let ratio = self.side as f64 / image.height.max(image.width) as f64;
            let scaled = |of: usize| ((of as f64 * ratio).ceil() as usize).clamp(1, self.side);
            let (height, width) = (scaled(image.height), scaled(image.width));
            let image = if (height, width) == original { image } else { resize(&image, height, width) };
            Ok(Tile { image: Arc::new(image), original })
        })
    }

    fn boxes_on_tile(&self, sample: usize, tile: &Tile, at: (i64, i64)) -> Vec<(BoxXyxy, i64)> {
        let (height, width) = (tile.original.0 as f64, tile.original.1 as f64);
        let scale = (tile.image.width as f64 / width, tile.image.height as f64 / height);
        let shift = (at.0 as f64, at.1 as f64);
        self.annotated(sample).map(|(b, class)| (b.clipped(height, width).mapped(scale, shift), class)).collect()
    }

    /// Boxes of a sample in pixels of the upright picture.
    fn annotated(&self, sample: usize) -> impl Iterator<Item = (BoxXyxy, i64)> + '_ {
        let rows = self.index.offsets[sample]..self.index.offsets[sample + 1];
        rows.map(|row| {
            let [x1, y1, x2, y2] = self.index.boxes[row].map(f64::from);
            (BoxXyxy { x1, y1, x2, y2 }, self.index.classes[row])
        })
    }
}
