//! From a position in an epoch to pictures and numbers, by the keyed streams alone.

use std::ops::Range;

use super::{Index, Kind, Partners, Settings};
use crate::augment::{Plan, Ranges, draw_side, side_limits};
use crate::random::{Purpose, Stream};

/// Rectangular batches are padded to multiples of this, and by half of it more: as the YOLO validators do.
const STRIDE: f64 = 32.0;
const RECT_PAD: f64 = 0.5;
/// Pictures that the very first mosaics are made of.
const START: usize = 16;

/// What one slot of a batch is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ticket {
    /// The sample.
    pub sample: usize,
    /// Partners: three of its mosaic, four of the scene that is mixed in.
    pub partners: [usize; 7],
    /// The numbers of a training picture; none for validation.
    pub plan: Option<Plan>,
}

/// What all epochs of a run have in common.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// Seed of order and augmentation.
    pub seed: u64,
    /// The augmentations of training pictures; none for validation.
    pub ranges: Option<Ranges>,
    /// The epoch from which on pictures are no longer joined with others.
    pub close_epoch: Option<u32>,
}

impl Course {
    /// The augmentations of an epoch.
    fn ranges(&self, number: u32) -> Option<Ranges> {
        let closed = |ranges| Ranges { mosaic: 0.0, mixup: 0.0, cutmix: 0.0, copy_paste: 0.0, ..ranges };
        if self.close_epoch.is_some_and(|from| number >= from) { self.ranges.map(closed) } else { self.ranges }
    }

    /// Pixels of the largest picture of a batch.
    pub(super) fn most_pixels(&self, settings: Settings) -> usize {
        let side = match (settings.kind, &self.ranges) {
            (Kind::Rect, _) => padded(1.0, settings.side),
            (Kind::Train, Some(ranges)) if ranges.multi_scale > 0.0 => side_limits(settings.side, ranges.multi_scale).1,
            _ => settings.side,
        };
        side * side
    }
}

/// The order and the numbers of one epoch.
#[derive(Clone, Debug)]
pub struct Epoch {
    seed: u64,
    number: u32,
    order: Vec<usize>,
    /// What was loaded before, from whose end the first mosaics take their partners.
    before: Vec<usize>,
    window: usize,
    ranges: Option<Ranges>,
}

impl Epoch {
    /// Shuffled by (seed, epoch) for training; else in order, or by rising height / width where batches are
    /// rectangular.
    pub fn new(course: &Course, number: u32, index: &Index, settings: Settings) -> Self {
        let seed = course.seed;
        let length = index.paths.len();
        let shuffled = |number| Stream::new(seed, number, 0, Purpose::Order).permutation(length);
        let order = match settings.kind {
            Kind::Train => shuffled(number),
            Kind::Square => (0..length).collect(),
            Kind::Rect => by_aspect(&index.sizes),
        };
        let (before, window) = match (settings.kind, settings.partners, number) {
            (Kind::Train, Partners::Uniform, _) => (order.clone(), length), // so that all are as likely
            (Kind::Train, Partners::Recent, 0) => (start_again(&order), settings.window()),
            (Kind::Train, Partners::Recent, _) => (shuffled(number - 1), settings.window()),
            _ => (Vec::new(), 0),
        };
        Self { seed, number, order, before, window, ranges: course.ranges(number) }
    }

    /// Number of positions.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is nothing to load.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The ticket of a position below `len`.
    pub fn ticket(&self, position: usize) -> Ticket {
        let sample = self.order[position];
        let Some(ranges) = &self.ranges else {
            return Ticket { sample, partners: [sample; 7], plan: None };
        };
        let mut stream = Stream::new(self.seed, self.number, position as u32, Purpose::Augment);
        let plan = Plan::draw(&mut stream, ranges, self.len().min(self.window));
        let partners = plan.partners.map(|back| self.sample_before(position, back));
        Ticket { sample, partners, plan: Some(plan) }
    }

    /// The sample `back` positions earlier: its tile was made a moment ago, so a mosaic costs one decode.
    fn sample_before(&self, position: usize, back: usize) -> usize {
        match position.checked_sub(back) {
            Some(earlier) => self.order[earlier],
            None => self.before[self.len() + position - back],
        }
    }

    /// (height, width) of the pictures of the batch at `positions`: drawn for the batch, fitted to its pictures, or that
    /// of every batch.
    pub(super) fn batch_size_px(&self, index: &Index, settings: Settings, positions: Range<usize>) -> (usize, usize) {
        match (settings.kind, &self.ranges) {
            (Kind::Rect, _) => self.fitted(index, settings.side, positions),
            (Kind::Train, Some(ranges)) if ranges.multi_scale > 0.0 => {
                let batch = positions.start / settings.batch_size;
                let mut stream = Stream::new(self.seed, self.number, batch as u32, Purpose::Size);
                let side = draw_side(&mut stream, settings.side, ranges.multi_scale);
                (side, side)
            }
            _ => (settings.side, settings.side),
        }
    }

