"""Weights in the official Mamba-YOLO format: key names both ways, and its checkpoint files, read but never executed.

The file is a torch archive with a pickled module graph; `pickle_reader` reads it into inert nodes, this module walks
them. Test: tests/models/test_official.py.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from mamba_yolo.boxes import NUM_BINS
from mamba_yolo.checks import STRIDE_MULTIPLE_PX
from mamba_yolo.config import DetectorConfig, from_flat
from mamba_yolo.errors import CheckpointError, ConfigError
from mamba_yolo.models.detector import STAGE_CHANNELS, Detector, scaled_channels, scaled_depth
from mamba_yolo.models.module_graph import state_dict
from mamba_yolo.models.official_keys import BINS_KEY, OFFICIAL_BINS_KEY, keys_by_official
from mamba_yolo.models.pickle_names import Node
from mamba_yolo.models.presets import SIZES, VARIANTS
from mamba_yolo.models.torch_archive import read_torch_archive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mamba_yolo.config import Task, Variant

NUM_SHOWN = 5  # keys listed in an error before "and n more"
DEFAULT_IMGSZ, MAX_IMGSZ = 640, 65_536
STAGE_INDICES = (1, 3, 5, 7)  # of the four stages in the official graph
TASKS: dict[str, Task] = {"DetectionModel": "detect", "SegmentationModel": "segment"}


@dataclasses.dataclass(frozen=True)
class OfficialCheckpoint:
    """What an official checkpoint holds.

    Attributes:
        state_dict: official key names, float32 (integers as they are).
        names: class number to name.
        variant: v1 with local-spatial blocks, else v2.
        task: detect or segment.
        num_classes: as many as the class branch has outputs.
        part: which weights these are: "ema", the averaged ones, where the file has them, else "model".
        imgsz: side of the training images in pixels; 640 where the file does not say.
    """

    state_dict: dict[str, Tensor]
    names: dict[int, str]
    variant: Variant
    task: Task
    num_classes: int
    part: Literal["ema", "model"]
    imgsz: int


def convert_state_dict(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our key names, ready for `Detector(config_from_official(official)).load_state_dict`.

    Args:
        official: official key names ("model.0.conv.0.weight", ...); half precision is widened to float32.

    Raises:
        CheckpointError: unknown or missing keys (listed), other shapes, or a size that no config gives.
    """
    shapes = _our_shapes(config_from_official(official))
    ours_by_official = keys_by_official(shapes)
    _check_same_keys(official, ours_by_official)
    converted = {}
    for official_key, key in ours_by_official.items():
        tensor = official[official_key]
        tensor = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
        if key == BINS_KEY:
            tensor = _checked_bins(tensor)
        if tensor.shape != shapes[key]:
            raise CheckpointError(f"{official_key} must have shape {tuple(shapes[key])}, got {tuple(tensor.shape)}")
        converted[key] = tensor
    return converted


