"""Data sets: reading, checking, converting, loading.

Annotations are read in Python, pixels are made in Rust. Boxes are (x1, y1, x2, y2) float32 pixels of the upright
picture on a grid of 2^-16 px, so the same annotations give the same bits in every format.
"""

from mamba_yolo.augmentation import AugmentConfig
from mamba_yolo.data.annotations import Problem
from mamba_yolo.data.check import CheckReport, check_dataset
from mamba_yolo.data.convert import convert_dataset
from mamba_yolo.data.dataset import Dataset, open_dataset
from mamba_yolo.data.decode import decode_image, image_size, letterbox
from mamba_yolo.data.hook import Hook
from mamba_yolo.data.loader import Loader
from mamba_yolo.errors import ImageError

__all__ = [
    "AugmentConfig",
    "CheckReport",
    "Dataset",
    "Hook",
    "ImageError",
    "Loader",
    "Problem",
    "check_dataset",
    "convert_dataset",
    "decode_image",
    "image_size",
    "letterbox",
    "open_dataset",
]
