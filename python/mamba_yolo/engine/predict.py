"""From photographs to Results: letterbox, network, decode, NMS, back to the pixels of the photograph.

A batch of one shape gets the smallest rectangle of stride multiples, a mixed one a square.
Test: tests/engine/test_predict.py.

Legend: B images, H W pixels, N boxes of one image.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from mamba_yolo.boxes import clip_boxes
from mamba_yolo.checks import STRIDE_MULTIPLE_PX
from mamba_yolo.data import letterbox
from mamba_yolo.engine.inference import Network
from mamba_yolo.engine.safefile import write_text
from mamba_yolo.engine.sources import Photo, photos
from mamba_yolo.errors import SaveError
from mamba_yolo.models import decode
from mamba_yolo.ops import instance_rles, nms_head
from mamba_yolo.results import NUM_BOX_COLUMNS, Boxes, Masks, Results

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from mamba_yolo.config import PredictConfig
    from mamba_yolo.models import Detector


class _Letterbox(NamedTuple):
    """Network x = original x · gain + left."""

    gain: float
    left: int
    top: int


def predict(detector: Detector, names: Mapping[int, str], source: Any, config: PredictConfig) -> Iterator[Results]:
    """Detect objects in every image of a source, one Results per image, in order.

    A folded copy of the detector, kept for the next call, is used on the device where the detector is.

    Args:
        detector: the network.
        names: class index to class name.
        source: see `engine.sources.photos`; wrong sources fail here, before the first image.
        config: thresholds, image size, batch size, dtype.

    Raises:
        BackendError: a dtype that the device has no instructions for.
    """
    return _predicted(Network(detector, config.dtype), dict(names), photos(source), config)


def save_results(results: Iterable[Results], folder: Path, config: PredictConfig) -> Iterator[Results]:
    """Pass results on, writing a picture of each, and both JSON files after the last, as the config asks.

    In coco.json an image has the number that its file is named after, as in COCO, or else the name without ending.

    Args:
        results: what `predict` yields.
        folder: an existing folder to write to.
        config: save and save_json are looked at.

    Raises:
        SaveError: full disk, missing permission.
    """
    taken: set[str] = set()
    rows: list[dict[str, Any]] = []
    coco: list[dict[str, Any]] = []
    for result in results:
        if config.save:
            _save_picture(result, folder / f"{_free_stem(Path(result.path).stem, taken)}.jpg")
        if config.save_json:
            height, width = result.orig_shape
            rows.append({"path": result.path, "height": height, "width": width, "objects": result.summary()})
            coco += result.to_coco(_image_id(result.path))
        yield result
    if config.save_json:
        write_text(folder / "predictions.json", json.dumps(rows, indent=1))
        write_text(folder / "coco.json", json.dumps(coco))


def _image_id(path: str) -> int | str:
    stem = Path(path).stem
    return int(stem) if stem.isdecimal() else stem


def _save_picture(result: Results, path: Path) -> None:
    try:
        result.save(path)
    except OSError as error:
        raise SaveError(f"cannot write {path}: {error}; free space, or use save=False") from error


def _free_stem(stem: str, taken: set[str]) -> str:
    """The stem, numbered when a picture of another image has it already."""
    candidates = itertools.chain([stem], (f"{stem}_{i}" for i in itertools.count(2)))
    free = next(c for c in candidates if c not in taken)
    taken.add(free)
    return free


def _predicted(
    network: Network, names: dict[int, str], images: Iterator[Photo], config: PredictConfig
) -> Iterator[Results]:
    while batch := list(itertools.islice(images, config.batch)):
        yield from _predict_batch(network, names, batch, config)


@torch.inference_mode()
def _predict_batch(
    network: Network, names: dict[int, str], batch: Sequence[Photo], config: PredictConfig
) -> list[Results]:
    started = time.perf_counter()
    images, boxings = _network_input(batch, config.imgsz)
    images = images.to(network.device).float() / 255
    prepared = _now(network.device)
    raw = network(images)
    pred = decode(raw)
    inferred = _now(network.device)
    found = nms_head(
        pred.cpu(),
        conf_thr=config.conf,
        iou_thr=config.iou,
        agnostic=config.agnostic,
        max_det=config.max_det,
        num_classes=network.num_classes,
        classes=list(config.classes) or None,
    )
    results = [
        _result(photo, names, rows, boxing, None if raw.protos is None else raw.protos[i], config.retina_masks)
        for i, (photo, rows, boxing) in enumerate(zip(batch, found, boxings, strict=True))
    ]
    finished = time.perf_counter()
    spans = {"preprocess": prepared - started, "inference": inferred - prepared, "postprocess": finished - inferred}
    for result in results:
        result.speed = {name: 1000 * seconds / len(batch) for name, seconds in spans.items()}
    return results


def _now(device: torch.device) -> float:
    """Seconds, after the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _network_input(batch: Sequence[Photo], imgsz: int) -> tuple[Tensor, list[_Letterbox]]:
    """Letterboxed images (B, 3, H, W) uint8 and how each was placed."""
    shapes = {photo.image.shape[:2] for photo in batch}
    height, width = _smallest_rectangle(shapes.pop(), imgsz) if len(shapes) == 1 else (imgsz, imgsz)
    images, boxings = [], []
    for photo in batch:
        image, placing = letterbox(photo.image, height, width)
        images.append(image)
        boxings.append(_Letterbox(*placing))
    return torch.from_numpy(np.stack(images)), boxings


def _smallest_rectangle(shape: tuple[int, ...], imgsz: int) -> tuple[int, int]:
    """Sides in multiples of the stride around an image whose longer side becomes imgsz."""
    gain = imgsz / max(shape)
    high, wide = (math.ceil(round(side * gain) / STRIDE_MULTIPLE_PX) * STRIDE_MULTIPLE_PX for side in shape)
    return max(high, STRIDE_MULTIPLE_PX), max(wide, STRIDE_MULTIPLE_PX)


def _result(
    photo: Photo, names: dict[int, str], rows: Tensor, boxing: _Letterbox, protos: Tensor | None, retina: bool
) -> Results:
    """One Results from rows (N, 6 + coefficients) in pixels of the network input, and prototypes (32, H/4, W/4)."""
    shape = photo.image.shape[0], photo.image.shape[1]
    boxes = rows[:, :NUM_BOX_COLUMNS].clone()
    boxes[:, :4] -= torch.tensor([boxing.left, boxing.top] * 2)
    boxes[:, :4] = clip_boxes(boxes[:, :4] / boxing.gain, *shape)
    masks = None
    if protos is not None:
        scale = 1.0 if retina else min(boxing.gain, 1.0)
        size = max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1)
        found = rows[:, NUM_BOX_COLUMNS:], protos, boxes[:, :4] * scale
        rles = instance_rles(*found, *size, gain=boxing.gain / scale, left=boxing.left, top=boxing.top)
        masks = Masks.from_rles(rles, size, shape)
    return Results(photo.path, names, shape, Boxes(boxes, shape), masks, photo.image)
