//! PNG: every depth and colour type, interlaced or not; first picture of an animation; orientation from eXIf.

use std::io::Cursor;

use png::{ColorType, Decoder, Limits, Transformations};

use super::{Decoded, Header, Image, Orientation, allocate};

const SIGNATURE_BYTES: usize = 8;
/// Deflate makes at most so many bytes of one.
const MAX_RATIO: usize = 1032;

pub(super) fn header(bytes: &[u8]) -> Decoded<Header> {
    let mut chunks = chunks(bytes);
    let Some((b"IHDR", [w3, w2, w1, w0, h3, h2, h1, h0, ..])) = chunks.next() else {
        return Err("the PNG has no header".into());
    };
    let width = u32::from_be_bytes([*w3, *w2, *w1, *w0]);
    let height = u32::from_be_bytes([*h3, *h2, *h1, *h0]);
    let exif = chunks.find(|(name, _)| *name == b"eXIf");
    let orientation = exif.map_or(Orientation::UPRIGHT, |(_, block)| Orientation::from_tiff(block));
    Header::new(height.into(), width.into(), orientation)
}

pub(super) fn decode(bytes: &[u8], header: Header, strict: bool) -> Decoded<Image> {
    let broken = |e: png::DecodingError| format!("damaged PNG ({e})");
    let limits = Limits { bytes: 4 * header.height * header.width * 2 + (64 << 20) };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.ignore_checksums(!strict);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(broken)?;
    // before memory is taken
    if reader.info().raw_bytes() / MAX_RATIO > bytes.len() {
        return Err("the PNG is cut short: the file cannot hold a picture of this size".into());
    }
    let mut raw = allocate(reader.output_buffer_size().ok_or("the PNG is too big")?)?;
    let info = reader.next_frame(&mut raw).map_err(broken)?;
    if (info.height as usize, info.width as usize) != (header.height, header.width) {
        return Err("the first picture of the PNG has another size than its header".into());
    }
    raw.truncate(info.buffer_size());
    let channels = info.color_type.samples();
    let pixels = match info.color_type {
        ColorType::Rgb => raw,
        ColorType::Rgba => raw.chunks_exact(channels).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        _ => raw.chunks_exact(channels).flat_map(|p| [p[0]; 3]).collect(),
    };
    Ok(Image { height: header.height, width: header.width, pixels })
}

/// (name, data) of each whole chunk; stops at the first that is cut.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    let mut rest = bytes.get(SIGNATURE_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = u32::from_be_bytes(*rest.first_chunk::<4>()?) as usize;
        let name = rest.get(4..)?.first_chunk::<4>()?;
        let data = rest.get(8..8usize.checked_add(length)?)?;
        rest = rest.get(length + 12..).unwrap_or_default();
        Some((name, data))
    })
}
