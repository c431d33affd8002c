"""An explanation of a photograph, on a network that has learned where one red square is."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from mamba_yolo import MambaYOLO
from mamba_yolo.data import decode_image
from mamba_yolo.engine.explain import class_index
from mamba_yolo.engine.explain_pictures import field_sides, save_explanation
from mamba_yolo.errors import ConfigError, MissingFileError

NAMES = {0: "red", 1: "blue"}
SIDE, STEPS = 64, 40
PLACES = [(8, 8), (8, 36), (36, 8), (36, 36)]  # top left corners of 20 px squares


def picture(corner):
    pixels = np.full((SIDE, SIDE, 3), 110, np.uint8)
    y, x = corner
    pixels[y : y + 20, x : x + 20] = (220, 30, 30)
    return pixels


@pytest.fixture(scope="module")
def model():
    """Class 0 has a high score where the square's centre is and nowhere else."""
    model = MambaYOLO("n", num_classes=2, device="cpu")
    model.names = dict(NAMES)
    images = torch.from_numpy(np.stack([picture(c) for c in PLACES])).permute(0, 3, 1, 2).float() / 255
    wanted = torch.zeros(4, 2, 8, 8)
    for i, (y, x) in enumerate(PLACES):
        wanted[i, 0, (y + 10) // 8, (x + 10) // 8] = 1
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=3e-3)
    model.module.train()
    for module in model.module.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.3  # the usual 0.03 would need more steps
    for _ in range(STEPS):
        loss = functional.binary_cross_entropy_with_logits(
            model.module(images).levels[0][:, 64:], wanted, pos_weight=torch.tensor(20.0)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.module.eval()
    return model


@pytest.fixture(scope="module")
def seen(model):
    return model.explain(picture(PLACES[1]), imgsz=SIDE, target="red", conf=0.9)


def test_activation_lies_on_the_planted_object(seen):
    """Its centre of mass inside the square, its peak at most one cell of the finest map (8 px) away from it."""
    top, left = PLACES[1]
    rows, columns = np.indices(seen.activation.shape)
    total = seen.activation.sum()
    assert top <= (rows * seen.activation).sum() / total < top + 20
    assert left <= (columns * seen.activation).sum() / total < left + 20
    y, x = np.unravel_index(seen.activation.argmax(), seen.activation.shape)
    assert top - 8 <= y < top + 28
    assert left - 8 <= x < left + 28


def test_shapes_and_facts(seen):
    assert (seen.target, seen.num_images, seen.stage) == (0, 1, 2)
    assert seen.score > 0.5
    assert seen.responses.shape == (4, 8, 8)
    assert seen.activation.shape == (SIDE, SIDE)
    assert [f.shape for f in seen.fields + seen.fields_before] == [(SIDE, SIDE)] * 8
    halves = [field_sides(field, stage)[0] for stage, field in enumerate(seen.fields, 1)]
    assert halves[0] < halves[2] <= SIDE


def test_the_model_is_left_as_it_was(model):
    before = {k: t.clone() for k, t in model.module.state_dict().items()}
    grads = [p.requires_grad for p in model.module.parameters()]
    model.explain(picture(PLACES[0]), imgsz=SIDE)
    assert all(t.equal(before[k]) for k, t in model.module.state_dict().items())
    assert [p.requires_grad for p in model.module.parameters()] == grads
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.module.modules())


def test_random_weights_have_no_earlier_ones():
    seen = MambaYOLO("n", num_classes=1, device="cpu").explain(picture(PLACES[0]), imgsz=SIDE)
    assert seen.fields_before == []
    assert len(seen.boxes) == 1


def test_maps_are_cut_to_a_wide_photograph(model):
    seen = model.explain(picture(PLACES[0])[:32], imgsz=SIDE, stage=1)
    assert seen.activation.shape == (32, SIDE)
    assert seen.responses.shape == (4, 8, 16)


def test_pictures(seen, tmp_path):
    paths = save_explanation(seen, tmp_path)
    assert [p.name for p in paths] == ["receptive_field.png", "directions.png", "activation.png", "overview.png"]
    pictures = [decode_image(path) for path in paths]
    heights, widths, _ = zip(*(p.shape for p in pictures), strict=True)
    assert (heights[3], widths[3]) == (sum(heights[:3]), max(widths[:3]))
    assert all(p.std() > 10 for p in pictures)


def test_targets():
    assert [class_index(t, NAMES) for t in ("red", "1", "blue")] == [0, 1, 1]
    with pytest.raises(ConfigError, match="unknown class 'rad'; did you mean 'red'"):
        class_index("rad", NAMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": 5}, "stage must be between 1 and 4"),
        ({"imgsz": 100}, "multiple of 32"),
        ({"conf": 2}, "conf must be"),
    ],
)
def test_options_outside_their_domain(model, options, message):
    with pytest.raises(ConfigError, match=message):
        model.explain(picture(PLACES[0]), **options)


def test_no_such_photograph(model):
    with pytest.raises(MissingFileError, match="nowhere"):
        model.explain("nowhere.jpg", imgsz=SIDE)
