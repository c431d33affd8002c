"""What a detector looks at, for one photograph: receptive fields, scan directions, class activation.

`models.attribution` has the formulas. Test: tests/engine/test_explain.py.

Legend: S side of the square network input, H W pixels of the photograph, h w cells of a stage.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

from mamba_yolo.boxes import NUM_BINS, clip_boxes
from mamba_yolo.checks import unknown_name
from mamba_yolo.data import letterbox
from mamba_yolo.engine.sources import photos
from mamba_yolo.errors import ConfigError
from mamba_yolo.models import Detector, decode, fuse
from mamba_yolo.models.attribution import class_activation, direction_responses, receptive_field
from mamba_yolo.models.ss2d import SS2D
from mamba_yolo.ops import nms_head
from mamba_yolo.results import NUM_BOX_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from mamba_yolo.explanation import ExplainConfig
    from mamba_yolo.types import RawDetections

    Floats = npt.NDArray[np.float32]

MOST_IMAGES = 8  # that receptive fields are averaged over
IOU_THR, MAX_DET = 0.7, 300


@dataclass(frozen=True)
class Explanation:
    """What a detector looks at.

    Attributes:
        path: of the photograph.
        image: uint8 (H, W, 3) RGB.
        names: class names.
        fields: (S, S) receptive field of the centre cell of each stage of the backbone.
        fields_before: the same of the network with random weights; empty where the weights are those.
        num_images: that the fields are means over.
        stage: whose scan `responses` are of.
        responses: (4, h, w) of the scan's directions, cut to the photograph.
        activation: (H, W), where the score of the target was raised.
        target: class index.
        score: of the surest place of the target.
        boxes: (n, 6) x1 y1 x2 y2 score class, of what is explained, in pixels of the photograph.
    """

    path: str
    image: npt.NDArray[np.uint8]
    names: dict[int, str]
    fields: list[Floats]
    fields_before: list[Floats]
    num_images: int
    stage: int
    responses: Floats
    activation: Floats
    target: int
    score: float
    boxes: Floats


class _Seen(NamedTuple):
    """One forward with its graph: outputs of the stages, of the whole backbone, and what the chosen scan got."""

    images: Tensor
    raw: RawDetections
    stages: list[Tensor]
    maps: list[Tensor]
    scan: SS2D
    scan_input: Tensor


class _Target(NamedTuple):
    """Places of the network's output that are explained: (A,) true where, their class, and the boxes (n, 6) there."""

    chosen: Tensor
    number: int
    boxes: Tensor


def explain(detector: Detector, names: Mapping[int, str], source: Any, config: ExplainConfig) -> Explanation:
    """Look into a detector while it looks at a photograph; the detector is not changed.

    Args:
        detector: any task; masks are not looked at.
        names: class index to class name.
        source: see `engine.sources.photos`; the first image is explained, receptive fields are means over up to 8.
        config: target, stage, imgsz, conf.

    Raises:
        ConfigError: a target that is no class.
        MissingFileError, ImageError: see `engine.sources.photos`.
    """
    wanted = class_index(config.target, names) if config.target else None
    shown = list(itertools.islice(photos(source), MOST_IMAGES))
    device = next(detector.parameters()).device
    placed = [_Placed(photo.image, config.imgsz) for photo in shown]
    inputs = [p.pixels.to(device) for p in placed]
    first, stage = placed[0], config.stage
    seen = _look(fuse(detector), inputs[0], stage)
    target = _find(decode(seen.raw).detach(), detector.config.num_classes, wanted, config.conf)
    logits_A = torch.cat([level[0, 4 * NUM_BINS + target.number].flatten() for level in seen.raw.levels])
    activation = class_activation(logits_A[target.chosen].sum(), seen.maps, (config.imgsz, config.imgsz))
    return Explanation(
        path=shown[0].path,
        image=shown[0].image,
        names=dict(names),
        fields=_fields(detector, inputs),
        fields_before=_fields_before(detector, inputs),
        num_images=len(shown),
        stage=stage,
        responses=first.cut(direction_responses(seen.scan, seen.scan_input)[0]).cpu().numpy(),
        activation=first.resized(activation).cpu().numpy(),
        target=target.number,
        score=float(logits_A[target.chosen].max().detach().sigmoid()),
        boxes=first.boxes(target.boxes.cpu()).numpy(),
    )


