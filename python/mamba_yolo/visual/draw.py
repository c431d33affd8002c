"""Boxes, masks and labels on photographs, with numpy and Pillow.

Frames and tabs are blended by the coverage of a rounded rectangle's signed distance, so they are smooth at any size
and position. Labels look for a free place inside the picture. Test: tests/visual/test_draw.py.

Legend: H W pixels, N objects; images are uint8 (H, W, 3) RGB and are never changed in place.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from mamba_yolo.visual.palette import colour_of, ink_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mamba_yolo.ops.outline import Part

    Picture = npt.NDArray[np.uint8]
    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
    Colour = tuple[int, int, int]

__all__ = ["colour_of", "draw_detections", "draw_polygons", "grid"]

LINE_PER_SIDE = 0.0035  # line width, of the mean image side
FONT_PER_SIDE = 0.024  # letter height, of the mean image side
MIN_LINE_PX, MIN_FONT_PX = 1.4, 9.0
SMALLEST_FONT_PX = 6.0  # below this a label is left out
MASK_OPACITY = 0.42
MOST_LABELS = 0.15  # of the picture; where objects crowd, the surest are named and the rest can still be seen
SMALL_IN_TABS = 4  # boxes lower than so many labels
TITLE_FONT_PX = 15.0


class _Tab(NamedTuple):
    """A label with its place: left, top, width, height in whole pixels."""

    text: str
    font: Font
    colour: Colour
    left: int
    top: int
    width: int
    height: int


def draw_detections(
    image: Picture,
    boxes_xyxy: npt.ArrayLike,
    classes: npt.ArrayLike,
    scores: npt.ArrayLike | None,
    names: Mapping[int, str],
    masks: Iterable[Part] = (),
) -> Picture:
    """Draw boxes with labels, and masks where given, on a copy of an image.

    Args:
        image: uint8 (H, W, 3) RGB.
        boxes_xyxy: (N, 4) pixels.
        classes: (N,) indices into names; an index without a name is written as a number.
        scores: (N,) in 0..1, or None for labels without scores.
        names: class index to class name.
        masks: N of them, or none at all.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    indices = np.asarray(classes).astype(int).reshape(-1)
    canvas = image.copy()
    height, width = image.shape[:2]
    line = max(MIN_LINE_PX, LINE_PER_SIDE * (height + width) / 2)
    for part, index in zip(masks, indices, strict=False):
        _paint_mask(part.window_of(canvas), part.mask.numpy() != 0, colour_of(int(index)), round(line))
    # the surest detection is drawn last, on top, but chooses the place of its label first
    order = np.arange(len(boxes)) if scores is None else np.argsort(-np.asarray(scores), kind="stable")
    for i in order[::-1]:
        _paint_frame(canvas, boxes[i], colour_of(int(indices[i])), line)
    tabs: list[_Tab] = []
    for i in order:
        name = names.get(int(indices[i]), str(int(indices[i])))
        texts = (name,) if scores is None else (f"{name} {np.asarray(scores)[i]:.2f}", name)
        tab = _place_tab(texts, boxes[i], colour_of(int(indices[i])), (height, width), line, tabs)
        covered = sum(t.width * t.height for t in [*tabs, tab] if t is not None)
        if tab is not None and (not tabs or covered <= MOST_LABELS * height * width):
            tabs.append(tab)
    return _write_tabs(canvas, tabs)


def draw_polygons(image: Picture, polygons: Sequence[Sequence[npt.ArrayLike]], classes: npt.ArrayLike) -> Picture:
    """Tint and outline objects on a copy of an image.

    Args:
        image: uint8 (H, W, 3) RGB.
        polygons: of every object its parts, each (k, 2) x, y in pixels; an object may have none.
        classes: (N,) indices that choose the colours.
    """
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas, "RGBA")
    line = max(MIN_LINE_PX, LINE_PER_SIDE * sum(image.shape[:2]) / 2)
    for parts, index in zip(polygons, np.asarray(classes).astype(int).reshape(-1), strict=True):
        colour = colour_of(int(index))
        for part in parts:
            points = [tuple(point) for point in np.asarray(part, np.float64)]
            pen.polygon(points, fill=(*colour, round(255 * MASK_OPACITY)), outline=colour, width=round(line))
    return np.array(canvas)


