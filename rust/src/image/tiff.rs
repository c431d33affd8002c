//! TIFF: first page; 1, 8 or 16 bits; grey, RGB or CMYK, with or without alpha; orientation from its own tag.

use std::io::Cursor;

use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::{Decoded, Header, Image, MAX_PIXELS, Orientation};

type Reader<'a> = Decoder<Cursor<&'a [u8]>>;

fn open(bytes: &[u8]) -> Decoded<Reader<'_>> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_PIXELS as usize * 8;
    limits.intermediate_buffer_size = MAX_PIXELS as usize * 8;
    Decoder::new(Cursor::new(bytes)).map(|d| d.with_limits(limits)).map_err(broken)
}

pub(super) fn header(bytes: &[u8]) -> Decoded<Header> {
    let mut reader = open(bytes)?;
    let (width, height) = reader.dimensions().map_err(broken)?;
    let orientation = reader.find_tag_unsigned::<u16>(Tag::Orientation).ok().flatten().unwrap_or(1);
    Header::new(height.into(), width.into(), Orientation::new(orientation))
}

pub(super) fn decode(bytes: &[u8], header: Header) -> Decoded<Image> {
    let mut reader = open(bytes)?;
    let kind = reader.colortype().map_err(broken)?;
    if reader.image_buffer_layout().map_err(broken)?.planes > 1 {
        return Err("TIFF with separate colour planes is not read; convert it to PNG".into());
    }
    let samples = match reader.read_image().map_err(broken)? {
        DecodingResult::U8(values) => values,
        DecodingResult::U16(values) => values.iter().map(|v| (v >> 8) as u8).collect(),
        _ => {
            return Err(format!("TIFF with {kind:?} samples is not read; convert it to PNG"));
        }
    };
    let pixels: Vec<u8> = match kind {
        ColorType::Gray(1) => bilevel(&samples, header.width),
        ColorType::Gray(8 | 16) => samples.iter().flat_map(|&v| [v; 3]).collect(),
        ColorType::GrayA(8 | 16) => samples.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        ColorType::RGB(8 | 16) => samples,
        ColorType::RGBA(8 | 16) => samples.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        ColorType::CMYK(8 | 16) => samples.chunks_exact(4).flat_map(rgb_from_cmyk).collect(),
        _ => {
            return Err(format!("TIFF of kind {kind:?} is not read; convert it to PNG"));
        }
    };
    if pixels.len() != header.num_bytes() {
        return Err("the TIFF holds fewer pixels than its header says".into());
    }
    Ok(Image { height: header.height, width: header.width, pixels })
}

/// One bit per pixel, rows padded to whole bytes.
fn bilevel(packed: &[u8], width: usize) -> Vec<u8> {
    let value = |row: &[u8], x: usize| {
        if row[x / 8] >> (7 - x % 8) & 1 == 1 { 255 } else { 0 }
    };
    packed.chunks_exact(width.div_ceil(8)).flat_map(|row| (0..width).flat_map(move |x| [value(row, x); 3])).collect()
}

fn rgb_from_cmyk(inks: &[u8]) -> [u8; 3] {
    let light = 255 - u32::from(inks[3]);
    [inks[0], inks[1], inks[2]].map(|ink| ((255 - u32::from(ink)) * light).div_ceil(255).min(light) as u8)
}

fn broken(error: TiffError) -> String {
    match error {
        TiffError::UnsupportedError(kind) => {
            format!("this kind of TIFF is not read ({kind}); convert it to PNG")
        }
        other => format!("damaged TIFF ({other})"),
    }
}
