"""Drawing on photographs: where pixels change, and that labels can be read."""

import numpy as np
import pytest
import torch

from mamba_yolo.ops.outline import Part
from mamba_yolo.visual import draw
from mamba_yolo.visual.draw import draw_detections, draw_polygons, grid

NAMES = {0: "cell", 1: "a rather long class name"}


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def square(start, side):
    return Part(torch.ones(side, side, dtype=torch.uint8), start, start)


def changed(image, drawn):
    return (image != drawn).any(axis=2)


def test_the_input_is_not_changed():
    image = grey(100, 120)
    draw_detections(image, [[10, 10, 60, 60]], [0], [0.5], NAMES, [square(50, 40)])
    assert (image == 128).all()


def test_no_boxes_change_nothing():
    image = grey(50, 60)
    assert (draw_detections(image, np.zeros((0, 4)), [], [], NAMES) == image).all()
    assert (draw_detections(image, [], [], None, NAMES, []) == image).all()


def test_polygons_are_tinted_inside_and_outlined():
    image = grey(200, 200)
    square, corner = [[50, 50], [150, 50], [150, 150], [50, 150]], [[180, 180], [195, 180], [195, 195]]
    marks = changed(image, draw_polygons(image, [[square], [], [corner]], [0, 1, 2]))
    assert marks[52:149, 52:149].all()
    assert marks[184, 192]
    assert marks.sum() < 103 * 103 + 200
    assert (image == 128).all()
    assert (draw_polygons(image, [], []) == image).all()


def test_only_the_line_and_the_label_are_painted():
    image = grey(300, 300)
    marks = changed(image, draw_detections(image, [[100, 100, 200, 200]], [0], None, {0: ""}))
    line = 4
    assert not marks[100 + line : 200 - line, 100 + line : 200 - line].any()
    assert marks[150, 100 - line : 100 + line].any()
    assert marks[150, 200 - line : 200 + line].any()
    assert marks[200 - line : 200 + line, 150].any()
    assert not marks[210:].any()
    assert not marks[:, 210:].any()
    assert not marks[:70].any()


def test_line_width_follows_the_image():
    widths = []
    for side in (200, 1600):
        drawn = draw_detections(
            grey(side, side), [[side / 4, side / 4, side * 3 / 4, side * 3 / 4]], [0], None, {0: ""}
        )
        widths.append(changed(grey(side, side), drawn)[side // 2, : side // 2].sum())
    assert widths[1] > 2 * widths[0]


def test_edges_are_smooth():
    """A line between two pixels tints both equally."""
    drawn = draw_detections(grey(200, 200), [[50.5, 50, 150, 150]], [0], None, {0: ""}).astype(int)
    off = np.abs(drawn[100, 45:56] - 128).sum(axis=1)
    assert 0 < off[off > 0].min() < off.max()


@pytest.mark.parametrize(
    "box", [[0, 0, 30, 30], [170, 0, 200, 20], [150, 130, 200, 150], [-50, -50, 900, 900], [0, 140, 3, 150]]
)
def test_labels_stay_inside_the_image(box):
    tabs = []
    place = draw._place_tab(("cell 0.50",), np.array(box, float), (0, 0, 0), (150, 200), 2.0, tabs)
    assert place.left >= 0
    assert place.top >= 0
    assert place.left + place.width <= 200
    assert place.top + place.height <= 150


@pytest.mark.parametrize(("height", "is_seen"), [(20, True), (150, False)])
def test_a_label_does_not_hide_a_small_object_at_the_upper_border(height, is_seen):
    """It goes below; only a large one has room for it inside."""
    drawn = draw_detections(np.zeros((200, 200, 3), np.uint8), [[40, 0, 160, height]], [0], [0.9], {0: "cell"})
    assert (not drawn[6 : height - 6, 50:150].any()) == is_seen
    assert (drawn[height + 4 :].any()) == is_seen


def test_labels_avoid_each_other():
    tabs = []
    for box in ([50, 50, 90, 90], [52, 51, 92, 91], [51, 52, 91, 92]):
        tabs.append(draw._place_tab(("cell 0.50",), np.array(box, float), (0, 0, 0), (200, 200), 2.0, tabs))
    for i, a in enumerate(tabs):
        for b in tabs[:i]:
            apart_x = a.left + a.width <= b.left or b.left + b.width <= a.left
            apart_y = a.top + a.height <= b.top or b.top + b.height <= a.top
            assert apart_x or apart_y


def test_a_label_that_cannot_be_read_is_left_out():
    assert draw._place_tab(("a rather long class name",), np.zeros(4), (0, 0, 0), (20, 20), 1.4, []) is None
    assert draw._place_tab(("cell 0.99", "c"), np.zeros(4), (0, 0, 0), (20, 20), 1.4, []).text == "c"


@pytest.mark.parametrize("shape", [(1, 1), (20, 20), (1, 100), (100, 1), (3000, 4000)])
def test_any_size(shape):
    height, width = shape
    boxes = [[0, 0, width, height], [2, 2, 2, 2], [width / 2, 0, width * 2, height], [5, 5, 3, 3]]
    drawn = draw_detections(grey(*shape), boxes, [0, 1, 0, 1], [0.9, 0.1, 0.5, 0.2], NAMES)
    assert drawn.shape == (*shape, 3)
    assert drawn.dtype == np.uint8


def test_masks_tint_inside_and_draw_an_outline():
    image = grey(100, 100)
    drawn = draw_detections(image, [[0, 0, 1, 1]], [0], None, {0: ""}, [square(20, 60)])
    colour = np.array(draw.colour_of(0), float)
    assert np.abs(drawn[50, 50] - (128 + draw.MASK_OPACITY * (colour - 128))).max() <= 1
    assert (drawn[20, 50] == colour).all()
    assert (drawn[90, 50] == 128).all()


def test_a_crowd_is_not_hidden_by_its_labels():
    places = [(x, y) for x in range(8, 248, 24) for y in range(8, 248, 24)]
    boxes, classes = [[x, y, x + 12, y + 12] for x, y in places], [0] * len(places)
    frames = draw_detections(grey(256, 256), boxes, classes, None, {0: ""})
    labels = draw_detections(grey(256, 256), boxes, classes, [0.9] * len(boxes), NAMES)
    assert 0 < changed(frames, labels).mean() < 0.3


def test_a_class_without_a_name_is_a_number():
    assert changed(grey(90, 90), draw_detections(grey(90, 90), [[20, 30, 60, 60]], [7], [0.5], {})).any()


class TestGrid:
    def test_cells_titles_and_gaps(self):
        sheet = grid([grey(40, 60), grey(40, 60), grey(40, 60)], ["a", "b", "c"], columns=2, gap=5)
        bar = 24
        assert sheet.shape == (5 + 2 * (40 + bar + 5), 5 + 2 * (60 + 5), 3)
        assert (sheet[5 + bar : 5 + bar + 40, 5:65] == 128).all()
        assert (sheet[-45:-5, 70:130] == 255).all()

    def test_images_of_other_sizes_are_fitted(self):
        sheet = grid([grey(10, 20), grey(80, 20)], cell=(40, 40), columns=2, gap=0)
        assert sheet.shape == (40, 80, 3)
        assert (sheet[20, 20] == 128).all()
        assert (sheet[2, 20] == 255).all()

    def test_no_images(self):
        assert grid([], []).shape[2] == 3

    def test_long_titles_lose_their_front(self):
        font = draw._font(15.0)
        short = draw._shortened("/a/very/long/path/to/photograph.jpg", font, 100)
        assert short.startswith("…")
        assert short.endswith("graph.jpg")
        assert font.getlength(short) <= 100
