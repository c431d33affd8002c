//! Windows BMP: 1, 4, 8, 16, 24, 32 bits, bit fields, RLE4 and RLE8, bottom-up and top-down.

use super::{Decoded, Header, Image, Orientation, allocate};

const FILE_HEADER_BYTES: usize = 14;
const CORE_HEADER_BYTES: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Rle8,
    Rle4,
    Fields,
}

struct Layout {
    width: usize,
    height: usize,
    top_down: bool,
    bits: usize,
    packing: Packing,
    data_at: usize,
    palette: Vec<[u8; 3]>,
    masks: [u32; 3],
}

pub(super) fn header(bytes: &[u8]) -> Decoded<Header> {
    let (width, height) = size(bytes).ok_or("the BMP ends inside its header")?;
    let width = u64::try_from(width).map_err(|_| format!("the BMP's width is {width}"))?;
    Header::new(height.unsigned_abs(), width, Orientation::UPRIGHT)
}

pub(super) fn decode(bytes: &[u8], header: Header) -> Decoded<Image> {
    let layout = read_layout(bytes, header).ok_or("the BMP ends inside its header")??;
    let data = bytes.get(layout.data_at..).ok_or("the BMP ends before its pixels")?;
    let mut pixels = allocate(header.num_bytes())?;
    match layout.packing {
        Packing::Rle4 | Packing::Rle8 => unpack_runs(data, &layout, &mut pixels),
        Packing::Plain | Packing::Fields => unpack_rows(data, &layout, &mut pixels)?,
    }
    Ok(Image { height: header.height, width: header.width, pixels })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// (width, height); a negative height means that the first row comes first.
fn size(bytes: &[u8]) -> Option<(i64, i64)> {
    if u32_at(bytes, FILE_HEADER_BYTES)? as usize == CORE_HEADER_BYTES {
        return Some((u16_at(bytes, 18)?.into(), u16_at(bytes, 20)?.into()));
    }
    Some(((u32_at(bytes, 18)? as i32).into(), (u32_at(bytes, 22)? as i32).into()))
}

fn read_layout(bytes: &[u8], header: Header) -> Option<Decoded<Layout>> {
    let header_bytes = u32_at(bytes, FILE_HEADER_BYTES)? as usize;
    let is_core = header_bytes == CORE_HEADER_BYTES;
    let bits = usize::from(u16_at(bytes, if is_core { 24 } else { 28 })?);
    let compression = if is_core { 0 } else { u32_at(bytes, 30)? };
    let packing = match (compression, bits) {
        (0, 1 | 4 | 8 | 16 | 24 | 32) => Packing::Plain,
        (1, 8) => Packing::Rle8,
        (2, 4) => Packing::Rle4,
        (3 | 6, 16 | 32) => Packing::Fields,
        _ => {
            return Some(Err(format!("BMP with {bits} bits and compression {compression} is not read")));
        }
    };
    let masks = match (packing, bits) {
        (Packing::Fields, _) => [u32_at(bytes, 54)?, u32_at(bytes, 58)?, u32_at(bytes, 62)?],
        (_, 16) => [0x7C00, 0x03E0, 0x001F],
        _ => [0x00FF_0000, 0x0000_FF00, 0x0000_00FF],
    };
    let stated = if is_core { 0 } else { u32_at(bytes, 46)? as usize };
    let colours = if bits > 8 {
        0
    } else if stated == 0 {
        1 << bits
    } else {
        stated.min(256)
    };
    let mut palette_at = FILE_HEADER_BYTES.checked_add(header_bytes)?;
    if packing == Packing::Fields && header_bytes == 40 {
        palette_at += 12;
    }
    let entry = if is_core { 3 } else { 4 };
    let palette = (0..colours)
        .map_while(|i| bytes.get(palette_at + i * entry..)?.first_chunk::<3>().map(|bgr| [bgr[2], bgr[1], bgr[0]]))
        .collect();
    let top_down = size(bytes)?.1 < 0;
    let data_at = u32_at(bytes, 10)? as usize;
    let (height, width) = (header.height, header.width);
    Some(Ok(Layout { width, height, top_down, bits, packing, data_at, palette, masks }))
}

impl Layout {
    fn colour(&self, index: usize) -> [u8; 3] {
        self.palette.get(index).copied().unwrap_or([0; 3])
    }

    /// Start of stored row `y` among the output's pixels.
    fn row_start(&self, y: usize) -> usize {
        3 * self.width * if self.top_down { y } else { self.height - 1 - y }
    }
}

fn unpack_rows(data: &[u8], layout: &Layout, pixels: &mut [u8]) -> Decoded<()> {
    let stride = (layout.width * layout.bits).div_ceil(32) * 4;
    for y in 0..layout.height {
        let row = data.get(y * stride..(y + 1) * stride).ok_or("the BMP is cut short")?;
        let start = layout.row_start(y);
        for (x, out) in pixels[start..start + 3 * layout.width].chunks_exact_mut(3).enumerate() {
            out.copy_from_slice(&pixel(row, x, layout));
        }
    }
    Ok(())
}

fn pixel(row: &[u8], x: usize, layout: &Layout) -> [u8; 3] {
    match layout.bits {
        24 => [row[3 * x + 2], row[3 * x + 1], row[3 * x]],
        16 => {
            let value = u16::from_le_bytes([row[2 * x], row[2 * x + 1]]);
            layout.masks.map(|mask| field(value.into(), mask))
        }
        32 => {
            let value = u32::from_le_bytes([row[4 * x], row[4 * x + 1], row[4 * x + 2], row[4 * x + 3]]);
            layout.masks.map(|mask| field(value, mask))
        }
        bits => {
            let shift = 8 - bits - (x * bits) % 8;
            layout.colour(usize::from(row[x * bits / 8] >> shift) & ((1 << bits) - 1))
        }
    }
}

/// The bits under the mask, stretched to 0..255.
fn field(value: u32, mask: u32) -> u8 {
    if mask == 0 {
        return 0;
    }
    let shift = mask.trailing_zeros();
    let largest = u64::from(mask >> shift);
    (u64::from((value & mask) >> shift) * 255 / largest) as u8
}

/// Run-length packing: (count, value) pairs; a count of 0 escapes to end of line, end, move, or literal pixels.
fn unpack_runs(data: &[u8], layout: &Layout, pixels: &mut [u8]) {
    let nibbles = layout.packing == Packing::Rle4;
    let (mut x, mut y, mut at) = (0, 0, 0);
    let mut put = |x: usize, y: usize, index: u8| {
        if x < layout.width && y < layout.height {
            let start = layout.row_start(y) + 3 * x;
            pixels[start..start + 3].copy_from_slice(&layout.colour(index.into()));
        }
    };
    let half = |byte: u8, k: usize| {
        if !nibbles {
            byte
        } else if k % 2 == 0 {
            byte >> 4
        } else {
            byte & 15
        }
    };
    while let Some(&[count, value]) = data.get(at..).and_then(|rest| rest.first_chunk::<2>()) {
        at += 2;
        match (count, value) {
            (0, 0) => (x, y) = (0, y + 1),
            (0, 1) => return,
            (0, 2) => {
                let Some(&[right, down]) = data.get(at..).and_then(|rest| rest.first_chunk::<2>()) else {
                    return;
                };
                (x, y, at) = (x + usize::from(right), y + usize::from(down), at + 2);
            }
            (0, literal) => {
                let count = usize::from(literal);
                let num_bytes = if nibbles { count.div_ceil(2) } else { count };
                let Some(values) = data.get(at..at + num_bytes) else {
                    return;
                };
                (0..count).for_each(|k| put(x + k, y, half(values[if nibbles { k / 2 } else { k }], k)));
                (x, at) = (x + count, at + num_bytes.next_multiple_of(2));
            }
            (count, value) => {
                (0..usize::from(count)).for_each(|k| put(x + k, y, half(value, k)));
                x += usize::from(count);
            }
        }
    }
}
