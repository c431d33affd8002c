"""Pictures of an `Explanation`: receptive fields, directions, activation, and all on one page.

Test: tests/engine/test_explain.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mamba_yolo.errors import SaveError
from mamba_yolo.models.attribution import side_holding
from mamba_yolo.models.detector import STAGE_STRIDES
from mamba_yolo.visual.draw import draw_detections, grid
from mamba_yolo.visual.heat import framed, heat, heat_over
from mamba_yolo.visual.write import write_picture

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from mamba_yolo.engine.explain import Explanation, Floats

    Picture = npt.NDArray[np.uint8]

CELL_PX = 360
GAP_PX = 6  # of grid
DIM = 1 / 3  # exponent that shows what is faint: fields fall off by orders of magnitude
HALF, MOST = 0.5, 0.95  # of a receptive field, inside its two squares
DIRECTIONS = ("row by row", "column by column", "rows, from the end", "columns, from the end")


def save_explanation(explanation: Explanation, folder: Path) -> list[Path]:
    """Write receptive_field.png, directions.png, activation.png and overview.png into a folder.

    Raises:
        SaveError: full disk, missing permission.
    """
    sheets = {
        "receptive_field": draw_fields(explanation),
        "directions": draw_directions(explanation),
        "activation": draw_activation(explanation),
    }
    sheets["overview"] = _page(list(sheets.values()))
    try:
        return [write_picture(sheet, folder / f"{name}.png") for name, sheet in sheets.items()]
    except OSError as error:
        raise SaveError(f"cannot write pictures into {folder}: {error}; free space, or choose --project") from error


def draw_fields(explanation: Explanation) -> Picture:
    """A row of receptive fields per set of weights, squares around half and 95 % of each."""
    cells, titles = [], []
    for what, fields in (("random weights", explanation.fields_before), ("these weights", explanation.fields)):
        for stage, field in enumerate(fields, 1):
            half, most = field_sides(field, stage)
            cells.append(framed(heat(field, DIM), (half, most), _centre(field, stage)))
            titles.append(f"stage {stage}, {what}: half in {half} px, 95 % in {most}")
    return grid(cells, titles, columns=len(explanation.fields), cell=(CELL_PX, CELL_PX))


def field_sides(field: Floats, stage: int) -> tuple[int, int]:
    """Sides in pixels of the squares around the centre cell that hold half and 95 % of a stage's receptive field."""
    tensor, centre = torch.from_numpy(field), _centre(field, stage)
    return side_holding(HALF, tensor, centre), side_holding(MOST, tensor, centre)


def _centre(field: Floats, stage: int) -> int:
    """Pixel in the middle of the centre cell of a stage, 1 to 4."""
    stride = STAGE_STRIDES[stage - 1]
    return len(field) // stride // 2 * stride + stride // 2


def draw_directions(explanation: Explanation) -> Picture:
    """The four responses of a scan, each on its own scale, with its share of them all."""
    means = explanation.responses.mean(axis=(1, 2))
    shares = means / max(float(means.sum()), 1e-12)
    titles = [f"stage {explanation.stage}, {name}: {share:.0%}" for name, share in zip(DIRECTIONS, shares, strict=True)]
    return grid([heat(r) for r in explanation.responses], titles, columns=4, cell=_cell_of(explanation, CELL_PX))


def draw_activation(explanation: Explanation) -> Picture:
    """The photograph with what is explained, and what raised its score."""
    name = explanation.names.get(explanation.target, str(explanation.target))
    boxes = explanation.boxes
    plain = draw_detections(explanation.image, boxes[:, :4], boxes[:, 5], boxes[:, 4], explanation.names)
    lit = heat_over(explanation.image, explanation.activation, DIM)
    titles = [f"{name}, {explanation.score:.2f} at its surest place", f"what raised the score of {name}"]
    return grid([plain, lit], titles, columns=2, cell=_cell_of(explanation, 2 * CELL_PX + GAP_PX))


def _cell_of(explanation: Explanation, wide: int) -> tuple[int, int]:
    """(height, width) of a cell that has the photograph's shape."""
    height, width = explanation.image.shape[:2]
    return max(1, round(wide * height / width)), wide


def _page(sheets: list[Picture]) -> Picture:
    """Sheets one below the other on white."""
    widest = max(sheet.shape[1] for sheet in sheets)
    padded = [np.pad(s, ((0, 0), (0, widest - s.shape[1]), (0, 0)), constant_values=255) for s in sheets]
    return np.concatenate(padded)
