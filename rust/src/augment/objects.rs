//! Objects on a canvas and in a picture: boxes and outlines move with the pixels.

use super::boxes::{BoxXyxy, is_kept};
use super::map::Map;
use super::picture::Window;
use super::plan::Cut;
use super::polygon::{Ring, clip};

/// An object may cover no more of another one than this to be pasted.
const MAX_COVERED: f64 = 0.3;

/// A box, its class, and its outline where one is known: one polygon per part.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Corners in pixels.
    pub xyxy: BoxXyxy,
    /// Class.
    pub class: i64,
    /// Polygons; none where the box is all there is.
    pub rings: Vec<Ring>,
    /// A mirror image that was pasted above the others.
    pub is_pasted: bool,
}

impl Object {
    /// Scaled, then moved.
    #[must_use]
    pub fn mapped(&self, scale: (f64, f64), shift: (f64, f64)) -> Self {
        let moved = |ring: &Ring| ring.iter().map(|p| (p.0 * scale.0 + shift.0, p.1 * scale.1 + shift.1)).collect();
        let rings = self.rings.iter().map(moved).collect();
        Self { xyxy: self.xyxy.mapped(scale, shift), rings, ..*self }
    }

    /// What a frame shows; the box is the extent of the outline where there is one. None where nothing is left.
    pub fn within(self, frame: &BoxXyxy) -> Option<Self> {
        if self.rings.is_empty() {
            let xyxy = self.xyxy.within(frame);
            return (xyxy.area() > 0.0).then_some(Self { xyxy, ..self });
        }
        self.outlined(self.rings.iter().map(|ring| clip(ring, frame)).collect())
    }

    /// What a frame shows, box and outline each for itself: the box stays as it was annotated.
    #[must_use]
    pub fn as_annotated(&self, frame: &BoxXyxy) -> Self {
        let mut rings: Vec<_> = self.rings.iter().map(|ring| clip(ring, frame)).collect();
        rings.retain(|ring| ring.len() > 2);
        Self { xyxy: self.xyxy.within(frame), rings, ..*self }
    }

    /// The object with these polygons; none where they hold nothing.
    fn outlined(&self, mut rings: Vec<Ring>) -> Option<Self> {
        rings.retain(|ring| ring.len() > 2);
        let xyxy = BoxXyxy::around(rings.iter().flatten().copied()).filter(|b| b.area() > 0.0)?;
        Some(Self { xyxy, rings, ..*self })
    }

    /// The object in the output of a map, where enough of it is left.
    pub fn placed(&self, map: &Map) -> Option<Self> {
        let placed = if self.rings.is_empty() {
            Self { xyxy: map.place_box(&self.xyxy)?, rings: vec![], ..*self }
        } else {
            self.outlined(self.rings.iter().map(|ring| map.place_ring(ring)).collect())?
        };
        self.keeps(placed, map.gain)
    }

    /// What a window of the output shows of an object of the output, where enough of it is left.
    pub fn shown(self, window: &Window) -> Option<Self> {
        let [x1, y1, x2, y2] = [window.left, window.top, window.right, window.bottom].map(|v| v as f64);
        let before = self.clone();
        before.keeps(self.within(&BoxXyxy { x1, y1, x2, y2 })?, 1.0)
    }

    /// `after`, where it is enough of this object zoomed by `gain`.
    fn keeps(&self, after: Self, gain: f64) -> Option<Self> {
        is_kept(&self.xyxy, &after.xyxy, gain, !self.rings.is_empty()).then_some(after)
    }

    /// The object on the mirror image of a canvas.
    fn mirrored(&self, width: f64) -> Self {
        let b = &self.xyxy;
        Self {
            xyxy: BoxXyxy { x1: width - b.x2, x2: width - b.x1, ..*b },
            class: self.class,
            rings: self.rings.iter().map(|ring| ring.iter().map(|p| (width - p.0, p.1)).collect()).collect(),
            is_pasted: true,
        }
    }
}

