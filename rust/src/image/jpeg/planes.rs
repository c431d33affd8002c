//! Planes of samples, and from three of them to RGB: chroma brought to full size as libjpeg-turbo does by default.
//!
//! "Fancy" upsampling is a triangle filter: horizontally 3/4 and 1/4 of the nearest two, vertically the same; both
//! at once in 4 bits of fraction.

use libjpeg_turbo_rs::simd::SimdRoutines;

/// One component: whole blocks, of which `size` is the picture.
pub(super) struct Plane {
    pub(super) samples: Vec<u8>,
    stride: usize,
    size: (usize, usize),
}

impl Plane {
    /// An empty plane in a used buffer.
    pub(super) fn in_buffer(samples: Vec<u8>) -> Self {
        Self { samples, stride: 0, size: (0, 0) }
    }

    /// Become a plane of `size` (height, width) in blocks that cover `padded`; every block is to be put.
    pub(super) fn shape(&mut self, size: (usize, usize), padded: (usize, usize)) -> Option<()> {
        let length = padded.0 * padded.1;
        self.samples.try_reserve(length.saturating_sub(self.samples.len())).ok()?;
        self.samples.resize(length, 0);
        (self.stride, self.size) = (padded.1, size);
        Some(())
    }

    /// Store the block at a row and column of blocks.
    #[inline(always)]
    pub(super) fn put(&mut self, row: usize, column: usize, block: &[u8; 64]) {
        let start = row * 8 * self.stride + column * 8;
        let lines = self.samples[start..].chunks_mut(self.stride);
        for (line, samples) in lines.zip(block.as_chunks::<8>().0) {
            line[..8].copy_from_slice(samples);
        }
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.stride..][..self.size.1]
    }
}

/// RGB rows of the picture of these planes.
pub(super) fn write_rgb(routines: &SimdRoutines, planes: &[Plane; 3], width: usize, pixels: &mut [u8]) {
    let [luma, cb, cr] = planes;
    let (half_width, half_height) = (cb.size.1 < luma.size.1, cb.size.0 < luma.size.0);
    let mut wide = [vec![0; 2 * cb.size.1], vec![0; 2 * cb.size.1]];
    let mut sums = vec![0; cb.size.1];
    for (y, rgb) in pixels.chunks_exact_mut(3 * width).enumerate() {
        if half_width {
            for (plane, wide) in [cb, cr].into_iter().zip(&mut wide) {
                if half_height {
                    blend_rows(plane, y, &mut sums);
                    widen(&sums, wide);
                } else {
                    routines.fancy_upsample_h2v1(plane.row(y), plane.size.1, wide);
                }
            }
            routines.ycbcr_to_rgb_row(luma.row(y), &wide[0][..width], &wide[1][..width], rgb, width);
        } else {
            routines.ycbcr_to_rgb_row(luma.row(y), cb.row(y), cr.row(y), rgb, width);
        }
    }
}

/// 3 parts of the nearer row of a half-size plane and 1 of the farther, for row `y` of the picture.
fn blend_rows(plane: &Plane, y: usize, sums: &mut [u16]) {
    let near = y / 2;
    let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(plane.size.0 - 1) };
    for ((sum, &near), &far) in sums.iter_mut().zip(plane.row(near)).zip(plane.row(far)) {
        *sum = 3 * u16::from(near) + u16::from(far);
    }
}

/// 3 parts of the nearer sum and 1 of the farther, in sixteenths; the ends have no farther one.
fn widen(sums: &[u16], wide: &mut [u8]) {
    let (pairs, _) = wide.as_chunks_mut::<2>();
    for (pair, around) in pairs[1..].iter_mut().zip(sums.windows(3)) {
        *pair = [((3 * around[1] + around[0] + 8) >> 4) as u8, ((3 * around[1] + around[2] + 7) >> 4) as u8];
    }
    let last = sums.len() - 1;
    pairs[0] = [((4 * sums[0] + 8) >> 4) as u8, ((3 * sums[0] + sums[1] + 7) >> 4) as u8];
    pairs[last] = [((3 * sums[last] + sums[last - 1] + 8) >> 4) as u8, ((4 * sums[last] + 7) >> 4) as u8];
}
