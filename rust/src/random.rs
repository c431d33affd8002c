//! Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011), keyed by seed, epoch and position.
//!
//! A number depends on its key and its place in the draw order alone, never on which thread asks or when.
//! The uniform and the bounded integer are defined here, so the bytes of a batch do not move with a crate's version.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// What a stream is for: two purposes never share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Order of the samples in an epoch (position 0).
    Order = 1,
    /// Augmentation of the sample at a position.
    Augment = 2,
    /// Side of the pictures of a batch (position: the batch's number).
    Size = 3,
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream of (seed, epoch, position) for one purpose.
    pub fn new(seed: u64, epoch: u32, position: u32, purpose: Purpose) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, position, epoch, purpose as u32],
            block: [0; 4],
            used: 4,
        }
    }

    /// Next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        let low = u64::from(self.block[self.used]);
        let high = u64::from(self.block[self.used + 1]);
        self.used += 2;
        high << 32 | low
    }

    /// Uniform in [0, 1) with 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform integer in 0..bound (0 for a bound of 0); bias below bound / 2^64.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A permutation of 0..length (Fisher-Yates from the end).
    pub fn permutation(&mut self, length: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..length).collect();
        for last in (1..length).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

/// Ten rounds of Philox4x32.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::{Purpose, Stream, philox};

    /// Known answers of the Random123 distribution (`kat_vectors`, philox4x32 10).
    #[test]
    fn philox_equals_the_published_vectors() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(philox(counter, [0xa409_3822, 0x299f_31d0]), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn streams_of_different_keys_differ_and_of_the_same_key_agree() {
        let first = |seed, epoch, position, purpose| Stream::new(seed, epoch, position, purpose).next_u64();
        let base = first(1, 2, 3, Purpose::Augment);
        assert_eq!(base, first(1, 2, 3, Purpose::Augment));
        for other in [first(2, 2, 3, Purpose::Augment), first(1, 3, 3, Purpose::Augment)] {
            assert_ne!(base, other);
        }
        assert_ne!(base, first(1, 2, 4, Purpose::Augment));
        assert_ne!(base, first(1, 2, 3, Purpose::Order));
        assert_ne!(base, first(1 << 32 | 1, 2, 3, Purpose::Augment));
    }

    #[test]
    fn uniform_numbers_fill_their_range_and_a_permutation_keeps_every_element() {
        let mut stream = Stream::new(7, 0, 0, Purpose::Order);
        let draws: Vec<f64> = (0..4000).map(|_| stream.unit()).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().sum::<f64>() / 4000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        assert!((0..1000).all(|_| stream.below(3) < 3));
        let mut order = stream.permutation(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
        assert!(stream.permutation(0).is_empty());
    }
}
