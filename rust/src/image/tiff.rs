//! TIFF: first page; grey or palette of 1 to 8 bits; grey, RGB or CMYK of 8 or 16, with or without alpha; orientation from
//! its own tag.

use std::io::Cursor;

use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::{Decoded, Header, Image, MAX_PIXELS, Orientation};

/// The tag that says what samples mean, and its value for a palette.
const MEANING: u16 = 262;
const PALETTE: u16 = 3;

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
    let meaning = reader.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation).map_err(broken)?;
    let pixels = if meaning == Some(PALETTE) {
        coloured(bytes, &mut reader, header.width)?
    } else {
        let (kind, samples) = read(&mut reader)?;
        rgb(kind, samples, header.width)?
    };
    if pixels.len() != header.num_bytes() {
        return Err("the TIFF holds fewer pixels than its header says".into());
    }
    Ok(Image { height: header.height, width: header.width, pixels })
}

/// What the samples are, and their upper eight bits.
fn read(reader: &mut Reader<'_>) -> Decoded<(ColorType, Vec<u8>)> {
    let kind = reader.colortype().map_err(broken)?;
    if reader.image_buffer_layout().map_err(broken)?.planes > 1 {
        return Err("TIFF with separate colour planes is not read; convert it to PNG".into());
    }
    match reader.read_image().map_err(broken)? {
        DecodingResult::U8(values) => Ok((kind, values)),
        DecodingResult::U16(values) => Ok((kind, values.iter().map(|v| (v >> 8) as u8).collect())),
        _ => Err(format!("TIFF with {kind:?} samples is not read; convert it to PNG")),
    }
}

fn rgb(kind: ColorType, samples: Vec<u8>, width: usize) -> Decoded<Vec<u8>> {
    Ok(match kind {
        ColorType::Gray(bits @ (1 | 2 | 4)) => {
            let step = 255 / ((1 << bits) - 1);
            unpacked(&samples, width, bits.into()).flat_map(|v| [v * step; 3]).collect()
        }
        ColorType::Gray(8 | 16) => samples.iter().flat_map(|&v| [v; 3]).collect(),
        ColorType::GrayA(8 | 16) | ColorType::Multiband { bit_depth: 8 | 16, num_samples: 2 } => {
            samples.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect()
        }
        ColorType::RGB(8 | 16) => samples,
        ColorType::RGBA(8 | 16) => samples.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        ColorType::CMYK(8 | 16) => samples.chunks_exact(4).flat_map(rgb_from_cmyk).collect(),
        _ => return Err(format!("TIFF of kind {kind:?} is not read; convert it to PNG")),
    })
}

/// Colours by the palette: the decoder, which knows none, is told that the indices are levels of grey.
fn coloured(bytes: &[u8], reader: &mut Reader<'_>, width: usize) -> Decoded<Vec<u8>> {
    let palette = reader.find_tag_unsigned_vec::<u16>(Tag::ColorMap).map_err(broken)?;
    let palette = palette.ok_or("the TIFF has no palette")?;
    let grey = as_grey(bytes).ok_or("this kind of TIFF with a palette is not read; convert it to PNG")?;
    let (kind, samples) = read(&mut open(&grey)?)?;
    let ColorType::Gray(bits @ (1 | 2 | 4 | 8)) = kind else {
        return Err(format!("TIFF with a palette and {kind:?} samples is not read; convert it to PNG"));
    };
    let levels = palette.chunks_exact((palette.len() / 3).max(1)); // all reds, all greens, all blues
    let level =
        |index: u8| levels.clone().take(3).map(move |of| of.get(usize::from(index)).map_or(0, |v| (v >> 8) as u8));
    Ok(unpacked(&samples, width, bits.into()).flat_map(level).collect())
}

/// The file with "levels of grey" in the place of "palette".
fn as_grey(bytes: &[u8]) -> Option<Vec<u8>> {
    let is_little = bytes.first()? == &b'I';
    let u16_at = |at: usize| {
        let two = *bytes.get(at..)?.first_chunk()?;
        Some(if is_little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    };
    let four = *bytes.get(4..)?.first_chunk()?;
    let directory = if is_little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) } as usize;
    let entries = (0..usize::from(u16_at(directory)?)).map(|k| directory + 2 + 12 * k);
    let value = entries.take_while(|&at| u16_at(at).is_some()).find(|&at| u16_at(at) == Some(MEANING))? + 8;
    let mut grey = bytes.to_vec();
    let black_is_zero = if is_little { [1, 0] } else { [0, 1] };
    grey.get_mut(value..value + 2)?.copy_from_slice(&black_is_zero);
    Some(grey)
}

/// Samples of up to 8 bits, of rows padded to whole bytes.
fn unpacked(packed: &[u8], width: usize, bits: usize) -> impl Iterator<Item = u8> {
    let mask = u8::MAX >> (8 - bits);
    let value = move |row: &[u8], x: usize| row[x * bits / 8] >> (8 - bits - x * bits % 8) & mask;
    packed.chunks_exact((width * bits).div_ceil(8)).flat_map(move |row| (0..width).map(move |x| value(row, x)))
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
