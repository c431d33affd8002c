"""mamba-yolo: object detection with a state-space backbone, on any CPU or NVIDIA GPU.

Importing this package loads no torch and changes nothing; the names below load on first use.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from mamba_yolo._rust import DEBUG_BUILD as _DEBUG_BUILD  # noqa: TID251  (a look at what was built, no call)
from mamba_yolo._rust import VERSION as __native_version__  # noqa: TID251
from mamba_yolo.errors import MambaYoloError

if TYPE_CHECKING:
    from mamba_yolo.api import MambaYOLO
    from mamba_yolo.models.presets import build_detector
    from mamba_yolo.results import Results

__version__ = "0.1.0"
__all__ = ["MambaYOLO", "MambaYoloError", "Results", "build_detector", "__version__", "__native_version__"]

_HOMES = {
    "MambaYOLO": "mamba_yolo.api",
    "Results": "mamba_yolo.results",
    "build_detector": "mamba_yolo.models.presets",
    "models": "mamba_yolo.models",
    "ops": "mamba_yolo.ops",
    "data": "mamba_yolo.data",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mamba_yolo' has no attribute {name!r}")
    module = importlib.import_module(_HOMES[name])
    return module if module.__name__.endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted({*globals(), *_HOMES})


if _DEBUG_BUILD:  # 20 to 100 times slower
    message = "mamba_yolo was built without optimisation; rebuild with 'make build' before timing anything"
    warnings.warn(message, RuntimeWarning, stacklevel=2)
