"""`mamba-yolo info`: parameters and FLOPs, beside the papers' figures. Test: tests/cli/test_info.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mamba_yolo.cli.console import Outcome, table
from mamba_yolo.engine.checkpoint import load_model
from mamba_yolo.engine.packaged import weights_file
from mamba_yolo.models.flops import summary

if TYPE_CHECKING:
    from mamba_yolo.cli.commands import InfoConfig
    from mamba_yolo.models.flops import ModelSummary

MILLION, BILLION = 1e6, 1e9


def run(config: InfoConfig) -> Outcome:
    """Count parameters and FLOPs, in total and per part."""
    is_file = weights_file(config.model) is not None  # a file knows its classes and its variant
    choices: dict[str, Any] = {} if is_file else {"num_classes": config.num_classes, "variant": config.variant}
    detector = load_model(config.model, **choices).detector
    counted = summary(detector, config.imgsz)
    rows = [
        (part.name, part.parameters, f"{part.flops / BILLION:.3f}", f"{part.scan_flops / BILLION:.3f}")
        for part in counted.parts
    ]
    total = ("all", counted.parameters, f"{counted.flops / BILLION:.3f}", f"{counted.scan_flops / BILLION:.3f}")
    title = f"{config.model}, {detector.config.num_classes} classes, {config.imgsz}x{config.imgsz}"
    shown = table(title, ("part", "parameters", "GFLOPs", "of which scan"), [*rows, total])
    data = {
        "model": config.model,
        "task": detector.config.task,
        "num_classes": detector.config.num_classes,
        "imgsz": counted.imgsz,
        "parameters": counted.parameters,
        "flops": counted.flops,
        "scan_flops": counted.scan_flops,
        "convention": counted.convention,
        "paper": None if counted.paper is None else vars(counted.paper),
        "parts": [vars(part) for part in counted.parts],
    }
    return Outcome([shown, f"counted: {counted.convention}", _beside_the_paper(counted)], data)


def _beside_the_paper(counted: ModelSummary) -> str:
    ours = f"ours {counted.parameters / MILLION:.2f} M parameters, {counted.flops / BILLION:.1f} GFLOPs"
    if counted.paper is None:
        return f"{ours}; this network is not in the papers"
    paper = counted.paper
    return f"{ours}; {paper.source}: {paper.parameters_m} M, {paper.flops_g} G (80 classes, 640x640)"
