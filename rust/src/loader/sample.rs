//! One picture of a batch: decode, place, warp, colour; its boxes go the same way.

use std::sync::Arc;

use super::Index;
use super::planner::Ticket;
use super::tiles::{Tile, Tiles};
use crate::augment::{BoxXyxy, Canvas, Plan, Warp, is_kept, shift_hsv, warp_into};
use crate::error::Result;
use crate::image::{Letterbox, letterbox_into};

/// A box of a finished picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// cx, cy, w, h in 0..1.
    pub cxcywh_norm: [f32; 4],
    /// Class.
    pub class: i64,
}

/// Which sample a finished picture is, its targets and its letterbox [gain, left, top] (NaN when augmented).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Made {
    pub(super) sample: usize,
    pub(super) targets: Vec<Target>,
    pub(super) letterbox: [f32; 3],
}

/// A picture before the warp: which sample it is, its canvas and its boxes there.
type Scene = (usize, Canvas, Vec<(BoxXyxy, i64)>);

/// Makes pictures; shared by all threads.
#[derive(Debug)]
pub(super) struct Maker {
    index: Arc<Index>,
    tiles: Arc<Tiles>,
    side: usize,
}

impl Maker {
    pub(super) fn new(index: Arc<Index>, tiles: Arc<Tiles>, side: usize) -> Self {
        Self { index, tiles, side }
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Fill a slot of 3 * height * width bytes; augmented pictures are square.
    pub(super) fn make(&self, ticket: &Ticket, size: (usize, usize), slot: &mut [u8]) -> Result<Made> {
        match &ticket.plan {
            None => self.letterboxed(ticket.sample, size, slot),
            Some(plan) => self.augmented(ticket, plan, slot),
        }
    }

    fn letterboxed(&self, sample: usize, size: (usize, usize), slot: &mut [u8]) -> Result<Made> {
        let Tile { sample, image, original } = self.tiles.get(sample)?;
        let fit = Letterbox::within(original, self.side, size);
        letterbox_into(&image, size, fit, slot);
        let targets = self.annotated(sample).map(|(b, class)| {
            let b = b.clipped(original.0 as f64, original.1 as f64);
            let placed = b.mapped((fit.gain, fit.gain), (fit.left as f64, fit.top as f64));
            Target { cxcywh_norm: placed.cxcywh_norm(size.0 as f64, size.1 as f64), class }
        });
        let letterbox = [fit.gain as f32, fit.left as f32, fit.top as f32];
        Ok(Made { sample, targets: targets.collect(), letterbox })
    }

    fn augmented(&self, ticket: &Ticket, plan: &Plan, slot: &mut [u8]) -> Result<Made> {
        let (sample, canvas, boxes) =
            if plan.is_mosaic { self.mosaic(ticket, plan)? } else { self.single(ticket.sample)? };
        let warp = Warp::new(plan, &canvas, self.side);
        warp_into(&canvas, &warp, slot);
        shift_hsv(slot, &plan.gains);
        let side = self.side as f64;
        let kept = boxes.into_iter().filter_map(|(before, class)| {
            let after = warp.apply(&before);
            let target = Target { cxcywh_norm: after.cxcywh_norm(side, side), class };
            is_kept(&before, &after, warp.gain).then_some(target)
        });
        Ok(Made { sample, targets: kept.collect(), letterbox: [f32::NAN; 3] })
    }

    fn single(&self, sample: usize) -> Result<Scene> {
        let tile = self.tiles.get(sample)?;
        let boxes = self.boxes_on_tile(&tile, (0, 0));
        Ok((tile.sample, Canvas::single(tile.image), boxes))
    }

    fn mosaic(&self, ticket: &Ticket, plan: &Plan) -> Result<Scene> {
        let samples = [ticket.sample, ticket.partners[0], ticket.partners[1], ticket.partners[2]];
        let [a, b, c, d] = samples.map(|sample| self.tiles.get(sample));
        let tiles = [a?, b?, c?, d?];
        let centre = [plan.centre.0, plan.centre.1].map(|part| (part * self.side as f64) as usize);
        let canvas = Canvas::mosaic(tiles.clone().map(|tile| tile.image), self.side, (centre[0], centre[1]));
        let (height, width) = (canvas.height as f64, canvas.width as f64);
        let placed = tiles.iter().zip(&canvas.tiles);
        let boxes = placed
            .flat_map(|(tile, place)| self.boxes_on_tile(tile, (place.left, place.top)))
            .map(|(b, class)| (b.clipped(height, width), class))
            .filter(|(b, _)| b.width() > 0.0 && b.height() > 0.0)
            .collect();
        Ok((tiles[0].sample, canvas, boxes))
    }

    fn boxes_on_tile(&self, tile: &Tile, at: (i64, i64)) -> Vec<(BoxXyxy, i64)> {
        let (height, width) = (tile.original.0 as f64, tile.original.1 as f64);
        let scale = (tile.image.width as f64 / width, tile.image.height as f64 / height);
        let shift = (at.0 as f64, at.1 as f64);
        self.annotated(tile.sample).map(|(b, class)| (b.clipped(height, width).mapped(scale, shift), class)).collect()
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
