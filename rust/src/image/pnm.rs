//! PGM and PPM in binary form (P5, P6): 8 or 16 bits, the first picture of a file.
//!
//! Levels are scaled from the file's largest one to 255, half up; 16 bits become 8 as everywhere by `>> 8`.

use super::{Decoded, Header, Image, Orientation};

/// What stands before the samples.
struct Start<'a> {
    channels: usize,
    width: u64,
    height: u64,
    most: u32,
    samples: &'a [u8],
}

fn start(bytes: &[u8]) -> Decoded<Start<'_>> {
    let ended = || "the PNM ends inside its header".to_owned();
    let channels = if bytes.get(1) == Some(&b'6') { 3 } else { 1 };
    let mut rest = bytes.get(2..).ok_or_else(ended)?;
    let mut numbers = [0u32; 3];
    for number in &mut numbers {
        rest = after_space(rest);
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let text = std::str::from_utf8(&rest[..digits]).unwrap_or_default();
        *number = text.parse().map_err(|_| "damaged PNM (its header has something else than numbers)".to_owned())?;
        rest = &rest[digits..];
    }
    let [width, height, most] = numbers;
    if most == 0 || most > 65_535 {
        return Err(format!("damaged PNM (a largest level of {most})"));
    }
    let samples = rest.get(1..).ok_or_else(ended)?;
    Ok(Start { channels, width: width.into(), height: height.into(), most, samples })
}

/// Without leading white space and comments.
fn after_space(mut bytes: &[u8]) -> &[u8] {
    loop {
        match bytes {
            [b'#', ..] => {
                let end = bytes.iter().position(|&b| matches!(b, b'\n' | b'\r')).unwrap_or(bytes.len());
                bytes = &bytes[end..];
            }
            [first, rest @ ..] if first.is_ascii_whitespace() => bytes = rest,
            _ => return bytes,
        }
    }
}

pub(super) fn header(bytes: &[u8]) -> Decoded<Header> {
    let start = start(bytes)?;
    Header::new(start.height, start.width, Orientation::UPRIGHT)
}

pub(super) fn decode(bytes: &[u8], header: Header) -> Decoded<Image> {
    let Start { channels, most, samples, .. } = start(bytes)?;
    let size = if most > 255 { 2 } else { 1 };
    let samples = samples
        .get(..header.height * header.width * channels * size)
        .ok_or("the PNM holds fewer pixels than its header says")?;
    let level = |value: u32| match most {
        255 => value as u8,
        65_535 => (value >> 8) as u8,
        _ => ((value * 255 + most / 2) / most).min(255) as u8,
    };
    let levels = samples.chunks_exact(size).map(|s| level(s.iter().fold(0, |value, &b| value << 8 | u32::from(b))));
    let copies = 3 / channels;
    let pixels = levels.flat_map(|level| std::iter::repeat_n(level, copies)).collect();
    Ok(Image { height: header.height, width: header.width, pixels })
}
