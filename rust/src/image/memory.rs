//! Memory for pixels: zeroed, or that of pictures nobody needs any more, for fresh pages cost a twentieth of decoding.

use std::sync::Mutex;

use super::{Decoded, Image};

/// Buffers kept; the others go back to the system.
const MAX_SPARE: usize = 8;
/// Larger buffers go back too.
const MAX_SPARE_BYTES: usize = 4 << 20;

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Bytes of a picture, zeroed, or a refusal when memory is short.
pub(super) fn allocate(num_bytes: usize) -> Decoded<Vec<u8>> {
    sized(Vec::new(), num_bytes)
}

/// The same with any values, all of which are to be written.
pub(super) fn borrow(num_bytes: usize) -> Decoded<Vec<u8>> {
    // not much more than asked for: a cache may keep it
    let fits = |pixels: &Vec<u8>| (num_bytes..=num_bytes + num_bytes / 4).contains(&pixels.capacity());
    // not waiting: in a forked child nobody may be left to open the lock
    let spare = SPARE.try_lock().ok().and_then(|mut spare| spare.iter().position(fits).map(|at| spare.remove(at)));
    sized(spare.unwrap_or_default(), num_bytes)
}

/// Let a later picture have the memory of this one.
pub fn give_back(image: Image) {
    if let Ok(mut spare) = SPARE.try_lock()
        && image.pixels.capacity() <= MAX_SPARE_BYTES
    {
        spare.push(image.pixels);
        if spare.len() > MAX_SPARE {
            drop(spare.remove(0));
        }
    }
}

fn sized(mut pixels: Vec<u8>, num_bytes: usize) -> Decoded<Vec<u8>> {
    pixels
        .try_reserve_exact(num_bytes.saturating_sub(pixels.len()))
        .map_err(|_| format!("no memory for {num_bytes} bytes of pixels"))?;
    pixels.resize(num_bytes, 0);
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::{Image, borrow, give_back};

    #[test]
    fn a_picture_gets_the_memory_of_a_former_one() {
        let image = Image { height: 10, width: 10, pixels: vec![7; 300] };
        let place = image.pixels.as_ptr();
        give_back(image);
        let smaller = borrow(200).unwrap();
        assert!(smaller.as_ptr() != place, "too large for it");
        let borrowed = borrow(280).unwrap();
        assert_eq!((borrowed.as_ptr(), borrowed.len()), (place, 280));
        borrow(usize::MAX / 2).unwrap_err();
    }
}