def export_state_dict(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the official key names, the inverse of `convert_state_dict`.

    Raises:
        CheckpointError: a network that the official format cannot hold (ablations), with the keys in question.
    """
    by_official = keys_by_official(ours)
    exported = {official_key: ours[key] for official_key, key in by_official.items()}
    if OFFICIAL_BINS_KEY in exported:
        exported[OFFICIAL_BINS_KEY] = exported[OFFICIAL_BINS_KEY].reshape(1, NUM_BINS, 1, 1)
    _check_same_keys(exported, keys_by_official(_our_shapes(config_from_official(exported))))
    return exported


def config_from_official(official: Mapping[str, Tensor]) -> DetectorConfig:
    """Config whose network has the shapes of these weights.

    Raises:
        CheckpointError: keys that every such checkpoint has are missing, or no known depth and cap give these shapes.
    """
    local_spatial = any(".lsblock." in key for key in official)
    channels = tuple(_size(official, f"model.{i}.{_first(official, i)}mlp.fc2.bias", 0) for i in STAGE_INDICES)
    depths = tuple(_num_blocks(official, i) for i in STAGE_INDICES)
    own_width = {"depth": 0.33, "width": channels[0] / STAGE_CHANNELS[0], "max_channels": STAGE_CHANNELS[-1]}
    for size in [*SIZES.values(), own_width, own_width | {"depth": 0.67, "max_channels": 768}]:
        config = from_flat(
            DetectorConfig,
            {
                "num_classes": _size(official, "model.21.cv3.0.2.weight", 0),
                "task": "segment" if any(key.startswith("model.21.proto.") for key in official) else "detect",
                "state_size": _size(official, f"model.1.{_first(official, 1)}op.A_logs", 1),
                **VARIANTS["v1" if local_spatial else "v2"],
                **size,
            },
        )
        if scaled_channels(config) == channels and _depths(config) == depths:
            return config
    raise CheckpointError(f"no size of Mamba-YOLO has stages of {depths} blocks with {channels} channels")


def read_checkpoint(path: str | Path) -> OfficialCheckpoint:
    """Read an official checkpoint without executing anything from it.

    Args:
        path: a .pt file as the official code saves it: a torch archive whose root holds the pickled model, with the
            averaged weights under "ema" where there are any.

    Raises:
        MissingFileError: no such file.
        CheckpointError: damaged, hostile, or another kind of file.
    """
    root = read_torch_archive(path)
    try:
        return _checkpoint(root, max_elements=Path(path).stat().st_size)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _checkpoint(root: Any, *, max_elements: int) -> OfficialCheckpoint:
    """The parts of a checkpoint's root that matter."""
    if not isinstance(root, dict):
        raise CheckpointError(f"holds {type(root).__name__} at its root, expected a dict with 'model'")
    part: Literal["ema", "model"] = "model" if root.get("ema") is None else "ema"
    model = root.get(part)
    if not isinstance(model, Node) or model.class_name not in TASKS:
        what = model.shown_class if isinstance(model, Node) else repr(type(model).__name__)
        raise CheckpointError(f"its model is {what}, expected {' or '.join(TASKS)} of Mamba-YOLO")
    state = state_dict(model, max_elements=max_elements)
    config = config_from_official(state)
    task = TASKS[model.class_name]
    if task != config.task:
        raise CheckpointError(f"a {model.class_name} with the weights of task {config.task}")
    variant: Variant = "v1" if config.local_spatial else "v2"
    names = _names(model.state.get("names"), config.num_classes)
    return OfficialCheckpoint(state, names, variant, task, config.num_classes, part, _imgsz(root.get("train_args")))


def _imgsz(train_args: Any) -> int:
    """Side of the training images, if the options that were saved name one that the network can take."""
    imgsz = train_args.get("imgsz") if isinstance(train_args, dict) else None
    if type(imgsz) is int and 0 < imgsz <= MAX_IMGSZ and imgsz % STRIDE_MULTIPLE_PX == 0:
        return imgsz
    return DEFAULT_IMGSZ


def _names(names: Any, num_classes: int) -> dict[int, str]:
    """Class names of a checkpoint; numbers where it has none."""
    if names is None:
        return {i: str(i) for i in range(num_classes)}
    by_number = dict(enumerate(names)) if isinstance(names, list | tuple) else names
    if not isinstance(by_number, dict) or set(by_number) != set(range(num_classes)):
        raise CheckpointError(f"class names do not fit its {num_classes} classes")
    if not all(isinstance(name, str | int) for name in by_number.values()):
        raise CheckpointError("class names are not text")
    return {i: str(by_number[i]) for i in range(num_classes)}


def _our_shapes(config: DetectorConfig) -> dict[str, torch.Size]:
    """Our keys and their shapes; no memory is touched."""
    with torch.device("meta"):
        return {key: tensor.shape for key, tensor in Detector(config).state_dict().items()}


def _check_same_keys(got: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise CheckpointError that lists what is unknown and what is missing."""
    unknown, missing = sorted(set(got) - set(expected)), sorted(set(expected) - set(got))
    problems = [f"{what} {_listed(keys)}" for what, keys in (("unknown", unknown), ("missing", missing)) if keys]
    if problems:
        raise CheckpointError(f"not the keys of an official Mamba-YOLO network: {'; '.join(problems)}")


def _listed(keys: list[str]) -> str:
    """The first few of many keys."""
    more = f" and {len(keys) - NUM_SHOWN} more" if len(keys) > NUM_SHOWN else ""
    return ", ".join(keys[:NUM_SHOWN]) + more


def _checked_bins(bins: Tensor) -> Tensor:
    """The fixed bin distances, which nothing else can stand for."""
    if not torch.equal(bins.flatten().cpu().float(), torch.arange(NUM_BINS, dtype=torch.float32)):
        raise CheckpointError(f"{OFFICIAL_BINS_KEY} must hold 0 to {NUM_BINS - 1}")
    return bins.flatten()


def _size(official: Mapping[str, Tensor], key: str, axis: int) -> int:
    """One size of a tensor that must be there."""
    if key not in official:
        raise CheckpointError(f"not the keys of an official Mamba-YOLO network: missing {key}")
    if official[key].ndim <= axis or official[key].shape[axis] == 0:
        raise CheckpointError(f"{key} cannot have shape {tuple(official[key].shape)}")
    return official[key].shape[axis]


def _first(official: Mapping[str, Tensor], index: int) -> str:
    """What stands between a stage and the keys of its first block."""
    return "0." if _num_blocks(official, index) > 1 else ""


def _num_blocks(official: Mapping[str, Tensor], index: int) -> int:
    """Number of blocks of the stage at an official index."""
    numbered = (f"model.{index}.{i}.mlp.fc2.bias" in official for i in itertools.count())
    return max(sum(1 for _ in itertools.takewhile(bool, numbered)), 1)


def _depths(config: DetectorConfig) -> tuple[int, ...]:
    """Blocks of each stage."""
    return tuple(scaled_depth(config, n) for n in config.stage_depths)
