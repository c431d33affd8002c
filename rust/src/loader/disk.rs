//! Tiles in one file: each has its place, is written once and carries its own checksum.
//!
//! The checksum covers the pixels, their size, and the source file's size and time: a tile that was cut short by a
//! crash, damaged, or made from an older file is simply not there and is made anew. So processes may share the file,
//! and an interrupted run loses nothing. Read with `pread`: a file that shrinks is an error, not a signal as with mmap.

use std::fs::{File, Metadata, OpenOptions};
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::error::{Error, Result};
use crate::image::Image;

/// Checksum, height, width, original height, original width; four bytes each.
const HEAD: usize = 20;

#[derive(Debug)]
pub(super) struct DiskCache {
    file: File,
    /// Where each tile begins, and the end.
    offsets: Vec<u64>,
}

impl DiskCache {
    /// Open or make the file of tiles with at most these many bytes of pixels each.
    pub(super) fn open(path: &Path, lengths: impl Iterator<Item = usize>) -> Result<Self> {
        let mut end = 0;
        let mut offsets = vec![0];
        offsets.extend(lengths.map(|length| {
            end += (HEAD + length) as u64;
            end
        }));
        let refused = |source| Error::Io { path: path.display().to_string(), source };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(refused)?;
        file.set_len(end).map_err(refused)?;
        Ok(Self { file, offsets })
    }

    /// The tile of a sample and its original size, when it is there and belongs to the source file.
    pub(super) fn read(&self, sample: usize, source: &Metadata) -> Option<(Image, (usize, usize))> {
        let mut head = [0; HEAD];
        read_at(&self.file, &mut head, self.offsets[sample]).ok()?;
        let (numbers, _) = head.as_chunks::<4>();
        let [checksum, height, width, original_height, original_width] = numbers else { return None };
        let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes) as usize;
        let (height, width) = (number(height), number(width));
        let length = height.checked_mul(width)?.checked_mul(3)?;
        if length == 0 || length > self.room(sample) {
            return None;
        }
        let mut pixels = vec![0; length];
        read_at(&self.file, &mut pixels, self.offsets[sample] + HEAD as u64).ok()?;
        let is_whole = sum(&head[4..], &pixels, source) == u32::from_le_bytes(*checksum);
        let original = (number(original_height), number(original_width));
        is_whole.then_some((Image { height, width, pixels }, original))
    }

    /// Keep a tile; one that cannot be written is made again the next time.
    pub(super) fn write(&self, sample: usize, source: &Metadata, image: &Image, original: (usize, usize)) {
        if image.pixels.len() > self.room(sample) {
            return; // the picture grew since the data set was opened
        }
        let sizes = [image.height, image.width, original.0, original.1];
        let sizes: Vec<u8> = sizes.iter().flat_map(|&side| (side as u32).to_le_bytes()).collect();
        let checksum = sum(&sizes, &image.pixels, source).to_le_bytes();
        let whole = [&checksum[..], &sizes, &image.pixels].concat();
        let _not_kept = write_at(&self.file, &whole, self.offsets[sample]);
    }

    fn room(&self, sample: usize) -> usize {
        (self.offsets[sample + 1] - self.offsets[sample]) as usize - HEAD
    }
}

fn sum(sizes: &[u8], pixels: &[u8], source: &Metadata) -> u32 {
    let time = source.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&source.len().to_le_bytes());
    hasher.update(&time.as_nanos().to_le_bytes());
    hasher.update(sizes);
    hasher.update(pixels);
    hasher.finalize()
}

#[cfg(unix)]
fn read_at(file: &File, out: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(unix)]
fn write_at(file: &File, data: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, data, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut out: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !out.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_read(file, out, offset)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        (out, offset) = (&mut out[count..], offset + count as u64);
    }
    Ok(())
}

#[cfg(windows)]
fn write_at(file: &File, mut data: &[u8], mut offset: u64) -> std::io::Result<()> {
    while !data.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_write(file, data, offset)?;
        (data, offset) = (&data[count..], offset + count as u64);
    }
    Ok(())
}
