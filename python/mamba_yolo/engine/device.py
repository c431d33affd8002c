"""Which device a command uses. Test: tests/engine/test_device.py."""

from __future__ import annotations

import re

import torch

from mamba_yolo.errors import BackendError, ConfigError


def pick_device(name: str) -> torch.device:
    """Turn auto, cpu, cuda, cuda:N or N into a device that exists here.

    Raises:
        ConfigError: another name.
        BackendError: a GPU that this machine or this build of torch does not have.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    found = re.fullmatch(r"(?:cuda)?:?(\d+)|cuda", name)
    if not found:
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    index, count = int(found.group(1) or 0), torch.cuda.device_count()
    if index >= count:
        raise BackendError(
            f"device {name} asks for GPU {index}, but torch {torch.__version__} sees {count} here; "
            "use --device cpu, or look at `mamba-yolo doctor`"
        )
    return torch.device("cuda", index)
