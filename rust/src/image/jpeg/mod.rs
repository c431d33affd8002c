//! JPEG, bit-identical to libjpeg-turbo: the commonest kind by `baseline`, the others (progressive, arithmetic, CMYK, …)
//! and whatever is damaged by libjpeg-turbo-rs.
//!
//! Missing end marker: accepted. Cut short: accepted when at least 90 % of the blocks are there; the rows after the
//! cut become grey 114. `strict` refuses anything that needed repair.

mod baseline;
mod bits;
mod planes;

use libjpeg_turbo_rs::{DecodeWarning, Decoder, PixelFormat};

use super::{Decoded, Header, Image, MAX_PIXELS, Orientation, allocate};

/// Part of the picture that must be there, in percent.
const MIN_DECODED_PERCENT: usize = 90;
/// Colour of what is missing.
const GREY: u8 = 114;
/// No real progressive picture has more scans; each costs a pass over the picture.
const MAX_SCANS: u32 = 500;

/// Facts of the marker segments before the first scan.
#[derive(Default)]
struct Markers {
    frame: Option<(u64, u64)>,
    precision: u8,
    mcu_height: usize,
    mcu_width: usize,
    exif: Option<Orientation>,
    adobe: bool,
    restarts: bool,
    /// Code of the frame header, which names the process.
    process: u8,
}

pub(super) fn header(bytes: &[u8]) -> Decoded<Header> {
    let markers = read_markers(bytes)?;
    let (height, width) = markers.frame.ok_or("the JPEG has no frame header")?;
    if markers.precision != 8 {
        return Err(format!("{}-bit JPEG is not read; convert it to 8 bits", markers.precision));
    }
    Header::new(height, width, markers.exif.unwrap_or(Orientation::UPRIGHT))
}

pub(super) fn decode(bytes: &[u8], header: Header, strict: bool) -> Decoded<Image> {
    if let Some(image) = baseline::decode(bytes, header) {
        return Ok(image);
    }
    let markers = read_markers(bytes)?;
    refuse_short(bytes, header, &markers)?;
    let mut decoder = Decoder::new(bytes).map_err(|e| format!("damaged JPEG ({e})"))?;
    decoder.set_max_pixels(MAX_PIXELS as usize);
    decoder.set_scan_limit(MAX_SCANS);
    decoder.set_lenient(!strict);
    let is_cmyk = decoder.header().components.len() == 4;
    decoder.set_output_format(if is_cmyk { PixelFormat::Cmyk } else { PixelFormat::Rgb });
    let mut pixels = allocate(header.height * header.width * if is_cmyk { 4 } else { 3 })?;
    let info = decoder.decode_image_into(&mut pixels).map_err(|e| format!("damaged JPEG ({e})"))?;
    if (info.height, info.width) != (header.height, header.width) {
        return Err(format!("the JPEG says {}x{} twice differently", header.width, header.height));
    }
    if is_cmyk {
        pixels = rgb_from_cmyk(&pixels, markers.adobe);
    }
    let mut image = Image { height: header.height, width: header.width, pixels };
    fill_missing(&mut image, &markers, &info.warnings)?;
    Ok(image)
}

/// Refuse a picture whose file cannot hold it, before memory is taken: Huffman codes spend a bit or more on each MCU.
fn refuse_short(bytes: &[u8], header: Header, markers: &Markers) -> Decoded<()> {
    let columns = header.width.div_ceil(markers.mcu_width.max(1));
    let rows = header.height.div_ceil(markers.mcu_height.max(1));
    let held = bytes.len() * 8;
    if markers.is_arithmetic() || columns * rows * MIN_DECODED_PERCENT <= held * 100 {
        return Ok(());
    }
    let percent = held * 100 / (columns * rows);
    Err(format!("the JPEG is cut short: at most {percent} % of it is there"))
}

