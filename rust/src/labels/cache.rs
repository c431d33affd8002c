//! Answers of a scan in one file: magic, version, key, the stamps of the pictures' files and what was found.
//!
//! The last four bytes are the CRC-32 of all before; a file that is cut, damaged or of another version counts as not
//! there. It is written beside its place and renamed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::Findings;
use super::bytes::{Reader, put, put_list, put_text};
use super::rows::Objects;

const MAGIC: &[u8; 8] = b"MYLABEL\x02"; // the last byte is the version

/// Sizes and times of a picture's two files; zeros for one that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp([u64; 4]);

impl Stamp {
    pub(super) fn of(picture: &Path, labels: &Path) -> Self {
        let [a, b] = [picture, labels].map(|path| {
            let about = std::fs::metadata(path).ok()?;
            let time = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some((about.len(), time.as_nanos() as u64))
        });
        let ((picture_size, picture_time), (label_size, label_time)) = (a.unwrap_or_default(), b.unwrap_or_default());
        Self([picture_size, picture_time, label_size, label_time])
    }
}

/// What an earlier scan of `count` pictures found, if it belongs to these, and whether the file was there but damaged.
pub(super) fn read(file: Option<&Path>, key: u64, count: usize) -> (Option<(Vec<Stamp>, Findings)>, bool) {
    let Some(bytes) = file.and_then(|file| std::fs::read(file).ok()) else { return (None, false) };
    let Some(body) = checked(&bytes) else { return (None, true) };
    let mut reader = Reader(body);
    if reader.number() != Some(key) {
        return (None, false);
    }
    let held = entries(&mut reader).filter(|(stamps, findings)| stamps.len() == count && findings.fit(count));
    let was_damaged = held.is_none();
    (held, was_damaged)
}

/// The cache file of the pictures of these `names`, as named from the current folder.
pub(super) fn place(folder: &Path, names: u64) -> PathBuf {
    folder.join(format!("{:016x}.labels", hash(&(std::env::current_dir().ok(), names))))
}

/// What the answers depend on besides the files: their names and the classes.
pub(super) fn key(names: u64, classes: Option<&[i64]>) -> u64 {
    hash(&(names, classes))
}

/// A number for the paths, as text: they would be hashed part by part.
pub(super) fn names(pictures: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    pictures.iter().for_each(|picture| picture.as_os_str().hash(&mut hasher));
    hasher.finish()
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Write the answers; without room or permission there is simply no cache.
pub(super) fn write(file: &Path, key: u64, stamps: &[Stamp], findings: &Findings) {
    let mut out = MAGIC.to_vec();
    put(&mut out, key);
    put_entries(&mut out, stamps, findings);
    let sum = crc32fast::hash(&out);
    put(&mut out, sum);
    let beside = file.with_extension(format!("{}.part", std::process::id()));
    let written = std::fs::File::create(&beside)
        .and_then(|mut part| part.write_all(&out))
        .and_then(|()| std::fs::rename(&beside, file));
    if written.is_err() {
        let _nothing_left = std::fs::remove_file(&beside);
    }
}

/// The body of a whole file of this version.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (whole, sum) = bytes.split_last_chunk::<4>()?;
    let body = whole.strip_prefix(MAGIC)?;
    (crc32fast::hash(whole) == u32::from_le_bytes(*sum)).then_some(body)
}

fn put_entries(out: &mut Vec<u8>, stamps: &[Stamp], findings: &Findings) {
    let numbers: Vec<u64> = stamps.iter().flat_map(|stamp| stamp.0).collect();
    put_list(out, &numbers);
    put_list(out, findings.sizes.as_flattened());
    put_list(out, &findings.ends);
    put_list(out, &findings.odd);
    put_list(out, &findings.objects.classes);
    put_list(out, findings.objects.boxes.as_flattened());
    put_list(out, &findings.objects.counts);
    put_list(out, findings.objects.points.as_flattened());
    put(out, findings.unreadable.len() as u32);
    for (place, reason) in &findings.unreadable {
        put(out, *place);
        put_text(out, reason);
    }
}

fn entries(reader: &mut Reader<'_>) -> Option<(Vec<Stamp>, Findings)> {
    let stamps = reader.rows()?.into_iter().map(Stamp).collect();
    let (sizes, ends, odd) = (reader.rows()?, reader.list()?, reader.list()?);
    let (classes, boxes, counts, points) = (reader.list()?, reader.rows()?, reader.list()?, reader.rows()?);
    let num_unreadable = reader.number::<u32, 4>()?;
    let unreadable = (0..num_unreadable).map(|_| Some((reader.number()?, reader.text()?))).collect::<Option<_>>()?;
    let objects = Objects { classes, boxes, points, counts };
    Some((stamps, Findings { sizes, ends, odd, unreadable, objects }))
}
