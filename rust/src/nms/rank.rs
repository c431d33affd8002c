//! Order of candidates: falling score, equal scores by rising index, sorted only as far as it is asked for.

/// A score and an index as one number that rises as the score falls; 0 and -0 are equal.
pub(super) fn key(score: f32, index: u32) -> u64 {
    let bits = (score + 0.0).to_bits(); // -0 becomes 0
    let rising = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(!rising) << 32 | u64::from(index)
}

/// Indices of keys in rising order; each block is selected and sorted when it is reached, and larger than the last.
pub(super) struct Ranked {
    keys: Vec<u64>,
    next: usize,
    sorted: usize,
    block: usize,
}

impl Ranked {
    /// The first block has `block` keys.
    pub(super) fn new(keys: Vec<u64>, block: usize) -> Self {
        Self { keys, next: 0, sorted: 0, block: block.max(1) }
    }

    /// All scores at once.
    pub(super) fn of_scores(scores: &[f32], block: usize) -> Self {
        Self::new(scores.iter().zip(0..).map(|(&score, index)| key(score, index)).collect(), block)
    }

    /// Sorts the next block.
    #[cold]
    fn sort_block(&mut self) {
        let rest = &mut self.keys[self.sorted..];
        let size = self.block.min(rest.len());
        if size < rest.len() {
            rest.select_nth_unstable(size);
        }
        rest[..size].sort_unstable();
        self.sorted += size;
        self.block *= 4;
    }
}

impl Iterator for Ranked {
    type Item = (f32, u32);

    /// The next score and index.
    #[inline]
    fn next(&mut self) -> Option<(f32, u32)> {
        if self.next == self.sorted {
            self.sort_block();
        }
        let key = *self.keys.get(self.next)?;
        self.next += 1;
        let rising = !(key >> 32) as u32;
        let bits = if rising >> 31 == 1 { rising & !(1 << 31) } else { !rising };
        Some((f32::from_bits(bits), key as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zeros_are_equal_and_infinities_are_at_the_ends() {
        let scores = [0.0, -0.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, 1e-45, -1e-45];
        let order: Vec<u32> = Ranked::of_scores(&scores, 2).map(|r| r.1).collect();
        assert_eq!(order, [3, 5, 0, 1, 6, 2, 4]);
    }

    proptest! {
        #[test]
        fn equals_a_stable_sort(scores in prop::collection::vec(-4i8..5, 0..200), block in 1usize..50) {
            let scores: Vec<f32> = scores.into_iter().map(|s| f32::from(s) / 4.0).collect();
            let mut expected: Vec<u32> = (0..scores.len() as u32).collect();
            expected.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
            let ranked: Vec<_> = Ranked::of_scores(&scores, block).collect();
            prop_assert!(ranked.iter().map(|r| r.1).eq(expected));
            prop_assert!(ranked.iter().all(|&(score, i)| score == scores[i as usize]));
        }
    }
}