/// Refuse a picture of which too much is missing; paint what is missing grey.
fn fill_missing(image: &mut Image, markers: &Markers, warnings: &[DecodeWarning]) -> Decoded<()> {
    for warning in warnings {
        match *warning {
            DecodeWarning::TruncatedData { decoded_mcus, total_mcus } => {
                if decoded_mcus * 100 < total_mcus * MIN_DECODED_PERCENT {
                    let percent = decoded_mcus * 100 / total_mcus.max(1);
                    return Err(format!("the JPEG is cut short: {percent} % of it is there"));
                }
                if !markers.restarts && !markers.is_progressive() {
                    let per_row = image.width.div_ceil(markers.mcu_width.max(1)).max(1);
                    let row = (decoded_mcus / per_row * markers.mcu_height).min(image.height);
                    image.pixels[row * image.width * 3..].fill(GREY);
                }
            }
            DecodeWarning::UnsupportedRecovered { ref detail } => {
                return Err(format!("this kind of JPEG is not read ({detail})"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// RGB of CMYK; Adobe's files store the inks inverted.
fn rgb_from_cmyk(cmyk: &[u8], inverted: bool) -> Vec<u8> {
    let flip = if inverted { 0 } else { 255 };
    cmyk.chunks_exact(4)
        .flat_map(|inks| {
            let [c, m, y, k] = [inks[0] ^ flip, inks[1] ^ flip, inks[2] ^ flip, inks[3] ^ flip];
            [c, m, y].map(|light| k - scaled_255(255 - light, k))
        })
        .collect()
}

/// a * b / 255, rounded.
fn scaled_255(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// Walk the marker segments up to the first scan.
fn read_markers(bytes: &[u8]) -> Decoded<Markers> {
    let mut markers = Markers::default();
    let mut at = 2;
    loop {
        while bytes.get(at).is_some_and(|&b| b != 0xFF) {
            at += 1;
        }
        while bytes.get(at) == Some(&0xFF) {
            at += 1;
        }
        let code = *bytes.get(at).ok_or("the JPEG ends inside its header")?;
        at += 1;
        match code {
            0x00 | 0x01 | 0xD0..=0xD8 => continue,
            0xD9 | 0xDA => return Ok(markers),
            _ => {}
        }
        let length = match bytes.get(at..at + 2) {
            Some(two) => usize::from(u16::from_be_bytes([two[0], two[1]])),
            None => return Err("the JPEG ends inside its header".into()),
        };
        let segment = bytes.get(at + 2..at + length.max(2)).ok_or("the JPEG ends inside its header")?;
        markers.note(code, segment);
        at += length.max(2);
    }
}

impl Markers {
    fn is_progressive(&self) -> bool {
        matches!(self.process, 0xC2 | 0xC6 | 0xCA | 0xCE)
    }

    fn is_arithmetic(&self) -> bool {
        self.process > 0xC8
    }

    fn note(&mut self, code: u8, segment: &[u8]) {
        match code {
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => self.note_frame(code, segment),
            0xDD => self.restarts = segment.iter().any(|&b| b != 0),
            0xE1 => {
                if let (None, Some(block)) = (self.exif, segment.strip_prefix(b"Exif\0\0")) {
                    self.exif = Some(Orientation::from_tiff(block));
                }
            }
            0xEE => self.adobe |= segment.starts_with(b"Adobe"),
            _ => {}
        }
    }

    fn note_frame(&mut self, code: u8, segment: &[u8]) {
        let [precision, h1, h0, w1, w0, _, components @ ..] = segment else {
            return;
        };
        let pair = |high: u8, low: u8| u64::from(u16::from_be_bytes([high, low]));
        self.frame = Some((pair(*h1, *h0), pair(*w1, *w0)));
        self.precision = *precision;
        self.process = code;
        let factors = || components.chunks_exact(3).map(|c| (usize::from(c[1] >> 4), usize::from(c[1] & 15)));
        let alone = components.len() == 3;
        self.mcu_width = if alone { 8 } else { 8 * factors().map(|f| f.0).max().unwrap_or(1) };
        self.mcu_height = if alone { 8 } else { 8 * factors().map(|f| f.1).max().unwrap_or(1) };
    }
}
