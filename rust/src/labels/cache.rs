//! Answers of a scan in one file: magic, version, key, and per picture the stamps of its files and what was found.
//!
//! The last four bytes are the CRC-32 of all before; a file that is cut, damaged or of another version counts as not
//! there. It is written beside its place and renamed.

use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::bytes::{Reader, put_list, put_text, put_u32, put_u64};
use super::rows::Objects;
use super::{Found, Labels};

const MAGIC: &[u8; 8] = b"MYLABEL\x01"; // the last byte is the version

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

/// What an earlier scan of `count` pictures found, and whether the file was there but damaged; nothing when it belongs to
/// other pictures.
pub(super) fn read(file: Option<&Path>, key: u64, count: usize) -> (Vec<Option<(Stamp, Found)>>, bool) {
    let nothing = || (0..count).map(|_| None).collect();
    let Some(bytes) = file.and_then(|file| std::fs::read(file).ok()) else { return (nothing(), false) };
    let Some(body) = checked(&bytes) else { return (nothing(), true) };
    let mut reader = Reader(body);
    if reader.u64() != Some(key) {
        return (nothing(), false);
    }
    let entries: Option<Vec<_>> = (0..count).map(|_| entry(&mut reader).map(Some)).collect();
    entries.map_or_else(|| (nothing(), true), |entries| (entries, false))
}

/// The cache file of these pictures, as named from the current folder.
pub(super) fn place(folder: &Path, pictures: &[PathBuf]) -> PathBuf {
    folder.join(format!("{:016x}.labels", hash(&(std::env::current_dir().ok(), names(pictures)))))
}

/// What the answers depend on besides the files: their names and the classes.
pub(super) fn key(pictures: &[PathBuf], classes: Option<&[i64]>) -> u64 {
    hash(&(names(pictures), classes))
}

/// As text: paths would be hashed part by part.
fn names(pictures: &[PathBuf]) -> Vec<&OsStr> {
    pictures.iter().map(|picture| picture.as_os_str()).collect()
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Write the answers; without room or permission there is simply no cache.
pub(super) fn write<'a>(file: &Path, key: u64, entries: impl Iterator<Item = (&'a Stamp, &'a Found)>) {
    let mut out = MAGIC.to_vec();
    put_u64(&mut out, key);
    entries.for_each(|(stamp, found)| put_entry(&mut out, stamp, found));
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
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

fn put_entry(out: &mut Vec<u8>, stamp: &Stamp, found: &Found) {
    stamp.0.iter().for_each(|&number| put_u64(out, number));
    match found {
        Found::Unreadable(reason) => {
            out.push(0);
            put_text(out, reason);
        }
        Found::Picture((height, width), labels) => {
            out.push(if matches!(labels, Labels::Odd) { 1 } else { 2 });
            put_u32(out, *height);
            put_u32(out, *width);
            if let Labels::Objects(objects) = labels {
                put_u32(out, objects.classes.len());
                objects.classes.iter().for_each(|&class| put_u64(out, class as u64));
                put_list(out, &objects.boxes);
                put_list(out, &objects.points);
                put_u32(out, objects.counts.len());
                objects.counts.iter().for_each(|&count| put_u32(out, count as usize));
            }
        }
    }
}

fn entry(reader: &mut Reader<'_>) -> Option<(Stamp, Found)> {
    let stamp = Stamp([reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?]);
    let kind = reader.bytes::<1>()?[0];
    if kind == 0 {
        return Some((stamp, Found::Unreadable(reader.text()?)));
    }
    let size = (reader.u32()? as usize, reader.u32()? as usize);
    if kind == 1 {
        return Some((stamp, Found::Picture(size, Labels::Odd)));
    }
    let count = reader.u32()?;
    let classes = (0..count).map(|_| reader.u64().map(|class| class as i64)).collect::<Option<_>>()?;
    let (boxes, points) = (reader.list()?, reader.list()?);
    let count = reader.u32()?;
    let counts = (0..count).map(|_| reader.u32()).collect::<Option<_>>()?;
    Some((stamp, Found::Picture(size, Labels::Objects(Objects { classes, boxes, points, counts }))))
}
