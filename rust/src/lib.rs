//! CPU kernels and data pipeline of mamba-yolo, as plain Rust on slices.
//!
//! Python sees this crate through [`mod@py`] only; everything else builds and tests without it.

pub mod augment;
mod buffers;
pub mod cpu;
pub mod error;
pub mod fused;
pub mod image;
pub mod labels;
pub mod loader;
pub mod masks;
pub mod nms;
pub mod random;
pub mod scan;
pub mod simd;
pub mod threads;

#[cfg(feature = "python")]
mod py;
