//! The only rooms that name pyo3: checks, conversions and the export list. No arithmetic here.
#![allow(clippy::needless_pass_by_value, reason = "pyo3 hands over arguments by value")]

mod arrays;
mod errors;
mod image;
mod labels;
mod loader;
mod nms;
mod scan;
mod tensors;

/// What Python may call, in one list.
#[pyo3::pymodule]
mod _rust {
    #[pymodule_export]
    use super::image::{decode_bytes, decode_file, image_sizes, letterbox};
    #[pymodule_export]
    use super::labels::{files_below, scan_labels};
    #[pymodule_export]
    use super::loader::{PyBatchStream, PyPipeline};
    #[pymodule_export]
    use super::nms::{nms_boxes, nms_head};
    #[pymodule_export]
    use super::scan::{cpu_level, scan_backward, scan_forward, thread_owner};

    /// True for an unoptimised build: importing it warns and benches refuse it.
    #[pymodule_export]
    const DEBUG_BUILD: bool = cfg!(debug_assertions);

    /// Tokens between two checkpoints of the scan.
    #[pymodule_export]
    const SCAN_TILE: usize = crate::scan::TILE;

    /// Bytes of a channel group of the scan.
    #[pymodule_export]
    const SCAN_GROUP_BYTES: usize = 64;

    /// Version of the crate.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
