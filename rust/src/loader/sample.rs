//! One picture of a batch: tiles are placed, moved, coloured; its boxes and outlines go the same way.

use std::sync::Arc;

use super::Index;
use super::planner::Ticket;
use super::tiles::{Tile, Tiles};
use crate::augment::{
    BoxXyxy, Canvas, Map, NormRing, Object, Plan, Ring, Scene, Second, Union, View, choose_pasted, choose_window,
    render,
};
use crate::error::Result;
use crate::image::{Letterbox, give_back, letterbox_into};

/// An object of a finished picture; all coordinates are fractions of its sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// cx, cy, w, h in 0..1.
    pub cxcywh_norm: [f32; 4],
    /// Class.
    pub class: i64,
    /// Polygons in 0..1; none where the box is all there is.
    pub rings: Vec<NormRing>,
    /// Polygons pasted above it, which hide a part of it.
    pub above: Arc<Vec<NormRing>>,
}

impl Target {
    /// An object of a picture of (height, width) pixels.
    fn new(object: &Object, above: Arc<Vec<NormRing>>, size: (usize, usize)) -> Self {
        let cxcywh_norm = object.xyxy.cxcywh_norm(size.0 as f64, size.1 as f64);
        Self { cxcywh_norm, class: object.class, rings: norm_rings(&object.rings, size), above }
    }

    /// The objects of a scene on a square picture, some of which were pasted.
    fn all(objects: &[Object], pasted: &[Ring], side: usize) -> Vec<Self> {
        let size = (side, side);
        let pasted = Arc::new(norm_rings(pasted, size));
        let above = |object: &Object| if object.is_pasted { Arc::default() } else { Arc::clone(&pasted) };
        objects.iter().map(|object| Self::new(object, above(object), size)).collect()
    }
}

/// Polygons as fractions of a picture of (height, width) pixels.
fn norm_rings(rings: &[Ring], size: (usize, usize)) -> Vec<NormRing> {
    let (height, width) = (size.0 as f64, size.1 as f64);
    let norm = |&(x, y): &(f64, f64)| [(x / width) as f32, (y / height) as f32];
    rings.iter().map(|ring| ring.iter().map(norm).collect()).collect()
}

/// Which sample a finished picture is, its targets and its letterbox [gain, left, top] (NaN when augmented).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Made {
    pub(super) sample: usize,
    pub(super) targets: Vec<Target>,
    pub(super) letterbox: [f32; 3],
}

