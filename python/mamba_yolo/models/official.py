"""Weights in the official Mamba-YOLO format: key names both ways, and its checkpoint files, read but never executed.

The file is a torch archive with a pickled module graph; `pickle_reader` reads it into inert nodes, this module walks
them. Test: tests/models/test_official.py.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import TYPE_CHECKING, Any

import torch

from mamba_yolo.boxes import NUM_BINS
from mamba_yolo.config import DetectorConfig
from mamba_yolo.errors import CheckpointError
from mamba_yolo.models.detector import STAGE_CHANNELS, Detector, scaled_channels, scaled_depth
from mamba_yolo.models.pickle_reader import Node, read_torch_archive
from mamba_yolo.models.presets import SIZES, VARIANTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

    from mamba_yolo.config import Task, Variant

NUM_SHOWN = 5  # keys listed in an error before "and n more"
MAX_MODULE_DEPTH = 64
BINS_KEY, OFFICIAL_BINS_KEY = "head.bins", "model.21.dfl.conv.weight"
TASKS: dict[str, Task] = {"DetectionModel": "detect", "SegmentationModel": "segment"}

# Ours to official, applied one after the other; the first group fits inside blocks, the second places the blocks.
RULES = [
    (r"^(backbone\.stages\.\d\.\d+)\.projection\.conv\.", r"\1.proj_conv.0."),
    (r"^(backbone\.stages\.\d\.\d+)\.projection\.norm\.", r"\1.proj_conv.1."),
    (r"^(backbone\.stages\.\d\.\d+)\.scans\.0\.", r"\1.op."),
    (r"^(neck\..*)\.projection\.conv\.", r"\1.in_proj.0."),
    (r"^(neck\..*)\.projection\.norm\.", r"\1.in_proj.1."),
    (r"\.scans\.(\d+)\.", r".ss2d.\1."),
    (r"\.local\.depthwise\.", ".lsblock.fc1."),
    (r"\.local\.norm\.", ".lsblock.norm."),
    (r"\.local\.hidden\.", ".lsblock.fc2."),
    (r"\.local\.out\.", ".lsblock.fc3."),
    (r"\.mlp\.hidden\.", ".mlp.fc1."),
    (r"\.mlp\.out\.", ".mlp.fc2."),
    (r"\.mlp\.depthwise\.", ".mlp.dwconv."),
    (r"\.scan_norm\.", ".norm.norm."),
    (r"\.mlp_norm\.", ".norm2.norm."),
    (r"\.depthwise\.", ".conv2d."),
    (r"^backbone\.stem\.to_half\.conv\.", "model.0.conv.0."),
    (r"^backbone\.stem\.to_half\.norm\.", "model.0.conv.1."),
    (r"^backbone\.stem\.to_quarter\.conv\.", "model.0.conv.3."),
    (r"^backbone\.stem\.to_quarter\.norm\.", "model.0.conv.4."),
    (r"^backbone\.downsamples\.(\d)\.merge\.conv\.", r"backbone.downsamples.\1.pw_linear.0."),
    (r"^backbone\.downsamples\.(\d)\.merge\.norm\.", r"backbone.downsamples.\1.pw_linear.1."),
    (r"^((?:neck\.downsamples|head|mask_head|backbone\.pooling)\..*)\.norm\.", r"\1.bn."),
    (r"^backbone\.downsamples\.0\.", "model.2."),
    (r"^backbone\.downsamples\.1\.", "model.4."),
    (r"^backbone\.downsamples\.2\.", "model.6."),
    (r"^backbone\.pooling\.reduce\.", "model.8.cv1."),
    (r"^backbone\.pooling\.expand\.", "model.8.cv2."),
    (r"^neck\.top_down\.0\.", "model.11."),
    (r"^neck\.top_down\.1\.", "model.14."),
    (r"^neck\.downsamples\.0\.", "model.15."),
    (r"^neck\.bottom_up\.0\.", "model.17."),
    (r"^neck\.downsamples\.1\.", "model.18."),
    (r"^neck\.bottom_up\.1\.", "model.20."),
    (r"^head\.box_branches\.", "model.21.cv2."),
    (r"^head\.class_branches\.", "model.21.cv3."),
    (r"^head\.bins$", OFFICIAL_BINS_KEY),
    (r"^mask_head\.coef_branches\.", "model.21.cv4."),
    (r"^mask_head\.prototypes\.before\.", "model.21.proto.cv1."),
    (r"^mask_head\.prototypes\.upsample\.", "model.21.proto.upsample."),
    (r"^mask_head\.prototypes\.after\.", "model.21.proto.cv2."),
    (r"^mask_head\.prototypes\.out\.", "model.21.proto.cv3."),
]
COMPILED_RULES = [(re.compile(pattern), replacement) for pattern, replacement in RULES]
STAGE_KEY = re.compile(r"^backbone\.stages\.(\d)\.(\d+)\.(.*)$")


@dataclasses.dataclass(frozen=True)
class OfficialCheckpoint:
    """What an official checkpoint holds.

    Attributes:
        state_dict: official key names, float32 (integers as they are).
        names: class number to name.
        variant: v1 with local-spatial blocks, else v2.
        task: detect or segment.
        num_classes: as many as the class branch has outputs.
    """

    state_dict: dict[str, Tensor]
    names: dict[int, str]
    variant: Variant
    task: Task
    num_classes: int


def convert_state_dict(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under our key names, ready for `Detector(config_from_official(official)).load_state_dict`.

    Args:
        official: official key names ("model.0.conv.0.weight", ...); half precision is widened to float32.

    Raises:
        CheckpointError: unknown or missing keys (listed), other shapes, or a size that no config gives.
    """
    shapes = _our_shapes(config_from_official(official))
    ours_by_official = _keys_by_official(shapes)
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
    by_official = _keys_by_official(ours)
    exported = {official_key: ours[key] for official_key, key in by_official.items()}
    if OFFICIAL_BINS_KEY in exported:
        exported[OFFICIAL_BINS_KEY] = exported[OFFICIAL_BINS_KEY].reshape(1, NUM_BINS, 1, 1)
    _check_same_keys(exported, _keys_by_official(_our_shapes(config_from_official(exported))))
    return exported


