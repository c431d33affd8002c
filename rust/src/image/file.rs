//! Reading a picture's file without ever waiting on a pipe or swallowing a disk.

use std::fs::{File, metadata};
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// Larger files are not pictures.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// The whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    read_at_most(path, MAX_FILE_BYTES)
}

/// At most so many bytes of the file.
pub(super) fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |source| Error::Io { path: path.display().to_string(), source };
    let refused = |reason: String| Error::Image { path: path.display().to_string(), reason };
    let about = metadata(path).map_err(io)?;
    if !about.is_file() {
        let kind = if about.is_dir() { "a folder" } else { "not a regular file" };
        return Err(refused(format!("this is {kind}, not a picture")));
    }
    if about.len() > MAX_FILE_BYTES {
        return Err(refused(format!("{} bytes are more than the limit of {MAX_FILE_BYTES}", about.len())));
    }
    let mut bytes = Vec::with_capacity(about.len().min(limit) as usize);
    File::open(path).map_err(io)?.take(limit).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}
