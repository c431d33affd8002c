"""Training losses."""

from mamba_yolo.losses.detection import DetectionLoss, DetectionLossParts

__all__ = ["DetectionLoss", "DetectionLossParts"]
