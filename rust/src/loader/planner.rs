//! From a position in an epoch to pictures and numbers, by the keyed streams alone.

use std::ops::Range;

use super::{Index, Kind, Settings};
use crate::augment::{Plan, Ranges};
use crate::random::{Purpose, Stream};

/// Rectangular batches are padded to multiples of this, and by half of it more: as the YOLO validators do.
const STRIDE: f64 = 32.0;
const RECT_PAD: f64 = 0.5;

/// What one slot of a batch is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ticket {
    /// The sample.
    pub sample: usize,
    /// Partners of a mosaic.
    pub partners: [usize; 3],
    /// The numbers of a training picture; none for validation.
    pub plan: Option<Plan>,
}

/// The order and the numbers of one epoch.
#[derive(Clone, Debug)]
pub struct Epoch {
    seed: u64,
    number: u32,
    order: Vec<usize>,
    /// The order of the epoch before, from whose end the first mosaics take their partners.
    before: Vec<usize>,
    window: usize,
    ranges: Option<Ranges>,
}

impl Epoch {
    /// Shuffled by (seed, epoch) for training; else in order, or by rising height / width where batches are
    /// rectangular.
    pub fn new((seed, number): (u64, u32), index: &Index, settings: Settings, ranges: Option<Ranges>) -> Self {
        let length = index.paths.len();
        let shuffled = |number| Stream::new(seed, number, 0, Purpose::Order).permutation(length);
        let (order, before) = match settings.kind {
            Kind::Train => (shuffled(number), shuffled(number.saturating_sub(1))),
            Kind::Square => ((0..length).collect(), Vec::new()),
            Kind::Rect => (by_aspect(&index.sizes), Vec::new()),
        };
        Self { seed, number, order, before, window: settings.window(), ranges }
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
            return Ticket { sample, partners: [sample; 3], plan: None };
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

    /// (height, width) of the batch at `positions`.
    pub(super) fn batch_size_px(&self, index: &Index, settings: Settings, positions: Range<usize>) -> (usize, usize) {
        let side = settings.side;
        if settings.kind != Kind::Rect {
            return (side, side);
        }
        let aspects = self.order[positions].iter().map(|&sample| aspect(index.sizes[sample]));
        let (low, high) = aspects.fold((f64::INFINITY, 0.0f64), |(low, high), a| (low.min(a), high.max(a)));
        let (height, width) = if high < 1.0 {
            (high, 1.0)
        } else if low > 1.0 {
            (1.0, 1.0 / low)
        } else {
            (1.0, 1.0)
        };
        let padded = |part: f64| ((part * side as f64 / STRIDE + RECT_PAD).ceil() * STRIDE) as usize;
        (padded(height), padded(width))
    }
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
