"""One file per operation; the plain torch definition stands beside every fast one, same signature."""

from mamba_yolo.ops.fused import depthwise_gelu, norm_gate
from mamba_yolo.ops.nms import nms, nms_head
from mamba_yolo.ops.scan import selective_scan, ss2d_scan

__all__ = ["depthwise_gelu", "nms", "nms_head", "norm_gate", "selective_scan", "ss2d_scan"]
