"""Training losses."""

from mamba_yolo.losses.detection import DetectionLoss, DetectionLossParts
from mamba_yolo.losses.segmentation import SegmentationLoss, loss_of

__all__ = ["DetectionLoss", "DetectionLossParts", "SegmentationLoss", "loss_of"]
