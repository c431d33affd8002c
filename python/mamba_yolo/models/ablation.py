"""The ablations of the papers as one table: each row is the first paper's network with a few settings changed.

What the papers say is in words here, and the totals they print are in `flops.PAPER_FIGURES`; the figures of their
ablation tables are not known to us. Measuring the rows is `engine.ablation`. Test: tests/models/test_ablation.py.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mamba_yolo.checks import unknown_name
from mamba_yolo.errors import ConfigError
from mamba_yolo.models.detector import Detector
from mamba_yolo.models.flops import ModelSummary, PaperFigures, summary
from mamba_yolo.models.presets import VARIANTS, preset_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mamba_yolo.config import DetectorConfig

MILLION, BILLION = 1e6, 1e9
LAST_DIGIT = 0.1  # of the printed figures, rounded or cut
UNCOUNTED_NORMS = 0.02  # share of the FLOPs that a counter of layers gives to norms, which ours leaves out


class Row(NamedTuple):
    """One network of the table.

    Attributes:
        name: on the command line and of run folders.
        group: what is studied.
        change: fields of `DetectorConfig` that differ from a v1 preset.
        paper_says: about this network beside the first row.
    """

    name: str
    group: str
    change: dict[str, Any]
    paper_says: str


BASE = "base"
ABLATION = (
    Row(BASE, "reference", {}, "the network of the first paper (v1)"),
    Row("conv-downsampling", "downsampling", {"downsampling": "conv"}, "less accurate: loses cues for the scan"),
    Row("no-local-spatial", "local-spatial block", {"local_spatial": False}, "v1: less accurate; v2: does without it"),
    Row("mlp", "channel MLP", {"channel_mlp": "mlp"}, "less accurate"),
    Row("conv-mlp", "channel MLP", {"channel_mlp": "conv_mlp"}, "less accurate: convolution alone does not help"),
    Row("res-conv-mlp", "channel MLP", {"channel_mlp": "res_conv_mlp"}, "less accurate"),
    Row("gated-mlp", "channel MLP", {"channel_mlp": "gated_mlp"}, "less accurate: gate and residual convolution help"),
    Row("c2f-neck", "neck", {"neck_block": "c2f"}, "less accurate"),
    Row("depths-9333", "depths", {"stage_depths": (9, 3, 3, 3)}, "v2: not chosen"),
    Row("depths-3933", "depths", {"stage_depths": (3, 9, 3, 3)}, "v2: not chosen"),
    Row("depths-3339", "depths", {"stage_depths": (3, 3, 3, 9)}, "v2: not chosen"),
    Row("depths-3663", "depths", {"stage_depths": (3, 6, 6, 3)}, "v2: chosen, before [3, 3, 9, 3]"),
    Row("v2", "variant", VARIANTS["v2"], "T has AP 44.5 beside 45.4 of v1"),
    Row("p2-p5", "pyramid", {"pyramid": "p2-p5"}, "more accurate, for many FLOPs"),
    Row("mamba-init", "initialisation", {"initialization": "mamba"}, "not studied"),
)


def chosen_rows(names: Sequence[str]) -> list[Row]:
    """Rows of these names in the order of the table; all for none.

    Raises:
        ConfigError: an unknown name; the message offers the nearest.
    """
    known = [row.name for row in ABLATION]
    for name in names:
        if name not in known:
            raise ConfigError(unknown_name(name, known).replace("option", "row"))
    return [row for row in ABLATION if not names or row.name in names]


def row_config(row: Row, preset: str, num_classes: int = 80) -> DetectorConfig:
    """The network of a row at the size of a preset; errors as in `preset_config`."""
    return preset_config(preset, num_classes, **row.change)


@functools.cache
def count(config: DetectorConfig) -> ModelSummary:
    """Parameters and FLOPs at 640 px, as `flops.summary`; counted once per network."""
    with torch.device("meta"):
        return summary(Detector(config))


def published(config: DetectorConfig) -> PaperFigures | None:
    """The paper's figures of exactly this network: all its figures are of the release's initialisation."""
    return count(config).paper if config.initialization == "release" else None


def mismatches(config: DetectorConfig) -> list[str]:
    """Where the paper's parameters and FLOPs are not ours, one sentence each."""
    ours, paper = count(config), published(config)
    if paper is None:
        return []
    named = []
    parameters_m, flops_g, layers_g = ours.parameters / MILLION, ours.flops / BILLION, ours.layer_flops / BILLION
    if abs(parameters_m - paper.parameters_m) >= LAST_DIGIT:
        named.append(f"{parameters_m:.2f} M parameters, the paper prints {paper.parameters_m} M")
    if abs(flops_g - paper.flops_g) >= LAST_DIGIT:
        fits = layers_g <= paper.flops_g <= layers_g * (1 + UNCOUNTED_NORMS)
        verb = "fits" if fits else "does not fit"
        named.append(
            f"{flops_g:.1f} GFLOPs, the paper prints {paper.flops_g}, which {verb} the convolution layers alone "
            f"({layers_g:.1f} without the scan and the projection to its steps)"
        )
    return [*named, paper.note] if paper.note else named
