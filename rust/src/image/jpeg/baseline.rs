//! The commonest JPEG, decoded quickly: baseline, Huffman, three components in one scan, 4:4:4, 4:2:2 or 4:2:0.
//!
//! The entropy decoder is ours; inverse DCT, upsampling and colour are those of libjpeg-turbo-rs, so the pixels are
//! bit-identical to libjpeg-turbo's. Whatever is unusual or damaged is left to the general decoder: the answer is
//! then none. Source: ITU T.81. Test: `tests/data/test_jpeg.py`.

use std::cell::RefCell;
use std::sync::OnceLock;

use libjpeg_turbo_rs::simd::{SimdRoutines, detect};

use super::super::{Header, Image, borrow};
use super::bits::{BLOCK, Bits, Table, ZIGZAG, unstuff};
use super::planes::{Plane, write_rgb};

/// Most bits of a DC difference.
const MAX_DC_SIZE: u8 = 11;

/// Buffers of pictures up to this size stay with their thread: fetching fresh pages costs a tenth of the time.
const MAX_KEPT_BYTES: usize = 4 << 20;

#[derive(Default)]
struct Scratch {
    clean: Vec<u8>,
    samples: [Vec<u8>; 3],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What the segments before the scan say.
#[derive(Default)]
struct Frame {
    quants: [Option<[u16; 64]>; 4],
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    components: Vec<Component>,
    size: (usize, usize),
}

/// One of the three colour planes.
#[derive(Clone, Copy)]
struct Component {
    id: u8,
    h: usize,
    v: usize,
    quant: usize,
    dc: usize,
    ac: usize,
}

/// The picture, or none when this is not a case for this decoder.
pub(super) fn decode(bytes: &[u8], header: Header) -> Option<Image> {
    let (frame, scan) = Frame::read(bytes)?;
    if frame.size != (header.height, header.width) {
        return None;
    }
    let mut scratch = SCRATCH.take();
    let length = unstuff(scan, &mut scratch.clean);
    if !matches!(scan[length..], [0xFF, 0xD9, ..]) {
        return None;
    }
    let planes = frame.planes(&scratch.clean, scratch.samples)?;
    let mut pixels = borrow(header.num_bytes()).ok()?;
    write_rgb(routines(), &planes, header.width, &mut pixels);
    if pixels.len() <= MAX_KEPT_BYTES {
        SCRATCH.set(Scratch { clean: scratch.clean, samples: planes.map(|plane| plane.samples) });
    }
    Some(Image { height: header.height, width: header.width, pixels })
}

fn routines() -> &'static SimdRoutines {
    static ROUTINES: OnceLock<SimdRoutines> = OnceLock::new();
    ROUTINES.get_or_init(detect)
}

