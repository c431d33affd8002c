//! The selective scan, forward and backward, on channels-last maps; nothing is permuted in memory.
//!
//! Per direction k and channel, over tokens in the order of k (arXiv 2312.00752 eq. 1-2, arXiv 2406.05835 SS2D):
//!
//! ```text
//! v_t = bias + delta_t + sum_r W_r dt_{t,r};  s_t = softplus(v_t)
//! h_t = exp(s_t A) h_{t-1} + s_t u_t B_t;     y_t = C_t . h_t + skip u_t
//! ```
//!
//! Lanes run across channels, so every direction reads whole cache lines. Bits do not depend on the number of threads:
//! a task owns its outputs, and sums over tasks have a fixed order.
//!
//! Legend: B batch, L tokens, D channels, N states, R rank of dt, K directions, G groups of W channels,
//! P = R + 2N values per token and direction (`[dt | B | C]`).

mod backward;
mod direction;
mod forward;
mod group;
mod problem;
mod tile;

pub use backward::{Gradients, backward};
pub use forward::forward;
pub use problem::{Orders, Problem, Shape};
pub use tile::TILE;