def class_index(target: str, names: Mapping[int, str]) -> int:
    """Index of a class given by its name or its number.

    Raises:
        ConfigError: neither; the message offers the nearest name.
    """
    for index, name in names.items():
        if target in (name, str(index)):
            return index
    raise ConfigError(unknown_name(target, names.values()).replace("option", "class"))


class _Placed:
    """A photograph in its square of grey, and the way back."""

    def __init__(self, image: npt.NDArray[np.uint8], side: int) -> None:
        planes, (self.gain, self.left, self.top) = letterbox(image, side, side)
        self.pixels = torch.from_numpy(planes)[None].float() / 255
        self.shape, self.side = image.shape[:2], side

    def cut(self, maps: Tensor) -> Tensor:
        """The cells of (K, h, w) maps of the square that lie on the photograph."""
        high, wide = (self.gain * pixels for pixels in self.shape)
        rows = _cells(self.top, high, maps.shape[1] / self.side)
        columns = _cells(self.left, wide, maps.shape[2] / self.side)
        return maps[:, rows, columns]

    def resized(self, pixels: Tensor) -> Tensor:
        """An (S, S) map of the square as (H, W) of the photograph."""
        inside = self.cut(pixels[None])[None]
        return functional.interpolate(inside, self.shape, mode="bilinear", align_corners=False)[0, 0]

    def boxes(self, rows: Tensor) -> Tensor:
        """(n, 6) rows of the square in pixels of the photograph."""
        rows = rows[:, :NUM_BOX_COLUMNS].clone()
        rows[:, :4] -= torch.tensor([self.left, self.top] * 2)
        rows[:, :4] = clip_boxes(rows[:, :4] / self.gain, *self.shape)
        return rows


def _cells(first_px: float, size_px: float, cells_per_px: float) -> slice:
    return slice(round(first_px * cells_per_px), max(round((first_px + size_px) * cells_per_px), 1))


def _look(network: Detector, image: Tensor, stage: int) -> _Seen:
    """Run a network, which may be hooked, on (1, 3, S, S) and keep what there is to look at."""
    stages: list[Tensor] = []
    maps: list[Tensor] = []
    scan_input: list[Tensor] = []
    backbone = network.backbone
    for module in backbone.stages:
        module.register_forward_hook(lambda _module, _input, out: stages.append(out))
    backbone.register_forward_hook(lambda _module, _input, out: maps.extend(out[-len(network.strides) :]))
    scan = [module for module in backbone.stages[stage - 1].modules() if isinstance(module, SS2D)][-1]
    scan.register_forward_pre_hook(lambda _module, inputs: scan_input.append(inputs[0]))
    image = image.clone().requires_grad_()
    return _Seen(image, network(image), stages, maps, scan, scan_input[0])


def _find(pred: Tensor, num_classes: int, wanted: int | None, conf: float) -> _Target:
    """What of (1, 4 + nc + extra, A) is explained: all places of a class from conf on, or the surest place there is."""
    scores_CA = pred[0, 4 : 4 + num_classes]
    index = int(scores_CA.amax(dim=1).argmax()) if wanted is None else wanted
    surest = scores_CA[index].argmax()
    chosen = scores_CA[index] >= conf
    if wanted is None or not chosen.any():
        chosen = torch.zeros_like(chosen)
        chosen[surest] = True
    found = nms_head(
        pred[:, : 4 + num_classes, chosen].cpu(), conf_thr=0.0, iou_thr=IOU_THR, max_det=MAX_DET, classes=[index]
    )
    return _Target(chosen, index, found[0])


def _fields(detector: Detector, inputs: Sequence[Tensor]) -> list[Floats]:
    """Receptive field of the centre of each stage, mean over inputs (1, 3, S, S)."""
    total: list[Tensor] = []
    for image in inputs:
        seen = _look(fuse(detector), image, 1)
        fields = [receptive_field(stage, seen.images) for stage in seen.stages]
        total = [a + b for a, b in zip(total, fields, strict=True)] if total else fields
    return [(field / len(inputs)).cpu().numpy() for field in total]


def _fields_before(detector: Detector, inputs: Sequence[Tensor]) -> list[Floats]:
    """The same of the network as it starts, with the weights of seed 0; none if these are its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random = Detector(detector.config).eval()
    mine = detector.state_dict()
    if all(torch.equal(tensor, mine[name].cpu()) for name, tensor in random.state_dict().items()):
        return []
    return _fields(random.to(inputs[0].device), inputs)