impl Frame {
    /// Read the segments up to the scan; the scan's bytes follow.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut frame = Self::default();
        let mut rest = bytes.strip_prefix(&[0xFF, 0xD8])?;
        loop {
            let [0xFF, code, high, low, ..] = *rest else { return None };
            let length = usize::from(u16::from_be_bytes([high, low]));
            let segment = rest.get(4..2 + length)?;
            rest = &rest[2 + length..];
            match code {
                0xC0 | 0xC1 => frame.note_frame(segment)?,
                0xC4 => frame.note_tables(segment)?,
                0xDB => frame.note_quants(segment)?,
                0xDA => return frame.note_scan(segment).map(|()| (frame, rest)),
                0xE0..=0xED | 0xEF | 0xFE => {}
                // Adobe's segment: only with the transform that JFIF has too.
                0xEE if !segment.starts_with(b"Adobe") || segment.get(11) == Some(&1) => {}
                _ => return None, // other processes, restart intervals
            }
        }
    }

    fn note_frame(&mut self, segment: &[u8]) -> Option<()> {
        let [8, h1, h0, w1, w0, 3, components @ ..] = segment else { return None };
        if !self.components.is_empty() {
            return None; // a second frame
        }
        let pair = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low]));
        self.size = (pair(*h1, *h0), pair(*w1, *w0));
        let (triples, []) = components.as_chunks::<3>() else { return None };
        let component = |&[id, factors, quant]: &[u8; 3]| {
            let (h, v) = (usize::from(factors >> 4), usize::from(factors & 15));
            Component { id, h, v, quant: usize::from(quant), dc: 0, ac: 0 }
        };
        self.components = triples.iter().map(component).collect();
        let [luma, cb, cr] = self.components[..] else { return None };
        // libjpeg-turbo repeats the samples of chroma rows of one or two; so few are not worth a case.
        let is_wide = luma.h == 1 || self.size.1 > 4;
        let known =
            is_wide && matches!((luma.h, luma.v), (1, 1) | (2, 1 | 2)) && [cb, cr].iter().all(|c| (c.h, c.v) == (1, 1));
        let is_rgb = [luma.id, cb.id, cr.id] == *b"RGB";
        (known && !is_rgb).then_some(())
    }

    fn note_quants(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [kind @ 0..=3, values @ ..] = segment {
            let mut table = [0; 64];
            for (&place, &value) in ZIGZAG.iter().zip(values.get(..64)?) {
                table[usize::from(place)] = u16::from(value);
            }
            self.quants[usize::from(*kind)] = Some(table);
            segment = &values[64..];
        }
        segment.is_empty().then_some(())
    }

    fn note_tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [kind, values @ ..] = segment {
            let counts = values.first_chunk::<16>()?;
            let count: usize = counts.iter().map(|&c| usize::from(c)).sum();
            let table = Table::new(counts, values.get(16..16 + count)?)?;
            let tables = match kind >> 4 {
                0 if values[16..16 + count].iter().all(|&size| size <= MAX_DC_SIZE) => &mut self.dc,
                1 => &mut self.ac,
                _ => return None,
            };
            *tables.get_mut(usize::from(kind & 15))? = Some(table);
            segment = &values[16 + count..];
        }
        Some(())
    }

    fn note_scan(&mut self, segment: &[u8]) -> Option<()> {
        let [3, a, ta, b, tb, c, tc, 0, 63, 0] = *segment else { return None };
        for (component, (id, tables)) in self.components.iter_mut().zip([(a, ta), (b, tb), (c, tc)]) {
            if component.id != id {
                return None;
            }
            (component.dc, component.ac) = (usize::from(tables >> 4), usize::from(tables & 15));
        }
        (self.components.len() == 3).then_some(())
    }

    /// Decode the scan into planes of whole blocks.
    fn planes(&self, clean: &[u8], buffers: [Vec<u8>; 3]) -> Option<[Plane; 3]> {
        let [luma, ..] = self.components[..] else { return None };
        let mcus = (self.size.0.div_ceil(8 * luma.v), self.size.1.div_ceil(8 * luma.h));
        // A block takes two codes at least: a tiny file does not get memory for a huge picture.
        if clean.len() * 4 < mcus.0 * mcus.1 * (luma.h * luma.v + 2) {
            return None;
        }
        let mut planes = buffers.map(Plane::in_buffer);
        let mut decoders = Vec::with_capacity(3);
        for (plane, c) in planes.iter_mut().zip(&self.components) {
            let size = ((self.size.0 * c.v).div_ceil(luma.v), (self.size.1 * c.h).div_ceil(luma.h));
            plane.shape(size, (mcus.0 * c.v * 8, mcus.1 * c.h * 8))?;
            let tables = (self.dc.get(c.dc)?.as_ref()?, self.ac.get(c.ac)?.as_ref()?);
            decoders.push(BlockDecoder {
                routines: routines(),
                tables,
                quant: self.quants.get(c.quant)?.as_ref()?,
                last_dc: 0,
            });
        }
        let mut bits = Bits::new(clean);
        for row in 0..mcus.0 {
            for column in 0..mcus.1 {
                for ((plane, decoder), c) in planes.iter_mut().zip(&mut decoders).zip(&self.components) {
                    for (y, x) in (0..c.v).flat_map(|y| (0..c.h).map(move |x| (y, x))) {
                        decoder.decode(&mut bits, plane, row * c.v + y, column * c.h + x)?;
                    }
                }
            }
            if bits.is_past_end() {
                return None;
            }
        }
        Some(planes)
    }
}

struct BlockDecoder<'a> {
    routines: &'static SimdRoutines,
    tables: (&'a Table, &'a Table),
    quant: &'a [u16; 64],
    last_dc: i32,
}

impl BlockDecoder<'_> {
    /// Decode the next block into its place.
    #[inline(always)]
    fn decode(&mut self, stream: &mut Bits<'_>, plane: &mut Plane, row: usize, column: usize) -> Option<()> {
        let mut bits = *stream;
        let mut coefficients = [0; BLOCK];
        self.last_dc += bits.difference(self.tables.0)?;
        coefficients[0] = i16::try_from(self.last_dc).ok()?;
        let end = bits.coefficients(self.tables.1, &mut coefficients, 1)?;
        *stream = bits;
        let flat = if end == 1 { flat_sample(self.last_dc * i32::from(self.quant[0])) } else { None };
        let samples = flat.map_or_else(|| self.samples(&coefficients), |sample| [sample; 64]);
        plane.put(row, column, &samples);
        Some(())
    }

    #[inline(always)]
    fn samples(&self, coefficients: &[i16; BLOCK]) -> [u8; 64] {
        let mut samples = [0; 64];
        if let Some(block) = coefficients.first_chunk() {
            (self.routines.idct_islow)(block, self.quant, &mut samples);
        }
        samples
    }
}

/// Every sample of a block with nothing but its mean; none for means that the transform's 16 bits do not hold.
#[inline(always)]
fn flat_sample(mean: i32) -> Option<u8> {
    (mean.unsigned_abs() < 1 << 13).then(|| (((mean + 4) >> 3) + 128).clamp(0, 255) as u8)
}