/// A scene before it moves: its first sample, its canvas and its objects there.
type Laid = (usize, Canvas, Vec<Object>);

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
            Some(plan) => self.augmented(ticket, plan, size.0, slot),
        }
    }

    fn letterboxed(&self, sample: usize, size: (usize, usize), slot: &mut [u8]) -> Result<Made> {
        let Tile { sample, image, original } = self.tiles.get(sample)?;
        let fit = Letterbox::within(original, self.side, size);
        letterbox_into(image.view(), size, fit, slot);
        if let Some(image) = Arc::into_inner(image) {
            give_back(image);
        }
        let (gain, shift) = ((fit.gain, fit.gain), (fit.left as f64, fit.top as f64));
        let frame = frame(original);
        let placed =
            |object: Object| Target::new(&object.as_annotated(&frame).mapped(gain, shift), Arc::default(), size);
        let targets = self.annotated(sample).map(placed).collect();
        Ok(Made { sample, targets, letterbox: [fit.gain as f32, fit.left as f32, fit.top as f32] })
    }

    fn augmented(&self, ticket: &Ticket, plan: &Plan, side: usize, slot: &mut [u8]) -> Result<Made> {
        let [a, b, c, d, e, f, g] = ticket.partners;
        let (sample, view, objects) = self.view([ticket.sample, a, b, c], &plan.scenes[0], plan, side)?;
        let mut targets = Target::all(&objects, &view.pasted, side);
        let second = || self.view([d, e, f, g], &plan.scenes[1], plan, side);
        let second = match plan.union {
            Union::Alone => Second::None,
            Union::Mixup => {
                let (_, view, others) = second()?;
                targets.extend(Target::all(&others, &view.pasted, side));
                Second::Blend(view, plan.weight)
            }
            Union::Cutmix => match choose_window(&plan.cuts, plan.pick, side, &objects) {
                None => Second::None,
                Some(window) => {
                    let (_, view, others) = second()?;
                    let shown: Vec<_> = others.into_iter().filter_map(|object| object.shown(&window)).collect();
                    targets.extend(Target::all(&shown, &view.pasted, side));
                    Second::Window(view, window)
                }
            },
        };
        render(&view, &second, &plan.gains, slot);
        Ok(Made { sample, targets, letterbox: [f32::NAN; 3] })
    }

    /// A scene of one sample or four: its first sample, what is seen, and its objects in output pixels.
    fn view(&self, samples: [usize; 4], scene: &Scene, plan: &Plan, side: usize) -> Result<(usize, View, Vec<Object>)> {
        let (sample, canvas, mut objects) =
            if scene.is_mosaic { self.mosaic(samples, scene.centre)? } else { self.single(samples[0])? };
        let pasted = choose_pasted(&objects, canvas.width as f64, plan.paste);
        let flips = (plan.flip_ud, plan.flip_lr);
        let map = Map::new(&scene.motion, (canvas.height, canvas.width), self.side, side, flips);
        let rings = pasted.iter().flat_map(|object| &object.rings).map(|ring| map.place_ring(ring)).collect();
        objects.extend(pasted);
        let placed = objects.iter().filter_map(|object| object.placed(&map)).collect();
        Ok((sample, View { canvas, map, pasted: rings }, placed))
    }

    fn single(&self, sample: usize) -> Result<Laid> {
        let tile = self.tiles.get(sample)?;
        let objects = self.on_tile(&tile, (0, 0)).collect();
        Ok((tile.sample, Canvas::single(tile.image), objects))
    }

    fn mosaic(&self, samples: [usize; 4], centre: (f64, f64)) -> Result<Laid> {
        let [a, b, c, d] = samples.map(|sample| self.tiles.get(sample));
        let tiles = [a?, b?, c?, d?];
        let centre = [centre.0, centre.1].map(|part| (part * self.side as f64) as usize);
        let canvas = Canvas::mosaic(tiles.clone().map(|tile| tile.image), self.side, (centre[0], centre[1]));
        let frame = frame((canvas.height, canvas.width));
        let objects = tiles
            .iter()
            .zip(&canvas.tiles)
            .flat_map(|(tile, place)| self.on_tile(tile, (place.left, place.top)))
            .filter_map(|object| object.within(&frame))
            .collect();
        Ok((tiles[0].sample, canvas, objects))
    }

    /// Objects of a tile that lies at (left, top) on a canvas.
    fn on_tile<'a>(&'a self, tile: &Tile, at: (i64, i64)) -> impl Iterator<Item = Object> + use<'a> {
        let (height, width) = tile.original;
        let scale = (tile.image.width as f64 / width as f64, tile.image.height as f64 / height as f64);
        let shift = (at.0 as f64, at.1 as f64);
        let frame = frame(tile.original);
        self.annotated(tile.sample).filter_map(move |o| Some(o.within(&frame)?.mapped(scale, shift)))
    }

    /// Objects of a sample in pixels of the upright picture.
    fn annotated(&self, sample: usize) -> impl Iterator<Item = Object> + '_ {
        let rows = self.index.offsets[sample]..self.index.offsets[sample + 1];
        rows.map(|row| {
            let [x1, y1, x2, y2] = self.index.boxes[row].map(f64::from);
            let rings = self.index.outlines.of(row);
            Object { xyxy: BoxXyxy { x1, y1, x2, y2 }, class: self.index.classes[row], rings, is_pasted: false }
        })
    }
}

/// The border of a picture.
fn frame((height, width): (usize, usize)) -> BoxXyxy {
    BoxXyxy { x1: 0.0, y1: 0.0, x2: width as f64, y2: height as f64 }
}
