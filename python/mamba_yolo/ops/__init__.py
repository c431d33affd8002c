"""One file per operation; the plain torch definition stands beside every fast one, same signature."""

from mamba_yolo.ops.scan import selective_scan, ss2d_scan

__all__ = ["selective_scan", "ss2d_scan"]