    /// The smallest (height, width) that holds the pictures with their longer side at `side`.
    fn fitted(&self, index: &Index, side: usize, positions: Range<usize>) -> (usize, usize) {
        let aspects = self.order[positions].iter().map(|&sample| aspect(index.sizes[sample]));
        let (low, high) = aspects.fold((f64::INFINITY, 0.0f64), |(low, high), a| (low.min(a), high.max(a)));
        let (height, width) = if high < 1.0 {
            (high, 1.0)
        } else if low > 1.0 {
            (1.0, 1.0 / low)
        } else {
            (1.0, 1.0)
        };
        (padded(height, side), padded(width, side))
    }
}

/// A part of the longer side, as rectangular batches round it.
fn padded(part: f64, side: usize) -> usize {
    ((part * side as f64 / STRIDE + RECT_PAD).ceil() * STRIDE) as usize
}

/// The first positions over and over, as the partners before an epoch that has none before it: the first batch of a run
/// then decodes what it shows, and no more.
fn start_again(order: &[usize]) -> Vec<usize> {
    order.iter().take(START).cycle().take(order.len()).copied().collect()
}

fn aspect((height, width): (usize, usize)) -> f64 {
    height as f64 / width as f64
}

/// Samples by rising height / width; equals keep their order.
fn by_aspect(sizes: &[(usize, usize)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| aspect(sizes[a]).total_cmp(&aspect(sizes[b])));
    order
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Course, Epoch, START};
    use crate::augment::Ranges;
    use crate::loader::{Index, Kind, Outlines, Partners, Settings};

    const LENGTH: usize = 1000;
    const SETTINGS: Settings = Settings {
        side: 640,
        batch_size: 16,
        kind: Kind::Train,
        partners: Partners::Recent,
        as_floats: false,
        masks: false,
        skip: false,
        rank: 0,
        world: 1,
    };

    fn epoch(number: u32, partners: Partners) -> Epoch {
        let index = Index {
            paths: vec![PathBuf::new(); LENGTH],
            sizes: vec![(1, 1); LENGTH],
            boxes: vec![],
            classes: vec![],
            offsets: vec![0; LENGTH + 1],
            outlines: Outlines { points: vec![], rings: vec![0], objects: vec![0] },
        };
        let ranges = Ranges { mosaic: 1.0, mixup: 1.0, ..Ranges::default() };
        let course = Course { seed: 3, ranges: Some(ranges), close_epoch: Some(3) };
        Epoch::new(&course, number, &index, Settings { partners, ..SETTINGS })
    }

    #[test]
    fn partners_of_both_scenes_were_loaded_a_moment_ago() {
        let (before, epoch) = (epoch(1, Partners::Recent), epoch(2, Partners::Recent));
        let loaded = [before.order.clone(), epoch.order.clone()].concat();
        for position in 0..LENGTH {
            let now = LENGTH + position;
            let recent = &loaded[now + 1 - SETTINGS.window()..=now];
            let partners = epoch.ticket(position).partners;
            assert!(partners.iter().all(|partner| recent.contains(partner)), "{position}");
        }
    }

    #[test]
    fn the_first_batch_of_a_run_needs_its_own_pictures_alone() {
        let epoch = epoch(0, Partners::Recent);
        for position in 0..LENGTH {
            let own = &epoch.order[..START.max(position + 1)];
            assert!(epoch.ticket(position).partners.iter().all(|partner| own.contains(partner)), "{position}");
        }
    }

    #[test]
    fn uniform_partners_are_every_sample_as_often() {
        let epoch = epoch(2, Partners::Uniform);
        let mut counts = [0u32; LENGTH];
        for position in 0..LENGTH {
            epoch.ticket(position).partners.iter().for_each(|&partner| counts[partner] += 1);
        }
        // 7 expected; chi-squared over its freedom has the deviation sqrt(2 / 999) = 0.045
        let spread = counts.iter().map(|&n| (f64::from(n) - 7.0).powi(2) / 7.0).sum::<f64>() / (LENGTH - 1) as f64;
        assert!((spread - 1.0).abs() < 0.18, "{spread}");
        let own = |position: usize| epoch.ticket(position).partners.contains(&epoch.order[position]);
        assert!((0..LENGTH).filter(|&position| own(position)).count() < 25);
    }

    #[test]
    fn pictures_stay_alone_from_the_closing_epoch_on() {
        let scenes = |number| epoch(number, Partners::Recent).ticket(7).plan.unwrap().scenes;
        assert!(scenes(2).iter().all(|scene| scene.is_mosaic));
        assert!([3, 4].iter().all(|&number| scenes(number).iter().all(|scene| !scene.is_mosaic)));
    }
}
