//! From bytes to upright RGB pixels: one file per format, one policy for all of them.
//!
//! The format is found by its first bytes, never by the suffix. Sizes are checked before memory is asked for, a
//! panic inside a decoder becomes an error, alpha is dropped, 16 bits become 8 by `>> 8`, of several frames or pages
//! the first is taken. JPEG output is bit-identical to libjpeg-turbo's. Tests: `tests/data/test_image.py`.

mod bmp;
mod exif;
mod file;
mod gif;
mod jpeg;
mod letterbox;
mod memory;
mod png;
mod pnm;
mod resize;
mod tiff;
mod webp;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::error::{Error, Result};

pub use exif::{Orientation, upright};
pub use letterbox::{Letterbox, letterbox_into};
pub use memory::give_back;
pub use resize::resize;

use memory::{allocate, borrow};

/// Largest picture that is decoded, in pixels; larger headers are refused before any allocation. As Pillow's.
pub const MAX_PIXELS: u64 = 178_956_970;

/// Where the headers of JPEGs end: most without EXIF, most with it.
const START_BYTES: [u64; 2] = [1 << 12, 1 << 16];

/// What a format's decoder answers: the reason of a refusal is one line without the file's name.
type Decoded<T> = std::result::Result<T, String>;

/// An RGB picture, 8 bits, row-major, three bytes per pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// height * width * 3 bytes.
    pub pixels: Vec<u8>,
}

impl Image {
    /// The picture without its ownership.
    pub fn view(&self) -> View<'_> {
        View { height: self.height, width: self.width, pixels: &self.pixels }
    }
}

/// An RGB picture whose pixels are somebody else's; as [`Image`].
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// height * width * 3 bytes.
    pub pixels: &'a [u8],
}

/// What a header says before anything is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    height: usize,
    width: usize,
    orientation: Orientation,
}

impl Header {
    /// A header whose size lies within what is decoded.
    fn new(height: u64, width: u64, orientation: Orientation) -> Decoded<Self> {
        if height == 0 || width == 0 {
            return Err(format!("the picture is empty ({width}x{height})"));
        }
        if height.saturating_mul(width) > MAX_PIXELS {
            return Err(format!("{width}x{height} is more than the limit of {MAX_PIXELS} pixels"));
        }
        Ok(Self { height: height as usize, width: width as usize, orientation })
    }

    /// Bytes of the RGB picture.
    fn num_bytes(self) -> usize {
        self.height * self.width * 3
    }
}

/// How to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Turn and mirror as the EXIF orientation says.
    pub apply_exif: bool,
    /// Refuse damaged data that would otherwise be repaired or filled with grey.
    pub strict: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { apply_exif: true, strict: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Jpeg,
    Png,
    WebP,
    Bmp,
    Tiff,
    Gif,
    Pnm,
}

/// Decode a file.
///
/// # Errors
/// [`Error::Image`] or [`Error::Io`] with the path: not a regular file, unreadable, not a picture, damaged, too big.
pub fn decode_file(path: &Path, options: Options) -> Result<Image> {
    decode_bytes(&file::read(path)?, &path.display().to_string(), options)
}

/// Decode a file's bytes; `name` appears in the error.
///
/// # Errors
/// [`Error::Image`]: not a picture, damaged, too big.
pub fn decode_bytes(bytes: &[u8], name: &str, options: Options) -> Result<Image> {
    guarded(name, || {
        let format = sniff(bytes)?;
        let header = read_header(format, bytes)?;
        let image = match format {
            Format::Jpeg => jpeg::decode(bytes, header, options.strict),
            Format::Png => png::decode(bytes, header, options.strict),
            Format::WebP => webp::decode(bytes, header),
            Format::Bmp => bmp::decode(bytes, header),
            Format::Tiff => tiff::decode(bytes, header),
            Format::Gif => gif::decode(bytes, header),
            Format::Pnm => pnm::decode(bytes, header),
        }?;
        Ok(if options.apply_exif { upright(image, header.orientation) } else { image })
    })
}

/// (height, width) of the upright picture, from the header alone.
///
/// # Errors
/// As [`decode_file`].
pub fn size_of_file(path: &Path) -> Result<(usize, usize)> {
    let name = path.display().to_string();
    for limit in START_BYTES {
        let start = file::read_at_most(path, limit)?;
        // Only JPEG keeps all that matters before its pixels; PNG and WebP may put the orientation at the end.
        if !matches!(sniff(&start), Ok(Format::Jpeg)) {
            break;
        }
        if let Ok(size) = size_of_bytes(&start, &name) {
            return Ok(size);
        }
    }
    size_of_bytes(&file::read(path)?, &name)
}

fn size_of_bytes(bytes: &[u8], name: &str) -> Result<(usize, usize)> {
    guarded(name, || {
        let header = read_header(sniff(bytes)?, bytes)?;
        Ok(header.orientation.size(header.height, header.width))
    })
}

fn read_header(format: Format, bytes: &[u8]) -> Decoded<Header> {
    match format {
        Format::Jpeg => jpeg::header(bytes),
        Format::Png => png::header(bytes),
        Format::WebP => webp::header(bytes),
        Format::Bmp => bmp::header(bytes),
        Format::Tiff => tiff::header(bytes),
        Format::Gif => gif::header(bytes),
        Format::Pnm => pnm::header(bytes),
    }
}

/// The format by its magic bytes.
fn sniff(bytes: &[u8]) -> Decoded<Format> {
    match bytes {
        [] => Err("the file is empty".into()),
        [0xFF, 0xD8, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Ok(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        [b'B', b'M', ..] => Ok(Format::Bmp),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Ok(Format::Tiff),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Format::Gif),
        [b'P', b'5' | b'6', b' ' | b'\t' | b'\r' | b'\n', ..] => Ok(Format::Pnm),
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xFF, 0x4F, 0xFF, 0x51, ..] => {
            Err("JPEG 2000 is not read; convert it to JPEG or PNG".into())
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Err("AVIF and HEIC are not read; convert it to JPEG or PNG".into()),
        _ => {
            Err("not a picture this package reads (JPEG, PNG, WebP, BMP, TIFF, GIF, PGM, PPM); convert it to PNG"
                .into())
        }
    }
}

/// Run a decoder; a refusal gets the file's name and becomes one line, a panic in foreign code becomes a refusal.
fn guarded<T>(name: &str, work: impl FnOnce() -> Decoded<T>) -> Result<T> {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let reason = match outcome {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(reason)) => reason,
        Err(_) => "the decoder gave up on damaged data".into(),
    };
    Err(Error::Image { path: name.to_owned(), reason: reason.replace(['\n', '\r'], " ") })
}
