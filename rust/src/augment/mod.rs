//! Training pictures: numbers are drawn first (`plan`), then applied to pixels (`warp`, `hsv`) and boxes (`boxes`).

mod boxes;
mod canvas;
mod hsv;
mod plan;
mod warp;

pub use boxes::{BoxXyxy, is_kept};
pub use canvas::{Canvas, Placed};
pub use hsv::shift_hsv;
pub use plan::{Gains, Plan, Ranges};
pub use warp::{Warp, warp_into};
