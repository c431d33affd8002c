//! GIF: the first frame on its canvas; what it leaves uncovered takes the background colour.

use gif::{ColorOutput, DecodeOptions, Decoder, MemoryLimit};

use super::{Decoded, Header, Image, MAX_PIXELS, Orientation, allocate};

pub(super) fn header(bytes: &[u8]) -> Decoded<Header> {
    let Some([w0, w1, h0, h1]) = bytes.get(6..10).and_then(|s| s.first_chunk::<4>()) else {
        return Err("the GIF ends inside its header".into());
    };
    let (width, height) = (u16::from_le_bytes([*w0, *w1]), u16::from_le_bytes([*h0, *h1]));
    Header::new(height.into(), width.into(), Orientation::UPRIGHT)
}

pub(super) fn decode(bytes: &[u8], header: Header) -> Decoded<Image> {
    let broken = |e: gif::DecodingError| format!("damaged GIF ({e})");
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Bytes(std::num::NonZeroU64::MIN.saturating_add(MAX_PIXELS)));
    let mut decoder = options.read_info(bytes).map_err(broken)?;
    let mut pixels = allocate(header.num_bytes())?;
    let background = background(&decoder);
    pixels.chunks_exact_mut(3).for_each(|p| p.copy_from_slice(&background));
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.read_next_frame().map_err(broken)?.ok_or("the GIF has no picture")?;
    let palette = frame.palette.as_ref().or(global.as_ref()).ok_or("the GIF has no palette")?;
    let (left, top, frame_width) = (usize::from(frame.left), usize::from(frame.top), usize::from(frame.width));
    for (y, row) in frame.buffer.chunks_exact(frame_width.max(1)).enumerate() {
        for (x, &index) in row.iter().enumerate() {
            let (row, column) = (top + y, left + x);
            if row < header.height && column < header.width {
                let at = 3 * (row * header.width + column);
                let colour = palette.get(3 * usize::from(index)..3 * usize::from(index) + 3).unwrap_or(&[0; 3]);
                pixels[at..at + 3].copy_from_slice(colour);
            }
        }
    }
    Ok(Image { height: header.height, width: header.width, pixels })
}

fn background(decoder: &Decoder<&[u8]>) -> [u8; 3] {
    let index = 3 * decoder.bg_color().unwrap_or(0);
    let colour = decoder.global_palette().and_then(|palette| palette.get(index..index + 3)?.first_chunk::<3>());
    colour.copied().unwrap_or([0; 3])
}