/// The mirror images that are pasted onto a canvas: of the outlined objects whose mirror image covers less than 0.3 of
/// every box, this part, those that cover least first.
pub fn choose_pasted(objects: &[Object], width: f64, part: f64) -> Vec<Object> {
    if part == 0.0 {
        return vec![];
    }
    let most_covered = |b: &BoxXyxy| objects.iter().map(|o| o.xyxy.shared_area(b) / o.xyxy.area()).fold(0.0, f64::max);
    let mut candidates: Vec<_> = objects
        .iter()
        .filter(|object| !object.rings.is_empty())
        .map(|object| object.mirrored(width))
        .map(|image| (most_covered(&image.xyxy), image))
        .filter(|(covered, _)| *covered < MAX_COVERED)
        .collect();
    candidates.sort_by(|a, b| a.0.total_cmp(&b.0));
    candidates.truncate((part * candidates.len() as f64).round() as usize);
    candidates.into_iter().map(|(_, image)| image).collect()
}

/// The window of a second scene: one of the candidates that touch no object; none where all do.
pub fn choose_window(cuts: &[Cut], pick: f64, side: usize, objects: &[Object]) -> Option<Window> {
    let free: Vec<_> = cuts
        .iter()
        .map(|cut| cut.window(side))
        .filter(|w| w.left < w.right && w.top < w.bottom)
        .filter(|w| {
            let [x1, y1, x2, y2] = [w.left, w.top, w.right, w.bottom].map(|v| v as f64);
            objects.iter().all(|object| object.xyxy.shared_area(&BoxXyxy { x1, y1, x2, y2 }) == 0.0)
        })
        .collect();
    free.get((pick * free.len() as f64) as usize).copied()
}

impl Cut {
    /// Pixels, cut at the borders.
    fn window(&self, side: usize) -> Window {
        let end = |centre: f64, sign: f64| {
            (((centre + sign * self.side / 2.0) * side as f64).round()).clamp(0.0, side as f64) as usize
        };
        Window {
            left: end(self.centre.0, -1.0),
            top: end(self.centre.1, -1.0),
            right: end(self.centre.0, 1.0),
            bottom: end(self.centre.1, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BoxXyxy, Cut, Object, Window, choose_pasted, choose_window};

    fn object(x1: f64, y1: f64, x2: f64, y2: f64) -> Object {
        let xyxy = BoxXyxy { x1, y1, x2, y2 };
        Object { xyxy, class: 0, rings: vec![xyxy.corners().to_vec()], is_pasted: false }
    }

    #[test]
    fn pasted_objects_cover_less_than_a_third_and_the_freest_come_first() {
        let objects = [object(0.0, 0.0, 20.0, 10.0), object(85.0, 0.0, 100.0, 10.0), object(40.0, 0.0, 60.0, 10.0)];
        assert!(choose_pasted(&objects, 100.0, 1.0).is_empty(), "each would cover another or itself");
        let objects = [object(0.0, 0.0, 20.0, 10.0), object(78.0, 0.0, 84.0, 10.0), object(30.0, 0.0, 34.0, 10.0)];
        let pasted = choose_pasted(&objects, 100.0, 1.0);
        assert_eq!(pasted.iter().map(|o| o.xyxy.x1).collect::<Vec<_>>(), [66.0, 16.0]);
        assert_eq!(choose_pasted(&objects, 100.0, 0.5).len(), 1);
        assert!(choose_pasted(&objects, 100.0, 0.0).is_empty());
    }

    #[test]
    fn a_window_touches_no_object() {
        let cuts =
            [(0.5, (0.25, 0.25)), (0.5, (0.75, 0.75)), (0.0, (0.9, 0.1))].map(|(side, centre)| Cut { side, centre });
        let lower = Window { left: 50, top: 50, right: 100, bottom: 100 };
        let found = |pick, objects: &[Object]| choose_window(&cuts, pick, 100, objects);
        assert_eq!(found(0.99, &[]), Some(lower));
        assert_eq!(found(0.0, &[object(0.0, 0.0, 10.0, 10.0)]), Some(lower));
        assert_eq!(found(0.0, &[object(0.0, 0.0, 60.0, 60.0)]), None);
    }
}
