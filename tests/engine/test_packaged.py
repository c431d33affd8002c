"""The weights inside the package: small, described truthfully, and the model that `predict` takes by itself."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from helpers import ROOT, shared
from mamba_yolo import MambaYOLO
from mamba_yolo.cli.demo import DATA
from mamba_yolo.cli.entry import run
from mamba_yolo.config import PACKAGED_MODEL, TrainConfig
from mamba_yolo.data import open_dataset
from mamba_yolo.engine.checkpoint import load
from mamba_yolo.engine.finetune import starting_model
from mamba_yolo.engine.packaged import BCCD_WEIGHTS, weights_file
from mamba_yolo.engine.progress import Reporter

CELLS = {0: "Platelets", 1: "RBC", 2: "WBC"}


def test_small_half_precision_and_finite():
    assert BCCD_WEIGHTS.stat().st_size <= 4_000_000
    with safe_open(BCCD_WEIGHTS, framework="pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
    assert {t.dtype for t in tensors} == {torch.float16, torch.int64}
    assert all(torch.isfinite(t).all() for t in tensors)


def test_the_card_is_in_the_file_and_in_the_docs():
    stored = load(BCCD_WEIGHTS)
    assert stored.card == (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8")
    assert stored.license == "Apache-2.0"
    assert "MIT" in stored.training_set
    assert stored.names == CELLS
    assert stored.resume is None
    assert f"{stored.figures['map50']:.3f} | {stored.figures['map50_95']:.3f} |" in stored.card


def test_names_stand_for_files():
    assert weights_file(PACKAGED_MODEL) == BCCD_WEIGHTS
    assert weights_file("my/best.safetensors").name == "best.safetensors"
    assert weights_file("mamba-yolo-n") is None
    model = MambaYOLO(PACKAGED_MODEL)
    assert model.names == CELLS
    assert model.imgsz == load(BCCD_WEIGHTS).imgsz
    assert all(p.dtype == torch.float32 for p in model.module.parameters())


def test_finds_most_white_cells_it_has_not_been_trained_on():
    dataset = open_dataset(DATA, "val")
    (white,) = (number for number, name in dataset.names.items() if name == CELLS[2])  # numbered otherwise there
    found = MambaYOLO(PACKAGED_MODEL).predict([s.path for s in dataset], conf=0.3)
    marked = sum(int((s.classes == white).sum()) for s in dataset)
    seen = sum(
        bool(len(boxes)) and bool((_ious(box, boxes) > 0.5).any())
        for sample, result in zip(dataset, found, strict=True)
        for box in sample.boxes_xyxy[sample.classes == white]
        for boxes in [result.boxes.xyxy[result.boxes.cls == 2].numpy()]
    )
    assert marked >= 10
    assert seen >= 0.8 * marked


def _ious(box, boxes):
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    return common / (np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - common)


def test_predict_without_a_model_uses_it_at_its_own_size(capsys, tmp_path):
    picture = sorted((DATA.parent / "images" / "val").iterdir())[0]
    assert run(["predict", str(picture), f"project={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert f"{PACKAGED_MODEL} knows Platelets, RBC, WBC alone" in out
    assert not out.splitlines()[-3].startswith("0 objects")
    with Image.open(tmp_path / "predict" / f"{picture.stem}.jpg") as drawn, Image.open(picture) as original:
        assert drawn.size == original.size
    model = MambaYOLO(PACKAGED_MODEL)
    by_default, at_its_size = (model.predict(picture, **o)[0].boxes.data for o in ({}, {"imgsz": model.imgsz}))
    assert torch.equal(by_default, at_its_size)


def test_training_can_start_from_it():
    names = {0: "platelets", 1: "yeast"}
    detector = starting_model(TrainConfig(model=PACKAGED_MODEL), None, None, names, Reporter(quiet=True))
    own, stored = detector.state_dict(), load(BCCD_WEIGHTS).weights
    key = "head.class_branches.0.2.weight"
    assert torch.equal(own[key][0], stored[key][0].float())


@pytest.mark.e2e
def test_gives_the_figures_of_its_card():
    metrics = MambaYOLO(PACKAGED_MODEL).val(data=str(shared("data/bccd")), split="test")
    for name, value in load(BCCD_WEIGHTS).figures.items():
        assert metrics.figures()[name] == pytest.approx(value, abs=2e-3), name
