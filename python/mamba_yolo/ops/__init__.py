"""One file per operation; the plain torch definition stands beside every fast one, same signature."""

from mamba_yolo.ops._cuda import warmup
from mamba_yolo.ops.fused import depthwise_gelu, norm_gate
from mamba_yolo.ops.instances import instance_masks, instance_rles
from mamba_yolo.ops.masks import decode_rle, encode_rle, merge_rle, polygons_to_masks, rle_area, rle_from_polygon
from mamba_yolo.ops.nms import nms, nms_head, nms_turned, weighted_box_fusion
from mamba_yolo.ops.outline import rle_outline, rle_part
from mamba_yolo.ops.rings import polygons_from_rle
from mamba_yolo.ops.scan import selective_scan, ss2d_scan
from mamba_yolo.ops.scan_gate import ss2d_norm_gate

__all__ = [
    "decode_rle",
    "depthwise_gelu",
    "encode_rle",
    "instance_masks",
    "instance_rles",
    "merge_rle",
    "nms",
    "nms_head",
    "nms_turned",
    "norm_gate",
    "polygons_from_rle",
    "polygons_to_masks",
    "rle_area",
    "rle_from_polygon",
    "rle_outline",
    "rle_part",
    "selective_scan",
    "ss2d_norm_gate",
    "ss2d_scan",
    "warmup",
    "weighted_box_fusion",
]
