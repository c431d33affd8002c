//! YOLO label files of a data set, read in parallel: pictures' sizes and the rows that are in order.
//!
//! What is in order is decided strictly: plain numbers, known classes, boxes inside, no two alike. A file with anything
//! else is handed back unread as `Labels::Odd`: `data/readers/yolo.py` defines what happens then and words the report.
//! Both give the same bits for what is in order. `cache` keeps the answers in a file. Test: `tests/data/test_labels.py`.

mod bytes;
mod cache;
mod listing;
mod rows;

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::Result;
use crate::image::size_of_file;
use crate::threads;

pub use listing::{files_below, label_file};
pub use rows::Objects;

use cache::Stamp;
use listing::orphans;

/// What a label file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Labels {
    /// Objects in order; none where there is no file.
    Objects(Objects),
    /// Something that the reader in Python has to judge.
    Odd,
}

/// What is known about a picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// (height, width) of the upright picture and its labels.
    Picture((usize, usize), Labels),
    /// It cannot be read.
    Unreadable(String),
}

/// What a scan found.
#[derive(Debug)]
pub struct Scan {
    /// The pictures, in order.
    pub pictures: Vec<PathBuf>,
    /// Where the labels of each lie.
    pub labels: Vec<PathBuf>,
    /// What is known about each.
    pub found: Vec<Found>,
    /// Label files beside them that belong to no picture.
    pub orphans: Vec<PathBuf>,
    /// The cache file, when it was there and damaged.
    pub damaged: Option<PathBuf>,
    /// Pictures whose answer came from the cache.
    pub num_cached: usize,
}

/// Put pictures in order, read their headers and label files.
///
/// `classes` are the rising ids that may occur, numbered anew from 0; without them ids stay as they are. `keep` is the
/// folder of cache files: answers whose files have neither another size nor another time are taken from there. A cache
/// that cannot be written is done without.
///
/// # Errors
/// [`crate::error::Error::Argument`] when no thread can be started.
pub fn scan(pictures: Vec<PathBuf>, classes: Option<&[i64]>, keep: Option<&Path>, num_threads: usize) -> Result<Scan> {
    let pictures = listing::in_order(pictures);
    let labels: Vec<_> = pictures.iter().map(|picture| label_file(picture)).collect();
    let key = cache::key(&pictures, classes);
    let keep = keep.map(|folder| cache::place(folder, &pictures));
    let (held, was_damaged) = cache::read(keep.as_deref(), key, pictures.len());
    let look = |((picture, labels), held): ((&PathBuf, &PathBuf), Option<(Stamp, Found)>)| {
        let stamp = Stamp::of(picture, labels);
        match held.filter(|(then, _)| *then == stamp) {
            Some((_, found)) => (stamp, found, true),
            None => (stamp, look_at(picture, labels, classes), false),
        }
    };
    let files = pictures.par_iter().zip(&labels).zip(held).with_min_len(16);
    let (looked, orphans): (Vec<_>, _) =
        threads::pool(num_threads)?.install(|| rayon::join(|| files.map(look).collect(), || orphans(&labels)));
    let num_cached = looked.iter().filter(|(_, _, cached)| *cached).count();
    if let Some(file) = keep.as_ref().filter(|_| num_cached < pictures.len()) {
        cache::write(file, key, looked.iter().map(|(stamp, found, _)| (stamp, found)));
    }
    let found = looked.into_iter().map(|(_, found, _)| found).collect();
    Ok(Scan { pictures, labels, found, orphans, damaged: keep.filter(|_| was_damaged), num_cached })
}

fn look_at(picture: &Path, labels: &Path, classes: Option<&[i64]>) -> Found {
    match size_of_file(picture) {
        Ok(size) => Found::Picture(size, rows::read(labels, size, classes).map_or(Labels::Odd, Labels::Objects)),
        Err(error) => Found::Unreadable(error.to_string()),
    }
}
