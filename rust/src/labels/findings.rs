//! What is known about all pictures, in few arrays: they go to the cache file and to Python as they are.

use std::ops::Range;

use super::rows::Objects;
use super::{Found, Labels};

/// Pictures in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// (height, width) of each upright picture; zeros for one that cannot be read.
    pub sizes: Vec<[u32; 2]>,
    /// Where the objects of each end.
    pub ends: Vec<u32>,
    /// Pictures whose label files the reader in Python has to judge.
    pub odd: Vec<u32>,
    /// Pictures that cannot be read, and why.
    pub unreadable: Vec<(u32, String)>,
    /// Objects of all; one without a polygon has one of no points.
    pub objects: Objects,
}

impl Findings {
    /// Of each picture in turn.
    pub(super) fn of(found: Vec<Found>) -> Self {
        let mut all = Self::default();
        found.into_iter().for_each(|found| all.add(found));
        all
    }

    fn add(&mut self, found: Found) {
        let place = self.sizes.len() as u32;
        let mut size = (0, 0);
        match found {
            Found::Unreadable(reason) => self.unreadable.push((place, reason)),
            Found::Picture(its, labels) => {
                size = its;
                match labels {
                    Labels::Odd => self.odd.push(place),
                    Labels::Objects(objects) => self.objects.append(objects),
                }
            }
        }
        self.sizes.push([size.0 as u32, size.1 as u32]);
        self.ends.push(self.objects.classes.len() as u32);
    }

    /// Whether the parts belong together and to so many pictures.
    pub(super) fn fit(&self, count: usize) -> bool {
        let Objects { classes, boxes, points, counts } = &self.objects;
        let num_points = counts.iter().try_fold(0usize, |sum, &count| sum.checked_add(count as usize));
        self.sizes.len() == count
            && self.ends.len() == count
            && self.ends.is_sorted()
            && self.ends.last().map_or(0, |&end| end as usize) == classes.len()
            && (boxes.len(), counts.len()) == (classes.len(), classes.len())
            && num_points == Some(points.len())
    }

    /// Each picture by itself.
    pub(super) fn split(self) -> Vec<Found> {
        let mut reasons = self.unreadable.into_iter().peekable();
        let (mut start, mut first_point) = (0, 0);
        let one = |(place, (&[height, width], &end)): (u32, (&[u32; 2], &u32))| {
            let objects = self.objects.part(start..end as usize, first_point);
            (start, first_point) = (end as usize, first_point + objects.points.len());
            if let Some((_, reason)) = reasons.next_if(|(unreadable, _)| *unreadable == place) {
                return Found::Unreadable(reason);
            }
            let is_odd = self.odd.binary_search(&place).is_ok();
            let labels = if is_odd { Labels::Odd } else { Labels::Objects(objects) };
            Found::Picture((height as usize, width as usize), labels)
        };
        (0..).zip(self.sizes.iter().zip(&self.ends)).map(one).collect()
    }
}

impl Objects {
    /// Put objects behind the others; one without a polygon has one of no points.
    fn append(&mut self, other: Self) {
        let plain = other.classes.len() - other.counts.len();
        self.counts.extend(other.counts.into_iter().chain(std::iter::repeat_n(0, plain)));
        self.classes.extend(other.classes);
        self.boxes.extend(other.boxes);
        self.points.extend(other.points);
    }

    /// Some objects, whose points begin at `first_point`.
    fn part(&self, rows: Range<usize>, first_point: usize) -> Self {
        let counts = self.counts[rows.clone()].to_vec();
        let num_points = counts.iter().map(|&count| count as usize).sum::<usize>();
        Self {
            classes: self.classes[rows.clone()].to_vec(),
            boxes: self.boxes[rows].to_vec(),
            points: self.points[first_point..first_point + num_points].to_vec(),
            counts,
        }
    }
}
