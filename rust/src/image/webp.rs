//! WebP, lossy and lossless; first picture of an animation; orientation from the EXIF chunk.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::{Decoded, Header, Image, Orientation, allocate};

fn open(bytes: &[u8]) -> Decoded<WebPDecoder<Cursor<&[u8]>>> {
    WebPDecoder::new(Cursor::new(bytes)).map_err(|e| format!("damaged WebP ({e})"))
}

pub(super) fn header(bytes: &[u8]) -> Decoded<Header> {
    let mut decoder = open(bytes)?;
    let (width, height) = decoder.dimensions();
    let exif = decoder.exif_metadata().ok().flatten();
    let orientation = exif.map_or(Orientation::UPRIGHT, |block| {
        Orientation::from_tiff(block.strip_prefix(b"Exif\0\0").unwrap_or(&block))
    });
    Header::new(height.into(), width.into(), orientation)
}

pub(super) fn decode(bytes: &[u8], header: Header) -> Decoded<Image> {
    let mut decoder = open(bytes)?;
    let mut raw = allocate(decoder.output_buffer_size().ok_or("the WebP is too big")?)?;
    if decoder.is_animated() { decoder.read_frame(&mut raw).map(|_| ()) } else { decoder.read_image(&mut raw) }
        .map_err(|e| format!("damaged WebP ({e})"))?;
    let pixels = if decoder.has_alpha() { raw.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect() } else { raw };
    Ok(Image { height: header.height, width: header.width, pixels })
}
