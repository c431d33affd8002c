"""One file per operation; the plain torch definition stands beside every fast one, same signature."""

from mamba_yolo.ops.masks import decode_rle, encode_rle, merge_rle, polygons_to_masks, rle_area, rle_from_polygon
from mamba_yolo.ops.nms import nms, nms_head, weighted_box_fusion
from mamba_yolo.ops.scan import selective_scan, ss2d_scan

__all__ = [
    "nms", "nms_head", "weighted_box_fusion",
    "encode_rle", "decode_rle", "rle_area", "merge_rle", "rle_from_polygon", "polygons_to_masks",
    "selective_scan", "ss2d_scan",
]  # fmt: skip
