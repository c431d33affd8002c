"""A photograph on a page, with what was found, missed and falsely reported drawn over it as SVG.

The picture is a JPEG of moderate size inside the page, the boxes stay sharp at any zoom and say their class and score
under the pointer. Test: tests/visual/test_overlay.py.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Literal, NamedTuple

from PIL import Image

from mamba_yolo.visual.markup import Html, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

JPEG_QUALITY = 78
LETTER_PER_SIDE = 0.03  # height of letters, of the mean image side

Kind = Literal["truth", "found", "missed", "false", "crowd"]


class Mark(NamedTuple):
    """A box on a picture: (4,) x1 y1 x2 y2 pixels of the original image, what it is, and its text."""

    box_xyxy: npt.NDArray[np.float32]
    kind: Kind
    text: str


def overlay(image: npt.NDArray[np.uint8] | None, size: tuple[int, int], marks: Sequence[Mark], side_px: int) -> Html:
    """A picture with boxes.

    Args:
        image: uint8 (H, W, 3) RGB, or None where it cannot be read: the boxes then stand on grey.
        size: (height, width) that the boxes refer to.
        marks: boxes, drawn in this order; those missed and false carry their text.
        side_px: longest side of the picture inside the page.
    """
    height, width = size
    letter = LETTER_PER_SIDE * (height + width) / 2
    parts = [tag("rect", width=width, height=height, fill="#8886")]
    if image is not None:
        parts.append(tag("image", href=_data_url(image, side_px), width=width, height=height))
    for mark in marks:
        x1, y1, x2, y2 = (round(float(v), 1) for v in mark.box_xyxy)
        box = tag("rect", x=x1, y=y1, width=max(round(x2 - x1, 1), 0), height=max(round(y2 - y1, 1), 0))
        inside = [tag("title", f"{mark.kind}: {mark.text}"), box]
        if mark.kind in ("missed", "false"):
            # one above and one below: an object of a mistaken class is both at the same place
            above, below = y1 - 0.25 * letter, y2 + 0.95 * letter
            fits = above > letter if mark.kind == "false" else below > height - 0.2 * letter
            top = min(max(above if fits else below, letter), height - 0.2 * letter)
            left, anchor = (x1, "start") if x1 < 0.75 * width else (x2, "end")
            inside.append(tag("text", mark.text, x=left, y=round(top, 1), text_anchor=anchor))
        parts.append(tag("g", *inside, class_=f"mark {mark.kind}"))
    return tag(
        "svg", *parts, viewBox=f"0 0 {width} {height}", font_size=round(letter, 1), role="img",
        aria_label=f"photograph with {len(marks)} boxes", class_="photo",
    )  # fmt: skip


def _data_url(image: npt.NDArray[np.uint8], side_px: int) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
