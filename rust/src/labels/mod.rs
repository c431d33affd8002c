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

pub use listing::files_below;
pub use rows::Objects;

use cache::{Cache, Stamp};

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

/// What a scan found, and whether an existing cache file had to be given up.
#[derive(Debug)]
pub struct Scan {
    /// One per picture.
    pub found: Vec<Found>,
    /// The cache file was there and damaged.
    pub was_damaged: bool,
    /// Pictures whose answer came from the cache.
    pub num_cached: usize,
}

/// Read the headers of pictures and their label files.
///
/// `classes` are the rising ids that may occur, numbered anew from 0; without them ids stay as they are. `keep` is the
/// cache file: answers whose files have neither another size nor another time are taken from it. A cache that cannot
/// be written is done without.
///
/// # Errors
/// [`crate::error::Error::Argument`] when no thread can be started.
pub fn scan(
    pictures: &[(PathBuf, PathBuf)],
    classes: Option<&[i64]>,
    keep: Option<&Path>,
    num_threads: usize,
) -> Result<Scan> {
    let key = cache::key(pictures, classes);
    let (cache, was_damaged) = keep.map_or_else(Default::default, |file| Cache::read(file, key, pictures.len()));
    let look = |(i, (picture, labels)): (usize, &(PathBuf, PathBuf))| {
        let stamp = Stamp::of(picture, labels);
        match cache.get(i, &stamp) {
            Some(found) => (stamp, found, true),
            None => (stamp, look_at(picture, labels, classes), false),
        }
    };
    let pool = threads::pool(num_threads)?;
    let looked: Vec<_> = pool.install(|| pictures.par_iter().enumerate().with_min_len(16).map(look).collect());
    let num_cached = looked.iter().filter(|(_, _, cached)| *cached).count();
    if let Some(file) = keep.filter(|_| num_cached < pictures.len()) {
        cache::write(file, key, looked.iter().map(|(stamp, found, _)| (stamp, found)));
    }
    Ok(Scan { found: looked.into_iter().map(|(_, found, _)| found).collect(), was_damaged, num_cached })
}

fn look_at(picture: &Path, labels: &Path, classes: Option<&[i64]>) -> Found {
    match size_of_file(picture) {
        Ok(size) => Found::Picture(size, rows::read(labels, size, classes).map_or(Labels::Odd, Labels::Objects)),
        Err(error) => Found::Unreadable(error.to_string()),
    }
}