def config_from_official(official: Mapping[str, Tensor]) -> DetectorConfig:
    """Config whose network has the shapes of these weights.

    Raises:
        CheckpointError: keys that every such checkpoint has are missing, or no known depth and cap give these shapes.
    """
    local_spatial = any(".lsblock." in key for key in official)
    variant = VARIANTS["v1" if local_spatial else "v2"]
    channels = tuple(_shape(official, f"model.{i}.{_first(official, i)}mlp.fc2.bias")[0] for i in (1, 3, 5, 7))
    depths = tuple(_num_blocks(official, i) for i in (1, 3, 5, 7))
    base = DetectorConfig(
        num_classes=_shape(official, "model.21.cv3.0.2.weight")[0],
        task="segment" if any(key.startswith("model.21.proto.") for key in official) else "detect",
        state_size=_shape(official, f"model.1.{_first(official, 1)}op.A_logs")[1],
        **variant,
    )
    own_width = {"depth": 0.33, "width": channels[0] / STAGE_CHANNELS[0], "max_channels": STAGE_CHANNELS[-1]}
    for size in [*SIZES.values(), own_width, own_width | {"depth": 0.67, "max_channels": 768}]:
        config = dataclasses.replace(base, **size)
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
    if not isinstance(root, dict):
        raise CheckpointError(f"{path}: holds {type(root).__name__} at its root, expected a dict with 'model'")
    model = root.get("ema") or root.get("model")
    if not isinstance(model, Node) or model.class_name not in TASKS:
        what = model.class_name if isinstance(model, Node) else type(model).__name__
        raise CheckpointError(f"{path}: its model is {what}, expected {' or '.join(TASKS)} of Mamba-YOLO")
    state = {key: _widened(tensor) for key, tensor in _module_tensors(model, "", 0)}
    config = config_from_official(state)
    task = TASKS[model.class_name]
    if task != config.task:
        raise CheckpointError(f"{path}: a {model.class_name} with the weights of task {config.task}")
    variant: Variant = "v1" if config.local_spatial else "v2"
    names = _names(model.state.get("names"), config.num_classes, path)
    return OfficialCheckpoint(state, names, variant, task, config.num_classes)


def _module_tensors(node: Node, prefix: str, depth: int) -> Iterable[tuple[str, Tensor]]:
    """Parameters and persistent buffers of a pickled module graph, in the order and by the names of torch."""
    if depth > MAX_MODULE_DEPTH:
        raise CheckpointError("modules are nested too deeply for a Mamba-YOLO checkpoint")
    transient = node.state.get("_non_persistent_buffers_set") or ()
    for group in ("_parameters", "_buffers"):
        for name, tensor in _entries(node, group):
            if isinstance(tensor, torch.Tensor) and name not in transient:
                yield f"{prefix}{name}", tensor
    for name, child in _entries(node, "_modules"):
        if isinstance(child, Node):
            yield from _module_tensors(child, f"{prefix}{name}.", depth + 1)


def _entries(node: Node, group: str) -> Iterable[tuple[str, Any]]:
    """Named members of a pickled module."""
    members = node.state.get(group) or {}
    if not isinstance(members, dict) or not all(isinstance(name, str) for name in members):
        raise CheckpointError(f"{group} of a {node.class_name} is not a dict of names")
    return members.items()


def _names(names: Any, num_classes: int, path: str | Path) -> dict[int, str]:
    """Class names of a checkpoint; numbers where it has none."""
    if names is None:
        return {i: str(i) for i in range(num_classes)}
    pairs = dict(enumerate(names)) if isinstance(names, list | tuple) else names
    if not isinstance(pairs, dict) or sorted(map(str, pairs)) != sorted(map(str, range(num_classes))):
        raise CheckpointError(f"{path}: class names do not fit its {num_classes} classes")
    return {i: str(pairs[i]) for i in range(num_classes)}


def _widened(tensor: Tensor) -> Tensor:
    """Half precision as float32."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _our_shapes(config: DetectorConfig) -> dict[str, torch.Size]:
    """Our keys and their shapes; no memory is touched."""
    with torch.device("meta"):
        return {key: tensor.shape for key, tensor in Detector(config).state_dict().items()}


def _keys_by_official(ours: Iterable[str]) -> dict[str, str]:
    """Official key to our key."""
    keys = list(ours)
    matches = [match for key in keys if (match := STAGE_KEY.match(key))]
    last_block = {stage: max(int(m[2]) for m in matches if m[1] == stage) for stage in {m[1] for m in matches}}
    return {_official_key(key, last_block): key for key in keys}


def _official_key(key: str, last_block: Mapping[str, int]) -> str:
    """Official name of one of our keys; a stage of one block has no block number there."""
    for pattern, replacement in COMPILED_RULES:
        key = pattern.sub(replacement, key)
    if match := STAGE_KEY.match(key):
        stage, block, rest = match.groups()
        number = f"{block}." if last_block[stage] else ""
        return f"model.{2 * int(stage) + 1}.{number}{rest}"
    return key


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


def _shape(official: Mapping[str, Tensor], key: str) -> torch.Size:
    """Shape of a tensor that must be there."""
    if key not in official:
        raise CheckpointError(f"not the keys of an official Mamba-YOLO network: missing {key}")
    return official[key].shape


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
