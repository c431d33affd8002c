//! Channels-last maps whose tokens may lie apart, such as a slice of the channels of a wider map.

use crate::error::{Error, Result};
use crate::simd::{Float, Vector};

/// Sizes B, H, W, D.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// B.
    pub batch: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// D.
    pub channels: usize,
}

impl Shape {
    /// B H W.
    pub fn tokens(&self) -> usize {
        self.batch * self.height * self.width
    }

    /// Values of a map.
    pub fn len(&self) -> usize {
        self.tokens() * self.channels
    }

    /// Whether a map has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Tokens of D values each, `stride` values apart.
#[derive(Clone, Copy, Debug)]
pub struct Map<'a, T> {
    /// From the first value of the first token on.
    pub values: &'a [T],
    /// Values from a token to the next.
    pub stride: usize,
}

impl<'a, T> Map<'a, T> {
    /// Errors unless there are `tokens` tokens of `channels` values.
    pub(super) fn check(&self, name: &str, tokens: usize, channels: usize) -> Result<()> {
        let needed = if tokens == 0 { 0 } else { (tokens - 1) * self.stride + channels };
        if self.values.len() >= needed && self.stride >= channels {
            return Ok(());
        }
        Err(Error::Argument(format!(
            "{name} must hold {tokens} tokens of {channels} values, got {} values, {} per token",
            self.values.len(),
            self.stride
        )))
    }

    /// The tokens from `first` on.
    #[inline(always)]
    pub(super) fn from(&self, first: usize) -> Self {
        Self { values: &self.values[first * self.stride..], stride: self.stride }
    }

    /// The values from a token on.
    #[inline(always)]
    pub(super) fn at(&self, token: usize) -> &'a [T] {
        &self.values[token * self.stride..]
    }
}

/// Adjacent channels in the lanes of one vector: as many as it has if `WHOLE`, else as many or fewer.
///
/// The distinction is one of types: a copy of ragged lanes anywhere in a loop costs all its vectors their registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<const WHOLE: bool> {
    first: usize,
    count: usize,
}

impl<const WHOLE: bool> Group<WHOLE> {
    /// These channels of the token that starts at `offset`.
    #[inline(always)]
    pub(super) fn load<V: Vector>(self, values: &[V::Scalar], offset: usize) -> V {
        let values = &values[offset + self.first..];
        if WHOLE { V::from_lanes(values) } else { V::load(&values[..self.count]) }
    }

    /// Writes these channels of the token that starts at `offset`.
    #[inline(always)]
    pub(super) fn store<V: Vector>(self, lanes: V, values: &mut [V::Scalar], offset: usize) {
        let values = &mut values[offset + self.first..];
        if WHOLE { lanes.write_lanes(values) } else { lanes.store(&mut values[..self.count]) }
    }

    /// The lanes of these channels, zeros beyond.
    #[inline(always)]
    pub(super) fn only<V: Vector>(self, lanes: V) -> V {
        if WHOLE {
            return lanes;
        }
        let mut some = [V::Scalar::ZERO; 16];
        lanes.store(&mut some[..self.count]);
        V::load(&some[..self.count])
    }
}

/// Groups that cover all channels, for lanes that do not depend on each other: whole ones wherever there are as many
/// channels, the last overlapping the one before it, because ragged ones are slower.
#[inline(always)]
pub(super) fn covering<V: Vector>(channels: usize) -> impl Iterator<Item = Group<false>> {
    let count = channels.min(V::W);
    (0..channels.div_ceil(V::W)).map(move |group| Group { first: (group * V::W).min(channels - count), count })
}

/// Groups side by side, for sums over channels: the whole ones.
#[inline(always)]
pub(super) fn whole<V: Vector>(channels: usize) -> impl Iterator<Item = Group<true>> {
    (0..channels / V::W).map(|group| Group { first: group * V::W, count: V::W })
}

/// Groups side by side: the ragged one at the end, if any.
#[inline(always)]
pub(super) fn ragged<V: Vector>(channels: usize) -> Option<Group<false>> {
    let count = channels % V::W;
    (count > 0).then(|| Group { first: channels - count, count })
}
