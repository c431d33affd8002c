//! Training pictures: numbers are drawn first (`plan`), then applied to pixels (`picture`) and labels (`objects`).
//!
//! `canvas` is what a picture is cut from and is never built; `map` says where its points go; `upright` makes rows where
//! it is zoomed and shifted only, `oblique` under any map, both with the blends of `lerp`; `hsv` changes colours. `mask` draws
//! outlines at the size of the network's prototypes.

mod boxes;
mod canvas;
mod hsv;
mod lerp;
mod map;
mod mask;
mod objects;
mod oblique;
mod picture;
mod plan;
mod polygon;
mod upright;

pub use boxes::BoxXyxy;
pub use canvas::{Canvas, Placed};
pub use map::Map;
pub use mask::{MASK_STRIDE, NormRing, draw_mask};
pub use objects::{Object, choose_pasted, choose_window};
pub use picture::{Second, View, Window, render};
pub use plan::{Plan, Ranges, Scene, Union, draw_side, side_limits};
pub use polygon::Ring;
