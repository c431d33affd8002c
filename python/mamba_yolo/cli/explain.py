"""`mamba-yolo explain`: pictures of what a model looks at. Test: tests/cli/test_explain.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mamba_yolo.api import MambaYOLO
from mamba_yolo.checks import check_given
from mamba_yolo.cli.console import Outcome, table
from mamba_yolo.engine.explain import explain
from mamba_yolo.engine.explain_pictures import DIRECTIONS, field_sides, save_explanation
from mamba_yolo.engine.runs import new_run_folder

if TYPE_CHECKING:
    from mamba_yolo.engine.explain import Explanation
    from mamba_yolo.explanation import ExplainConfig


def run(config: ExplainConfig) -> Outcome:
    """Look into a model and write the pictures."""
    check_given("source", config.source)
    model = MambaYOLO(config.model, device=config.device)
    seen = explain(model.module, model.names, config.source, config)
    folder = new_run_folder(config.project, config.name)
    pictures = save_explanation(seen, folder)
    data = _plain(seen) | {"model": config.model, "pictures": [str(path) for path in pictures]}
    columns = ("stage", "half of it in", "95 % in", "with random weights", "95 % in")
    rows = [(i + 1, *(f"{px} px" for px in sides)) for i, sides in enumerate(_sides(seen))]
    shown = table(f"receptive field of {config.model} at {config.imgsz} px", columns[: len(rows[0])], rows)
    return Outcome([shown, f"{data['class']} {seen.score:.2f}: {len(seen.boxes)} boxes", f"written to {folder}"], data)


def _sides(seen: Explanation) -> list[tuple[int, ...]]:
    """Per stage, sides that hold half and 95 % of the field, with these weights and then with random ones."""
    rows = zip(*[fields for fields in (seen.fields, seen.fields_before) if fields], strict=True)
    return [tuple(px for field in row for px in field_sides(field, i)) for i, row in enumerate(rows, 1)]


def _plain(seen: Explanation) -> dict[str, Any]:
    """Figures of an explanation as plain values."""
    means = seen.responses.mean(axis=(1, 2))
    names = ("half_px", "most_px", "half_px_random", "most_px_random")
    return {
        "image": seen.path,
        "class": seen.names.get(seen.target, str(seen.target)),
        "score": seen.score,
        "boxes_xyxy": seen.boxes[:, :4].tolist(),
        "receptive_field": [dict(zip(names, sides, strict=False)) for sides in _sides(seen)],
        "images": seen.num_images,
        "directions": dict(zip(DIRECTIONS, means.tolist(), strict=True)),
    }
