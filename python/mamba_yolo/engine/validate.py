"""Validation: letterboxed batches → averaged weights → decode → NMS → boxes and masks in image pixels → metrics.

float32 unless asked otherwise, whatever the training used, so that a saved file gives its figures again. Nothing is
dropped for lack of time, and an output that is not a number is an error. Test: tests/engine/test_validate.py.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import torch

from mamba_yolo.boxes import clip_boxes
from mamba_yolo.engine.inference import Network
from mamba_yolo.engine.masks import found_masks, masks_of_all, true_masks
from mamba_yolo.engine.metrics import MaskPairs, Metrics, evaluate, truth_of
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.ranks import ALONE, Ranks
from mamba_yolo.engine.step import batch_losses, network_input
from mamba_yolo.engine.tally import Losses, Tally
from mamba_yolo.engine.verdicts import image_losses
from mamba_yolo.errors import ConfigError, TrainingError
from mamba_yolo.models.decode import decode
from mamba_yolo.ops import nms_head
from mamba_yolo.results import NUM_BOX_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from mamba_yolo.config import Dtype
    from mamba_yolo.data import Dataset, Loader
    from mamba_yolo.engine.step import Criterion
    from mamba_yolo.models.detector import Detector
    from mamba_yolo.ops.masks import Rle
    from mamba_yolo.types import Batch, RawDetections

    Watcher = Callable[[Batch, list[npt.NDArray[np.float32]], list[list[Rle]] | None], None]

LOWEST_CONF = 0.001  # what COCO figures are computed from


def validate(
    detector: Detector,
    loader: Loader,
    *,
    conf: float = LOWEST_CONF,
    iou: float = 0.7,
    max_det: int = 300,
    device: torch.device | str = "cpu",
    dtype: Dtype = "float32",
    progress: Reporter | None = None,
    criterion: Criterion | None = None,
    watch: Watcher | None = None,
    per_image: bool = False,
    ranks: Ranks = ALONE,
) -> Metrics:
    """Figures of a detector on every image of a loader.

    Args:
        detector: moved to `device`; a folded copy of it is measured.
        loader: letterboxed images and ground truth (`train=False`); its cache serves every validation of a run.
        conf: lowest score kept.
        iou: NMS threshold, per class.
        max_det: most detections per image.
        device: where to compute.
        dtype: what the network computes in.
        progress: where to report; silent without it.
        criterion: also report the loss.
        watch: called with the first batch, its detections in network pixels and, from a -seg network, their masks.
        per_image: with a criterion, also the loss of every image alone, in `Metrics.verdicts`.
        ranks: the processes that share the images, each with a loader of its share; all get the figures of all images.

    Raises:
        ConfigError: the detector has another number of classes than the data.
        BackendError: a dtype that the device has no instructions for.
        TrainingError: the network gives NaN or infinity.
    """
    dataset = loader.dataset
    _check_classes(detector, dataset)
    device = torch.device(device)
    detector.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = Network(detector, dtype)
    rows: dict[int, npt.NDArray[np.float32]] = {}
    masks: dict[int, list[Rle]] | None = {} if detector.config.task == "segment" else None
    alone: dict[int, float] = {}
    clock, losses = _Clock(device), list[Tally]()
    with (progress or Reporter(quiet=True)).bar("validate", len(loader)) as bar, torch.inference_mode():
        for current in loader.epoch(0):
            clock.lap("load")
            raw = network(network_input(current.images, device))
            clock.lap("network")
            if criterion is not None:
                losses.append(Tally.of(batch_losses(raw, current, criterion, device), len(current.images)))
            if criterion is not None and per_image:
                alone |= image_losses(raw, current, criterion, device)
            found = _detect(raw, current, dataset, conf=conf, iou=iou, max_det=max_det)
            if watch is not None and not rows:
                watch(current, [f[:, :NUM_BOX_COLUMNS].numpy() for f in found], _masks_on(current.images, found, raw))
            for k, (sample, letterbox) in enumerate(zip(current.sample_index.tolist(), current.letterbox, strict=True)):
                size = dataset.image_size(sample)
                boxes = _to_image(found[k], letterbox, size)
                rows[sample] = boxes.numpy()
                if masks is not None and raw.protos is not None:
                    coefs = found[k][:, NUM_BOX_COLUMNS:]
                    masks[sample] = found_masks(coefs, raw.protos[k], boxes[:, :4], letterbox, size)
            clock.lap("nms")
            bar.advance(images=len(current.images))
    rows_of_all = _rows_of_all(rows, ranks)
    metrics = _figures(dataset, rows_of_all, _losses_of_all(alone, ranks))
    seg = None if masks is None else _mask_figures(dataset, rows_of_all, masks_of_all(masks, ranks))
    means = _mean_losses(losses, ranks)
    named = means.named(detector.config.task) if means is not None else {}
    return dataclasses.replace(metrics, speed_ms=clock.per_image(len(rows)), losses=named, seg=seg)


def _mask_figures(dataset: Dataset, rows: dict[int, npt.NDArray[np.float32]], masks: dict[int, list[Rle]]) -> Metrics:
    """Figures of masks by image."""
    order = sorted(rows)
    known = [true_masks(dataset[i], dataset.image_size(i)) for i in order]
    truths = [truth_of(dataset[i]) for i in order]
    truths = [t._replace(is_crowd=t.is_crowd | ~k.is_known) for t, k in zip(truths, known, strict=True)]
    pairs = MaskPairs([k.rles for k in known], [masks[i] for i in order])
    return evaluate(truths, [rows[i] for i in order], dataset.names, pairs)


def _figures(dataset: Dataset, rows: dict[int, npt.NDArray[np.float32]], alone: dict[int, float]) -> Metrics:
    """Figures of detections by image, and with them the losses of single images."""
    order = sorted(rows)
    metrics = evaluate([truth_of(dataset[i]) for i in order], [rows[i] for i in order], dataset.names)
    verdicts = [v._replace(loss=alone.get(i, v.loss)) for i, v in zip(order, metrics.verdicts, strict=True)]
    return dataclasses.replace(metrics, verdicts=verdicts)


def _rows_of_all(rows: dict[int, npt.NDArray[np.float32]], ranks: Ranks) -> dict[int, npt.NDArray[np.float32]]:
    """Detections by image, of the images of every rank."""
    if ranks.world_size == 1:
        return rows
    mine = torch.tensor([(i, len(r)) for i, r in rows.items()], dtype=torch.float64).reshape(-1, 2)
    flat = torch.cat([torch.zeros(0, 6), *map(torch.from_numpy, rows.values())]).double()  # holds float32 exactly
    found: dict[int, npt.NDArray[np.float32]] = {}
    for images, boxes in zip(ranks.gather(mine), ranks.gather(flat), strict=True):
        parts = torch.split(boxes.float(), images[:, 1].long().tolist())
        found.update(zip(images[:, 0].long().tolist(), (p.numpy() for p in parts), strict=True))
    return found


def _losses_of_all(alone: dict[int, float], ranks: Ranks) -> dict[int, float]:
    """Losses of single images by image, of the images of every rank."""
    mine = torch.tensor(list(alone.items()), dtype=torch.float64).reshape(-1, 2)
    return {int(image): loss for share in ranks.gather(mine) for image, loss in share.tolist()}


def _mean_losses(batches: list[Tally], ranks: Ranks) -> Losses | None:
    """Mean loss per batch, weighted by images; batch k of every rank is a share of the same. None without a batch."""
    mine = torch.tensor(batches, dtype=torch.float64).reshape(-1, len(Tally._fields))
    shares = ranks.gather(mine)
    whole = torch.zeros(max(len(s) for s in shares), len(Tally._fields), dtype=torch.float64)
    for share in shares:
        whole[: len(share)] += share
    tallies = [Tally(*row) for row in whole.tolist()]
    images = sum(t.images for t in tallies)
    parts = zip(*(t.losses() for t in tallies), strict=True)
    weights = [t.images for t in tallies]
    means = (sum(p * w for p, w in zip(part, weights, strict=True)) / images for part in parts)
    return Losses(*means) if images else None


def _detect(
    raw: RawDetections, batch: Batch, dataset: Dataset, *, conf: float, iou: float, max_det: int
) -> list[Tensor]:
    """Rows per image in network pixels, on the CPU."""
    decoded = decode(raw)
    _check_finite(decoded, batch, dataset)
    classes = len(dataset.names)
    rows = nms_head(decoded, conf_thr=conf, iou_thr=iou, multi_label=True, max_det=max_det, num_classes=classes)
    return [r.cpu() for r in rows]


def _masks_on(images: Tensor, found: list[Tensor], raw: RawDetections) -> list[list[Rle]] | None:
    """Masks of detections per image in network pixels; None from a detector."""
    if raw.protos is None:
        return None
    size, unmoved = (images.shape[2], images.shape[3]), torch.tensor([1.0, 0.0, 0.0])
    return [
        found_masks(rows[:, NUM_BOX_COLUMNS:], protos, rows[:, :4], unmoved, size)
        for rows, protos in zip(found, raw.protos, strict=True)
    ]


def _to_image(rows: Tensor, letterbox: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (n, 6 or more) from network pixels to pixels of the original image, clipped to it; (n, 6)."""
    gain, left, top = letterbox
    shift = torch.stack([left, top, left, top])
    boxes = clip_boxes((rows[:, :4] - shift) / gain, *size)
    return torch.cat([boxes, rows[:, 4:NUM_BOX_COLUMNS]], dim=1)


def _check_classes(detector: Detector, dataset: Dataset) -> None:
    if detector.config.num_classes != len(dataset.names):
        raise ConfigError(
            f"the model has {detector.config.num_classes} classes, the data {len(dataset.names)}; "
            "use the data it was trained on, or train it on these"
        )


def _check_finite(decoded: Tensor, batch: Batch, dataset: Dataset) -> None:
    fine = torch.isfinite(decoded).flatten(1).all(dim=1)
    if not bool(fine.all()):
        first = int(batch.sample_index[int((~fine).int().argmax())])
        raise TrainingError(
            f"the network gives NaN or infinity for {dataset[first].path}: its weights are damaged, use an earlier file"
        )


class _Clock:
    """Time by phase, GPU work included."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, phase: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.last
        self.last = now

    def per_image(self, images: int) -> dict[str, float]:
        return {phase: 1000 * seconds / max(images, 1) for phase, seconds in self.seconds.items()}
