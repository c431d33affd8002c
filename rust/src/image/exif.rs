//! EXIF orientation: reading the one tag, and turning the picture.

use super::Image;

const ORIENTATION_TAG: u16 = 274;
const SHORT: u16 = 3;

/// EXIF orientation 1 to 8: how the stored picture must be turned to stand upright.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation(u8);

impl Orientation {
    /// As stored.
    pub const UPRIGHT: Self = Self(1);

    /// An orientation by its EXIF number; numbers outside 1 to 8 mean upright.
    pub fn new(value: u16) -> Self {
        if (1..=8).contains(&value) { Self(value as u8) } else { Self::UPRIGHT }
    }

    /// The orientation in a TIFF block (EXIF payload); a missing or damaged one means upright.
    pub(super) fn from_tiff(block: &[u8]) -> Self {
        find_tag(block).map_or(Self::UPRIGHT, Self::new)
    }

    /// (height, width) once upright.
    pub fn size(self, height: usize, width: usize) -> (usize, usize) {
        if self.0 >= 5 { (width, height) } else { (height, width) }
    }

    /// Stored (row, column) steps per upright column and row: `(origin, per column, per row)` in pixels of the store.
    fn walk(self, height: usize, width: usize) -> (isize, isize, isize) {
        let (h, w) = (height as isize, width as isize);
        let last_row = (h - 1) * w;
        match self.0 {
            2 => (w - 1, -1, w),
            3 => (last_row + w - 1, -1, -w),
            4 => (last_row, 1, -w),
            5 => (0, w, 1),
            6 => (last_row, -w, 1),
            7 => (last_row + w - 1, -w, -1),
            8 => (w - 1, w, -1),
            _ => (0, 1, w),
        }
    }
}

/// The picture turned and mirrored so that it stands upright.
pub fn upright(image: Image, orientation: Orientation) -> Image {
    if orientation == Orientation::UPRIGHT {
        return image;
    }
    let (height, width) = orientation.size(image.height, image.width);
    let (origin, per_column, per_row) = orientation.walk(image.height, image.width);
    let mut pixels = Vec::with_capacity(image.pixels.len());
    for y in 0..height as isize {
        for x in 0..width as isize {
            let at = 3 * (origin + x * per_column + y * per_row) as usize;
            pixels.extend_from_slice(&image.pixels[at..at + 3]);
        }
    }
    Image { height, width, pixels }
}

fn find_tag(block: &[u8]) -> Option<u16> {
    let little = match block.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let two = [*block.get(at)?, *block.get(at.checked_add(1)?)?];
        Some(if little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    };
    let long = |at: usize| {
        let (first, second) = (u32::from(short(at)?), u32::from(short(at.checked_add(2)?)?));
        Some(if little { second << 16 | first } else { first << 16 | second })
    };
    if short(2)? != 42 {
        return None;
    }
    let directory = long(4)? as usize;
    let entries = usize::from(short(directory)?);
    (0..entries)
        .map(|k| directory.saturating_add(2 + 12 * k))
        .find(|&entry| short(entry) == Some(ORIENTATION_TAG))
        .filter(|&entry| short(entry + 2) == Some(SHORT))
        .and_then(|entry| short(entry + 8))
}

#[cfg(test)]
mod tests {
    use super::{Image, Orientation, upright};

    /// A 2x3 picture with pixel values 1 to 6, seen through one orientation.
    fn turned(value: u16) -> (usize, usize, Vec<u8>) {
        let pixels = (1..=6u8).flat_map(|v| [v; 3]).collect();
        let image = upright(Image { height: 2, width: 3, pixels }, Orientation::new(value));
        (image.height, image.width, image.pixels.iter().step_by(3).copied().collect())
    }

    #[test]
    fn every_orientation_moves_every_pixel_where_the_standard_says() {
        assert_eq!(turned(1), (2, 3, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(turned(2), (2, 3, vec![3, 2, 1, 6, 5, 4]));
        assert_eq!(turned(3), (2, 3, vec![6, 5, 4, 3, 2, 1]));
        assert_eq!(turned(4), (2, 3, vec![4, 5, 6, 1, 2, 3]));
        assert_eq!(turned(5), (3, 2, vec![1, 4, 2, 5, 3, 6]));
        assert_eq!(turned(6), (3, 2, vec![4, 1, 5, 2, 6, 3]));
        assert_eq!(turned(7), (3, 2, vec![6, 3, 5, 2, 4, 1]));
        assert_eq!(turned(8), (3, 2, vec![3, 6, 2, 5, 1, 4]));
        assert_eq!(turned(9), turned(1));
    }

    #[test]
    fn a_tag_is_found_in_both_byte_orders_and_damage_means_upright() {
        let little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0";
        assert_eq!(Orientation::from_tiff(little), Orientation(6));
        assert_eq!(Orientation::from_tiff(big), Orientation(6));
        for end in 0..little.len() - 2 {
            let cut = Orientation::from_tiff(&little[..end]);
            assert!(cut == Orientation(1) || end >= 20, "{end}");
        }
        assert_eq!(Orientation::from_tiff(b"II*\0\xff\xff\xff\xff"), Orientation::UPRIGHT);
    }
}
