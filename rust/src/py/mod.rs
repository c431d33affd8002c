//! The only rooms that name pyo3: checks, conversions and the export list. No arithmetic here.
#![allow(clippy::needless_pass_by_value, reason = "pyo3 hands over arguments by value")]

mod arrays;
mod errors;
mod fused;
mod image;
mod labels;
mod loader;
mod masks;
mod nms;
mod rings;
mod scan;
mod tensors;

/// What Python may call, in one list.
#[pyo3::pymodule]
mod _rust {
    #[pymodule_export]
    use super::fused::{depthwise_backward, depthwise_forward, norm_backward, norm_forward};
    #[pymodule_export]
    use super::image::{decode_bytes, decode_file, image_sizes, letterbox};
    #[pymodule_export]
    use super::labels::{files_below, label_file, scan_labels};
    #[pymodule_export]
    use super::loader::{PyBatchStream, PyPipeline};
    #[pymodule_export]
    use super::masks::{decode_rle, encode_rle, fill_polygons, merge_rle, rle_area, rle_from_polygon};
    #[pymodule_export]
    use super::masks::{decode_rle_part, instance_masks, instance_rles, rle_bounds, rle_outline};
    #[pymodule_export]
    use super::nms::{fuse_boxes, nms_boxes, nms_head, nms_turned};
    #[pymodule_export]
    use super::rings::polygons_from_rle;
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

    /// Largest mask that is decoded, in pixels.
    #[pymodule_export]
    const MAX_MASK_PIXELS: u64 = crate::image::MAX_PIXELS;

    /// Version of the crate.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
