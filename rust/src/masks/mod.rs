//! Masks as run lengths, and polygons as masks, by the rules of COCO (pycocotools `mask`, BSD).
//!
//! Runs go down the columns, the first one outside. The plain definition is `ops/masks_ref.py`.

mod instances;
mod outline;
mod polygon;
mod rings;
mod rle;
mod text;

pub use instances::Instances;
pub use polygon::{fill_polygons, rle_from_polygon};
pub use rings::rings_of;
pub use rle::Rle;
