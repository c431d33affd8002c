"""Writing a picture: beside its place first, then moved there, so that no half picture is ever found.

Test: tests/visual/test_write.py.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image

from mamba_yolo.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

JPEG_QUALITY = 92
_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}


def write_picture(image: npt.NDArray[np.uint8], path: Path) -> Path:
    """Write uint8 (H, W, 3) RGB to a file; missing folders are made.

    Raises:
        ConfigError: a file ending that is not an image format.
    """
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"cannot write a picture to {path.name!r}; use one of {', '.join(_FORMATS)}")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, _FORMATS[path.suffix.lower()], quality=JPEG_QUALITY)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(buffer.getvalue())
    partial.replace(path)
    return path
