//! One picture of a batch: decode, place, warp, colour; its boxes and outlines go the same way.

use std::sync::Arc;

use super::Index;
use super::cache::{Tile, TileCache};
use super::planner::Ticket;
use crate::augment::{
    BoxXyxy, Canvas, Map, Object, Plan, Scene, Second, Union, View, choose_pasted, choose_window, render,
};
use crate::error::Result;
use crate::image::{Letterbox, Options, decode_file, letterbox_into, resize};

/// An object of a finished picture; all coordinates are fractions of its side.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// cx, cy, w, h in 0..1.
    pub cxcywh_norm: [f32; 4],
    /// Class.
    pub class: i64,
    /// Polygons in 0..1; none where the box is all there is.
    pub rings: Vec<Vec<[f32; 2]>>,
}

impl Target {
    /// An object of a picture of `side` pixels.
    fn new(object: &Object, side: usize) -> Self {
        let side = side as f64;
        let norm = |&(x, y): &(f64, f64)| [(x / side) as f32, (y / side) as f32];
        let rings = object.rings.iter().map(|ring| ring.iter().map(norm).collect()).collect();
        Self { cxcywh_norm: object.xyxy.cxcywh_norm(side, side), class: object.class, rings }
    }
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
    pub(super) fn make(&self, ticket: &Ticket, side: usize, slot: &mut [u8]) -> Result<Made> {
        match &ticket.plan {
            None => self.letterboxed(ticket.sample, side, slot),
            Some(plan) => self.augmented(ticket, plan, side, slot),
        }
    }

    fn letterboxed(&self, sample: usize, side: usize, slot: &mut [u8]) -> Result<Made> {
        let image = decode_file(&self.index.paths[sample], Options::default())?;
        let target = (side, side);
        let fit = Letterbox::fit((image.height, image.width), target, false);
        letterbox_into(&image, target, fit, slot);
        let (gain, shift) = ((fit.gain, fit.gain), (fit.left as f64, fit.top as f64));
        let frame = frame(image.height, image.width);
        let placed = |object: Object| Target::new(&object.as_annotated(&frame).mapped(gain, shift), side);
        let targets = self.annotated(sample).map(placed).collect();
        Ok(Made { targets, letterbox: [fit.gain as f32, fit.left as f32, fit.top as f32] })
    }

    fn augmented(&self, ticket: &Ticket, plan: &Plan, side: usize, slot: &mut [u8]) -> Result<Made> {
        let [a, b, c, d, e, f, g] = ticket.partners;
        let (view, mut objects) = self.view([ticket.sample, a, b, c], &plan.scenes[0], plan, side)?;
        let second = || self.view([d, e, f, g], &plan.scenes[1], plan, side);
        let second = match plan.union {
            Union::Alone => Second::None,
            Union::Mixup => {
                let (view, others) = second()?;
                objects.extend(others);
                Second::Blend(view, plan.weight)
            }
            Union::Cutmix => match choose_window(&plan.cuts, plan.pick, side, &objects) {
                None => Second::None,
                Some(window) => {
                    let (view, others) = second()?;
                    objects.extend(others.into_iter().filter_map(|object| object.shown(&window)));
                    Second::Window(view, window)
                }
            },
        };
        render(&view, &second, &plan.gains, slot);
        let targets = objects.iter().map(|object| Target::new(object, side)).collect();
        Ok(Made { targets, letterbox: [f32::NAN; 3] })
    }

    /// A scene of one sample or four, and its objects in output pixels.
    fn view(&self, samples: [usize; 4], scene: &Scene, plan: &Plan, side: usize) -> Result<(View, Vec<Object>)> {
        let (canvas, mut objects) =
            if scene.is_mosaic { self.mosaic(samples, scene.centre)? } else { self.single(samples[0])? };
        let pasted = choose_pasted(&objects, canvas.width as f64, plan.paste);
        let flips = (plan.flip_ud, plan.flip_lr);
        let map = Map::new(&scene.motion, (canvas.height, canvas.width), self.side, side, flips);
        let rings = pasted.iter().flat_map(|object| &object.rings).map(|ring| map.place_ring(ring)).collect();
        objects.extend(pasted);
        let placed = objects.iter().filter_map(|object| object.placed(&map)).collect();
        Ok((View { canvas, map, pasted: rings }, placed))
    }

    fn single(&self, sample: usize) -> Result<(Canvas, Vec<Object>)> {
        let tile = self.tile(sample)?;
        let objects = self.on_tile(sample, &tile, (0, 0)).collect();
        Ok((Canvas::single(tile.image), objects))
    }

    fn mosaic(&self, samples: [usize; 4], centre: (f64, f64)) -> Result<(Canvas, Vec<Object>)> {
        let [a, b, c, d] = samples.map(|sample| self.tile(sample));
        let tiles = [a?, b?, c?, d?];
        let centre = [centre.0, centre.1].map(|part| (part * self.side as f64) as usize);
        let canvas = Canvas::mosaic(tiles.clone().map(|tile| tile.image), self.side, (centre[0], centre[1]));
        let frame = frame(canvas.height, canvas.width);
        let placed = samples.iter().zip(&tiles).zip(&canvas.tiles);
        let objects = placed
            .flat_map(|((&sample, tile), place)| self.on_tile(sample, tile, (place.left, place.top)))
            .filter_map(|object| object.within(&frame))
            .collect();
        Ok((canvas, objects))
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

    /// Objects of a sample on a canvas, whose tile lies at (left, top).
    fn on_tile<'a>(&'a self, sample: usize, tile: &Tile, at: (i64, i64)) -> impl Iterator<Item = Object> + use<'a> {
        let (height, width) = tile.original;
        let scale = (tile.image.width as f64 / width as f64, tile.image.height as f64 / height as f64);
        let shift = (at.0 as f64, at.1 as f64);
        let frame = frame(height, width);
        self.annotated(sample).filter_map(move |o| Some(o.within(&frame)?.mapped(scale, shift)))
    }

    /// Objects of a sample in pixels of the upright picture.
    fn annotated(&self, sample: usize) -> impl Iterator<Item = Object> + '_ {
        let rows = self.index.offsets[sample]..self.index.offsets[sample + 1];
        rows.map(|row| {
            let [x1, y1, x2, y2] = self.index.boxes[row].map(f64::from);
            let rings = self.index.outlines.of(row);
            Object { xyxy: BoxXyxy { x1, y1, x2, y2 }, class: self.index.classes[row], rings }
        })
    }
}

/// The border of a picture.
fn frame(height: usize, width: usize) -> BoxXyxy {
    BoxXyxy { x1: 0.0, y1: 0.0, x2: width as f64, y2: height as f64 }
}