def grid(
    images: Sequence[Picture],
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    cell: tuple[int, int] | None = None,
    gap: int = 6,
) -> Picture:
    """Put images side by side in equal cells on white, each with a title above it.

    Args:
        images: uint8 (H, W, 3) RGB of any sizes.
        titles: one line per image, or None.
        columns: cells per row; None makes the sheet about square. 2 puts pairs (labels, predictions) side by side.
        cell: (height, width) of a cell in pixels; None takes the largest image.
        gap: white pixels around cells.
    """
    if not images:
        return np.full((gap, gap, 3), 255, np.uint8)
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    high, wide = cell or (max(i.shape[0] for i in images), max(i.shape[1] for i in images))
    font = _font(TITLE_FONT_PX)
    bar = 0 if titles is None else math.ceil(TITLE_FONT_PX * 1.6)
    rows = math.ceil(len(images) / columns)
    size = (gap + columns * (wide + gap), gap + rows * (high + bar + gap))
    sheet = Image.new("RGB", size, (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for i, image in enumerate(images):
        left, top = gap + i % columns * (wide + gap), gap + i // columns * (high + bar + gap)
        if titles is not None:
            text = _shortened(titles[i], font, wide)
            pen.text((left + 2, top + bar / 2), text, fill=(30, 30, 30), font=font, anchor="lm")
        picture = _fitted(image, high, wide)
        sheet.paste(picture, (left + (wide - picture.width) // 2, top + bar + (high - picture.height) // 2))
    return np.array(sheet)


def _fitted(image: Picture, height: int, width: int) -> Image.Image:
    """The image, made as large as a cell allows."""
    gain = min(height / image.shape[0], width / image.shape[1])
    size = max(1, round(image.shape[1] * gain)), max(1, round(image.shape[0] * gain))
    picture = Image.fromarray(image)
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def _shortened(text: str, font: Font, width: int) -> str:
    """The text, its front cut off until it fits (the end of a path tells more than its start)."""
    cut = text
    while len(cut) > 1 and font.getlength(cut) > width - 4:
        cut = "…" + cut.lstrip("…")[1:]
    return cut


@functools.lru_cache(maxsize=64)
def _font(size_px: float) -> Font:
    """Pillow's own scalable font."""
    return ImageFont.load_default(size_px)


def _paint_mask(canvas: Picture, inside: npt.NDArray[np.bool_], colour: Colour, line: int) -> None:
    """Tint the inside of a mask and draw its outline."""
    paint = np.asarray(colour, np.float32)
    core = inside.copy()
    for _ in range(max(1, line)):
        padded = np.pad(core, 1)
        core = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    outline = inside & ~core
    canvas[core] = np.rint(canvas[core] * (1 - MASK_OPACITY) + paint * MASK_OPACITY).astype(np.uint8)
    canvas[outline] = colour


def _paint_frame(canvas: Picture, box: npt.NDArray[np.float64], colour: Colour, line: float) -> None:
    """Blend the outline of a box, moved inside the image where it lies on the border."""
    height, width = canvas.shape[:2]
    half = line / 2
    x1, x2 = np.clip(box[[0, 2]], half, max(half, width - half))
    y1, y2 = np.clip(box[[1, 3]], half, max(half, height - half))
    radius = min(2 * line, (x2 - x1) / 2, (y2 - y1) / 2)
    reach = math.ceil(half + radius) + 1  # how far from an edge the line and its corners can be seen
    top, bottom, left, right = math.floor(y1 - half), math.ceil(y2 + half), math.floor(x1 - half), math.ceil(x2 + half)
    upper, lower = min(top + 2 * reach, bottom), max(bottom - 2 * reach, min(top + 2 * reach, bottom))
    inner, outer = min(left + 2 * reach, right), max(right - 2 * reach, min(left + 2 * reach, right))
    strips = (
        (top, upper, left, right),
        (lower, bottom, left, right),
        (upper, lower, left, inner),
        (upper, lower, outer, right),
    )
    for strip in strips:
        _blend(canvas, strip, (x1, y1, x2, y2), radius, colour, half)


def _blend(
    canvas: Picture,
    strip: tuple[int, int, int, int],
    box: tuple[float, float, float, float],
    radius: float,
    colour: Colour,
    half_line: float | None,
) -> None:
    """Blend a rounded rectangle into rows and columns of the canvas: its outline, or all of it (half_line None)."""
    y1, y2, x1, x2 = max(strip[0], 0), min(strip[1], canvas.shape[0]), max(strip[2], 0), min(strip[3], canvas.shape[1])
    if y1 >= y2 or x1 >= x2:
        return
    qx = np.abs(np.arange(x1, x2) + 0.5 - (box[0] + box[2]) / 2) - (box[2] - box[0]) / 2 + radius
    qy = np.abs(np.arange(y1, y2) + 0.5 - (box[1] + box[3]) / 2)[:, None] - (box[3] - box[1]) / 2 + radius
    distance = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0) - radius
    cover = np.clip((0.5 - distance) if half_line is None else (half_line + 0.5 - np.abs(distance)), 0, 1)
    patch = canvas[y1:y2, x1:x2]
    blended = patch + (np.asarray(colour, np.float32) - patch) * cover[..., None].astype(np.float32)
    canvas[y1:y2, x1:x2] = np.rint(blended).astype(np.uint8)


def _place_tab(
    texts: tuple[str, ...],
    box: npt.NDArray[np.float64],
    colour: Colour,
    shape: tuple[int, int],
    line: float,
    taken: list[_Tab],
) -> _Tab | None:
    """Find the place of a label: inside the image, off other labels; None where it cannot be read."""
    height, width = shape
    fitting = _largest_text(texts, shape)
    if fitting is None:
        return None
    text, font, wide, high = fitting
    half = line / 2
    lefts = (box[0] - half, box[2] + half - wide)
    above, below, inside = box[1] - half - high + 1, box[3] + half - 1, (box[1] + half, box[3] - half - high)
    is_small = box[3] - box[1] < SMALL_IN_TABS * high  # a tab inside would hide it
    tops = (above, below, *inside) if is_small else (above, inside[0], below, inside[1])
    places = np.array([(left, top) for top in tops for left in lefts])
    outside = (places[:, 1] < 0) | (places[:, 1] + high > height)
    places = np.rint(np.clip(places, 0, (width - wide, height - high))).astype(int)
    overlap = np.zeros(len(places))
    if taken:
        others = np.array([(t.left, t.top, t.left + t.width, t.top + t.height) for t in taken])
        shared_w = np.minimum(places[:, None, 0] + wide, others[:, 2]) - np.maximum(places[:, None, 0], others[:, 0])
        shared_h = np.minimum(places[:, None, 1] + high, others[:, 3]) - np.maximum(places[:, None, 1], others[:, 1])
        overlap = (np.maximum(shared_w, 0) * np.maximum(shared_h, 0)).sum(axis=1)
    best = np.lexsort((np.arange(len(places)), outside, overlap))[0]
    if overlap[best] > 0:
        return None
    return _Tab(text, font, colour, int(places[best, 0]), int(places[best, 1]), wide, high)


def _largest_text(texts: tuple[str, ...], shape: tuple[int, int]) -> tuple[str, Font, int, int] | None:
    """The first text that fits into the image at the wanted letter height, else the last one with smaller letters."""
    wanted = max(MIN_FONT_PX, FONT_PER_SIDE * (shape[0] + shape[1]) / 2)
    tries = [(text, wanted) for text in texts]
    tries += [(texts[-1], size) for size in np.arange(math.floor(wanted), SMALLEST_FONT_PX - 1, -1.0)]
    for text, size in tries:
        font = _font(float(size))
        wide, high = math.ceil(font.getlength(text) + 0.6 * size), math.ceil(1.3 * size)
        if wide <= shape[1] and high <= shape[0]:
            return text, font, wide, high
    return None


def _write_tabs(canvas: Picture, tabs: list[_Tab]) -> Picture:
    """Paint the tabs, surest last, and write their texts."""
    for tab in reversed(tabs):
        strip = (tab.top, tab.top + tab.height, tab.left, tab.left + tab.width)
        box = (tab.left, tab.top, tab.left + tab.width, tab.top + tab.height)
        _blend(canvas, strip, box, 0.18 * tab.height, tab.colour, None)
        picture = Image.fromarray(canvas[strip[0] : strip[1], strip[2] : strip[3]])
        centre = (tab.width / 2, tab.height / 2)
        ImageDraw.Draw(picture).text(centre, tab.text, fill=ink_on(tab.colour), font=tab.font, anchor="mm")
        canvas[strip[0] : strip[1], strip[2] : strip[3]] = np.array(picture)
    return canvas
