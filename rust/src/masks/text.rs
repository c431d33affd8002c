//! COCO's text form of run lengths: groups of five bits, lowest first, from character 48 on.
//!
//! From the fourth run on, the difference to the run before the last is written. Bit 5 of a character says that more
//! follow, bit 4 of the last one is the sign.

use super::Rle;
use crate::error::{Error, Result};

/// Most characters of a number: pycocotools writes differences of 32 bits.
const MOST_GROUPS: u32 = 7;

impl Rle {
    /// Read the text form.
    ///
    /// # Errors
    /// [`Error::Argument`] for other characters, numbers outside 0 to 2^32, a number that is cut off, and as
    /// [`Rle::new`].
    pub fn from_text(height: usize, width: usize, text: &[u8]) -> Result<Self> {
        let mut counts: Vec<u32> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (difference, after) = number(rest)?;
            rest = after;
            let base = if counts.len() > 2 { i64::from(counts[counts.len() - 2]) } else { 0 };
            let count = u32::try_from(base + difference);
            counts.push(count.map_err(|_| damaged("a run is negative or too long"))?);
        }
        Self::new(height, width, counts)
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (i, &count) in self.counts().iter().enumerate() {
            let base = if i > 2 { self.counts()[i - 2] } else { 0 };
            let mut rest = i64::from(count) - i64::from(base);
            loop {
                let group = (rest & 31) as u8;
                rest >>= 5;
                let last = rest == if group & 16 != 0 { -1 } else { 0 };
                text.push(char::from(48 + group + if last { 0 } else { 32 }));
                if last {
                    break;
                }
            }
        }
        text
    }
}

/// The first number and the text after it.
fn number(text: &[u8]) -> Result<(i64, &[u8])> {
    let (mut value, mut shift) = (0i64, 0);
    for (i, &character) in text.iter().enumerate() {
        let group = character.wrapping_sub(48);
        if group >= 64 {
            return Err(damaged(&format!("character {character} is not part of one")));
        }
        value |= i64::from(group & 31) << shift;
        shift += 5;
        if group & 32 == 0 {
            let sign = if group & 16 != 0 { -1 << shift } else { 0 };
            return Ok((value | sign, &text[i + 1..]));
        }
        if shift == 5 * MOST_GROUPS {
            return Err(damaged("a number has too many characters"));
        }
    }
    Err(damaged("it ends within a number"))
}

fn damaged(what: &str) -> Error {
    Error::Argument(format!("damaged RLE: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_mask_survive_the_way_there_and_back(
            (height, width, mask) in (1usize..9, 1usize..9).prop_flat_map(|(h, w)| (
                Just(h), Just(w), prop::collection::vec(0u8..2, h * w)
            ))
        ) {
            let rle = Rle::of_mask(height, width, &mask).unwrap();
            prop_assert_eq!(&Rle::from_text(height, width, rle.to_text().as_bytes()).unwrap(), &rle);
            let mut again = vec![9; mask.len()];
            rle.write(&mut again).unwrap();
            prop_assert_eq!(rle.area(), mask.iter().map(|&v| u64::from(v)).sum::<u64>());
            prop_assert_eq!(again, mask);
        }

        #[test]
        fn any_text_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..40), side in 0usize..70_000) {
            let _ = Rle::from_text(side, side, &text);
        }

        #[test]
        fn merged_masks_are_as_pixel_by_pixel(
            masks in prop::collection::vec(prop::collection::vec(0u8..2, 12), 1..5), intersect in any::<bool>()
        ) {
            let rles: Vec<Rle> = masks.iter().map(|mask| Rle::of_mask(3, 4, mask).unwrap()).collect();
            let mut merged = [0; 12];
            Rle::merge(&rles, intersect).unwrap().write(&mut merged).unwrap();
            for (i, &got) in merged.iter().enumerate() {
                let mut values = masks.iter().map(|mask| mask[i] == 1);
                prop_assert_eq!(got == 1, if intersect { values.all(|v| v) } else { values.any(|v| v) });
            }
        }
    }
}
