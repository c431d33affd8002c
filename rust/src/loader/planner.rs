//! From a position in an epoch to pictures and numbers, by the keyed streams alone.

use crate::augment::{Plan, Ranges, draw_side};
use crate::random::{Purpose, Stream};

/// Partners come from the last so many positions in the order of the epoch, at its start from the first so many: their
/// tiles are in the cache, so a mosaic costs one decode, and small sets are mixed evenly.
const PARTNER_WINDOW: usize = 256;

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

/// The order and the numbers of one epoch.
#[derive(Clone, Debug)]
pub struct Epoch {
    seed: u64,
    number: u32,
    order: Vec<usize>,
    ranges: Option<Ranges>,
}

impl Epoch {
    /// Shuffled by (seed, epoch) when there are augmentations to draw; in order otherwise.
    pub fn new((seed, number): (u64, u32), length: usize, ranges: Option<Ranges>) -> Self {
        let order = match ranges {
            Some(_) => Stream::new(seed, number, 0, Purpose::Order).permutation(length),
            None => (0..length).collect(),
        };
        Self { seed, number, order, ranges }
    }

    /// Number of positions.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is nothing to load.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Side of the pictures of a batch, around `side`.
    pub fn side(&self, batch: usize, side: usize) -> usize {
        match self.ranges {
            Some(Ranges { multi_scale, .. }) if multi_scale > 0.0 => {
                let mut stream = Stream::new(self.seed, self.number, batch as u32, Purpose::Size);
                draw_side(&mut stream, side, multi_scale)
            }
            _ => side,
        }
    }

    /// The ticket of a position below `len`.
    pub fn ticket(&self, position: usize) -> Ticket {
        let sample = self.order[position];
        let Some(ranges) = &self.ranges else {
            return Ticket { sample, partners: [sample; 7], plan: None };
        };
        let window = self.order.len().min(PARTNER_WINDOW);
        let first = (position + 1).saturating_sub(window);
        let mut stream = Stream::new(self.seed, self.number, position as u32, Purpose::Augment);
        let plan = Plan::draw(&mut stream, ranges, window);
        let partners = plan.partners.map(|place| self.order[first + place]);
        Ticket { sample, partners, plan: Some(plan) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Epoch, PARTNER_WINDOW};
    use crate::augment::Ranges;

    #[test]
    fn partners_lie_in_a_window_that_has_just_been_loaded() {
        let epoch = Epoch::new((3, 1), 1000, Some(Ranges { mosaic: 1.0, ..Ranges::default() }));
        let mut place = vec![0; 1000];
        (0..1000).for_each(|position| place[epoch.ticket(position).sample] = position);
        for position in 0..1000 {
            let end = (position + 1).max(PARTNER_WINDOW);
            for partner in epoch.ticket(position).partners {
                assert!((end - PARTNER_WINDOW..end).contains(&place[partner]), "{position}");
            }
        }
    }
}
