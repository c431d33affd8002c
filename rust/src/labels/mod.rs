//! YOLO label files of a data set, read in parallel: pictures' sizes and the rows that are in order.
//!
//! What is in order is decided strictly: plain numbers, known classes, boxes inside, no two alike. A file with anything
//! else is handed back unread as `Labels::Odd`: `data/readers/yolo.py` defines what happens then and words the report.
//! Both give the same bits for what is in order. `cache` keeps the answers in a file. Test: `tests/data/test_labels.py`.

mod bytes;
mod cache;
mod findings;
mod listing;
mod rows;

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::Result;
use crate::image::size_of_file;
use crate::threads;

pub use findings::Findings;
pub use listing::{files_below, label_file};
pub use rows::Objects;

use cache::Stamp;
use listing::LabelFiles;

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
    /// Whether each has label files of its own.
    pub are_distinct: bool,
    /// What is known about each.
    pub findings: Findings,
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
pub fn scan(pictures: &[PathBuf], classes: Option<&[i64]>, keep: Option<&Path>, num_threads: usize) -> Result<Scan> {
    let pictures = listing::in_order(pictures);
    let files = LabelFiles::of(&pictures);
    let names = cache::names(&pictures);
    let (key, keep) = (cache::key(names, classes), keep.map(|folder| cache::place(folder, names)));
    let pool = threads::pool(num_threads)?;
    let stamp = |(picture, labels): (&PathBuf, &PathBuf)| Stamp::of(picture, labels);
    let pairs = || pictures.par_iter().zip(&files.paths).with_min_len(16);
    let (stamps, (held, orphans)): (Vec<_>, _) = pool.install(|| {
        rayon::join(
            || pairs().map(stamp).collect(),
            || (cache::read(keep.as_deref(), key, pictures.len()), files.orphans()),
        )
    });
    let (held, was_damaged) = held;
    let (findings, num_cached) = match held {
        Some((then, findings)) if then == stamps => (findings, pictures.len()),
        held => {
            let held = held.map_or_else(|| vec![None; pictures.len()], |held| still_true(held, &stamps));
            let num_cached = held.iter().flatten().count();
            let look = |((picture, labels), held): ((&PathBuf, &PathBuf), Option<Found>)| {
                held.unwrap_or_else(|| look_at(picture, labels, classes))
            };
            let found: Vec<_> = pool.install(|| pairs().zip(held).map(look).collect());
            let findings = Findings::of(found);
            if let Some(file) = &keep {
                cache::write(file, key, &stamps, &findings);
            }
            (findings, num_cached)
        }
    };
    let damaged = keep.filter(|_| was_damaged);
    let are_distinct = files.are_distinct();
    Ok(Scan { pictures, labels: files.paths, are_distinct, findings, orphans, damaged, num_cached })
}

/// What was found then about pictures whose files have not changed since.
fn still_true((then, findings): (Vec<Stamp>, Findings), now: &[Stamp]) -> Vec<Option<Found>> {
    let unchanged = then.iter().zip(now).map(|(then, now)| then == now);
    findings.split().into_iter().zip(unchanged).map(|(found, is_same)| is_same.then_some(found)).collect()
}

fn look_at(picture: &Path, labels: &Path, classes: Option<&[i64]>) -> Found {
    match size_of_file(picture) {
        Ok(size) => Found::Picture(size, rows::read(labels, size, classes).map_or(Labels::Odd, Labels::Objects)),
        Err(error) => Found::Unreadable(error.to_string()),
    }
}
