//! Overlap of two boxes, in the arithmetic of torchvision so that the same boxes survive.

/// Area of a box; negative sides are not clamped, as in torchvision.
fn area(b: &[f32; 4]) -> f32 {
    (b[2] - b[0]) * (b[3] - b[1])
}

/// Intersection over union; NaN for two boxes without area, which therefore never suppress each other.
pub(super) fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let w = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let h = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let inter = w * h;
    inter / (area(a) + area(b) - inter)
}

/// Distance IoU: IoU less the squared centre distance over the squared diagonal of the hull (arXiv 1911.08287 eq. 7).
pub(super) fn distance_iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let dx = (a[0] + a[2] - b[0] - b[2]) / 2.0;
    let dy = (a[1] + a[3] - b[1] - b[3]) / 2.0;
    let hull_w = a[2].max(b[2]) - a[0].min(b[0]);
    let hull_h = a[3].max(b[3]) - a[1].min(b[1]);
    let diagonal = hull_w * hull_w + hull_h * hull_h;
    if diagonal > 0.0 { iou(a, b) - (dx * dx + dy * dy) / diagonal } else { iou(a, b) }
}
