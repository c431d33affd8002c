//! What stands beside the scan in the network, fused so that no map is written in between: channels last, any sizes.
//!
//! ```text
//! depthwise:  y = gelu(conv(x) + bias [+ x]) [* gate]     3x3, padded by zeros, a filter per channel
//! norm gate:  y = (n * weight + bias) * gelu(gate)        n = (x - mean) / sqrt(variance + eps) over channels
//! ```
//!
//! Lanes run across channels. A task owns whole tokens, tasks depend on sizes alone, and sums over tasks run in order,
//! so that bits do not depend on the number of threads. Backward recomputes what it needs from the inputs.
//!
//! Legend: B batch, H W map, D channels, W also the lanes of a vector where a type carries it.

mod depthwise;
mod depthwise_backward;
mod gelu;
mod map;
mod norm;
mod norm_backward;
mod window;

pub use depthwise::{Depthwise, depthwise_forward};
pub use depthwise_backward::{DepthwiseGradients, depthwise_backward};
pub use gelu::Normal;
pub use map::{Map, Shape};
pub use norm::{NormGate, norm_forward};
pub use norm_backward::{NormGradients, norm_backward};

use crate::simd::Float;

/// Values of a map that make one task, about; less is not worth waking a thread for.
const TASK: usize = 1 << 14;

/// The chunks of an array, or as many times none.
fn chunks<T>(values: Option<&mut [T]>, size: usize, count: usize) -> Vec<Option<&mut [T]>> {
    match values {
        Some(values) => values.chunks_mut(size).map(Some).collect(),
        None => (0..count).map(|_| None).collect(),
    }
}

/// Adds `part` to `sum`.
fn add_to<T: Float>(sum: &mut [T], part: &[T]) {
    sum.iter_mut().zip(part).for_each(|(s, &p)| *s = *s + p);
}
