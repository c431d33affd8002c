"""Network: plain modules, architecture only."""

from mamba_yolo.models.decode import decode
from mamba_yolo.models.detector import Detector
from mamba_yolo.models.fuse import fuse, fuse_once
from mamba_yolo.models.presets import PRESETS, build_detector, preset_config

__all__ = ["PRESETS", "Detector", "build_detector", "decode", "fuse", "fuse_once", "preset_config"]
