"""Parameters and FLOPs of a detector, per part, beside the figures of the papers.

Counted by torch's flop counter on a network without memory (device meta), batch 1. The scan is counted by the formula
that `ops` registers with it; the counter knows convolutions and matrix products, and leaves out norms, activations
and sums, as all such figures do. Test: tests/models/test_flops.py.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mamba_yolo.checks import check_imgsz
from mamba_yolo.models.detector import Detector
from mamba_yolo.models.presets import preset_config
from mamba_yolo.models.ss2d import SS2D

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mamba_yolo.config import DetectorConfig, Variant

CONVENTION = (
    "2 FLOPs per multiply-add of convolutions and projections; the scan counts 7 per state, token, channel and "
    "direction (an exponential is 1) and 2 per rank for the step; norms and activations are not counted; batch 1"
)
SCAN_OPERATORS = "mamba_yolo.scan_"  # how the names of the scan's operators in torch begin


@dataclass(frozen=True)
class PaperFigures:
    """What a paper's table says about a size: COCO, 80 classes, 640 px; AP is None where only a plot shows it."""

    source: str
    parameters_m: float
    flops_g: float
    ap: float | None = None
    note: str = ""


PAPER_FIGURES: dict[tuple[str, Variant], PaperFigures] = {
    ("t", "v1"): PaperFigures("arXiv 2406.05835v1", 6.1, 14.3, 45.4, "the AP of v1 is quoted from later papers"),
    ("b", "v1"): PaperFigures("arXiv 2406.05835v1", 21.8, 49.7),
    ("l", "v1"): PaperFigures("arXiv 2406.05835v1", 57.6, 156.2),
    ("t", "v2"): PaperFigures("AAAI 2025", 5.8, 13.2, 44.5),
    ("b", "v2"): PaperFigures("AAAI 2025", 19.1, 45.4, 49.1),
    ("l", "v2"): PaperFigures("AAAI 2025", 57.6, 156.2, 52.1, "the paper prints the figures of v1 again"),
}


@dataclass(frozen=True)
class PartSummary:
    """One part of the network: its path, parameters, FLOPs, and how many of these are the scan's."""

    name: str
    parameters: int
    flops: int
    scan_flops: int


@dataclass(frozen=True)
class ModelSummary:
    """Size and cost of a network.

    Attributes:
        parameters: all, the 16 fixed bin distances included, as in the published figures.
        flops: of one image of imgsz x imgsz, scan included.
        scan_flops: the scan's share.
        projection_flops: share of the projections to step, B and C, which belong to no layer of torch.
        parts: the same per part, in the order of the data.
        imgsz: side of the image in pixels.
        convention: what is counted, and how.
        paper: figures of the paper for this size and variant, for 80 classes at 640 px; None where it has none.
    """

    parameters: int
    flops: int
    scan_flops: int
    projection_flops: int
    parts: tuple[PartSummary, ...]
    imgsz: int
    convention: str
    paper: PaperFigures | None

    @property
    def layer_flops(self) -> int:
        """What a counter of torch's layers sees: neither the scan nor its projections."""
        return self.flops - self.scan_flops - self.projection_flops


def summary(detector: Detector, imgsz: int = 640) -> ModelSummary:
    """Parameters and FLOPs of a detector for one square image.

    Args:
        detector: any; only its config is used, and nothing is computed.
        imgsz: side of the image in pixels, a multiple of 32.

    Raises:
        ConfigError: imgsz is not a positive multiple of 32.
    """
    check_imgsz(imgsz)
    with torch.device("meta"), torch.no_grad():
        twin = Detector(detector.config).eval()
        projection_flops = _watch_projections(twin)
        with FlopCounterMode(display=False) as counter:
            twin(torch.empty(1, 3, imgsz, imgsz))
    counts = counter.get_flop_counts()
    parts = []
    for name, part in _parts(twin):
        flops, scan_flops = _totals(counts.get(f"{Detector.__name__}.{name}", {}))
        parts.append(PartSummary(name, _num_parameters(part), flops, scan_flops))
    flops, scan_flops = _totals(counts["Global"])
    paper = paper_figures(detector.config)
    return ModelSummary(
        _num_parameters(twin), flops, scan_flops, sum(projection_flops), tuple(parts), imgsz, CONVENTION, paper
    )


def paper_figures(config: DetectorConfig) -> PaperFigures | None:
    """Figures of the paper whose network this is, whatever the number of classes; None for any other."""
    for (size, variant), figures in PAPER_FIGURES.items():
        published = dataclasses.replace(
            preset_config(size, config.num_classes, variant),
            initialization=config.initialization,
            dropout=config.dropout,
            drop_path=config.drop_path,
        )
        if published == config:
            return figures
    return None


def _parts(detector: Detector) -> Iterator[tuple[str, nn.Module]]:
    """Stem, stages, downsamplings, ..., head: paths and modules."""
    for room in ("backbone", "neck"):
        for name, child in detector.get_submodule(room).named_children():
            numbered = child.named_children() if isinstance(child, nn.ModuleList) else [("", child)]
            yield from ((f"{room}.{name}.{i}".rstrip("."), module) for i, module in numbered)
    yield "head", detector.head
    if detector.mask_head is not None:
        yield "mask_head", detector.mask_head


def _watch_projections(detector: Detector) -> list[int]:
    """A list that grows by the FLOPs of every scan's input projection as images pass."""
    seen: list[int] = []
    for layer in detector.modules():
        if isinstance(layer, SS2D):
            layer.register_forward_hook(
                lambda ss2d, _, y: seen.append(2 * ss2d.x_proj_weight.numel() * y.shape[2] * y.shape[3])
            )
    return seen


def _totals(flops_by_operator: dict[object, int]) -> tuple[int, int]:
    """All FLOPs, and those of the scan."""
    scans = sum(flops for operator, flops in flops_by_operator.items() if str(operator).startswith(SCAN_OPERATORS))
    return sum(flops_by_operator.values()), scans


def _num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
