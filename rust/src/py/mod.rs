//! The only rooms that name pyo3: checks, conversions and the export list. No arithmetic here.
#![allow(
    clippy::needless_pass_by_value,
    reason = "pyo3 hands over arguments by value"
)]

mod arrays;
mod errors;
mod nms;

/// What Python may call, in one list.
#[pyo3::pymodule]
mod _rust {
    #[pymodule_export]
    use super::nms::{nms_boxes, nms_head};

    /// True for an unoptimised build: importing it warns and benches refuse it.
    #[pymodule_export]
    const DEBUG_BUILD: bool = cfg!(debug_assertions);

    /// Version of the crate.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
