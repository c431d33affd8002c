"""Class outputs go to the classes of the same name, in whatever order; others start at random."""

from __future__ import annotations

import pytest
import torch

from mamba_yolo.config import TrainConfig
from mamba_yolo.engine.checkpoint import Checkpoint, fit_classes, save
from mamba_yolo.engine.finetune import CLASS_OUTPUTS, starting_model
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.models import build_detector

OLD = {0: "cat", 1: "dog", 2: "Horse"}


@pytest.fixture
def trained():
    """A detector whose class outputs of row r are r + 1."""
    torch.manual_seed(0)
    detector = build_detector("n", 3).eval()
    with torch.no_grad():
        for key, value in detector.state_dict().items():
            if CLASS_OUTPUTS.fullmatch(key):
                value.copy_(torch.arange(1.0, 4.0).reshape(-1, *[1] * (value.ndim - 1)).expand_as(value))
    return detector


def outputs(detector):
    return [v for k, v in detector.state_dict().items() if CLASS_OUTPUTS.fullmatch(k)]


@pytest.mark.parametrize("from_file", [True, False])
@pytest.mark.parametrize("names", [["horse", "cat"], ["dog", "zebra", "cat"], ["x", "horse", "dog", "cat"]])
def test_rows_follow_the_names(tmp_path, trained, names, from_file, capsys):
    data_names, path = dict(enumerate(names)), tmp_path / "old.safetensors"
    save(path, Checkpoint(trained.config, OLD, trained.state_dict()))
    options = (TrainConfig(model=str(path)), None, None) if from_file else (TrainConfig(), trained, OLD)
    detector = starting_model(*options, data_names, Reporter())
    for value in outputs(detector):
        for row, name in data_names.items():
            known = [n for n, old in OLD.items() if old.casefold() == name]
            same = (
                bool((value[row] == known[0] + 1).all())
                if known
                else bool(torch.isin(value[row], torch.arange(1, 4)).any())
            )
            assert same == bool(known), name
    taken = [n for n in names if n in ("cat", "dog", "horse")]
    assert f"by name: {', '.join(taken)}" in capsys.readouterr().err
    stem = (
        "backbone.stem.0.weight"
        if "backbone.stem.0.weight" in trained.state_dict()
        else next(iter(trained.state_dict()))
    )
    assert torch.equal(detector.state_dict()[stem], trained.state_dict()[stem])


def test_same_names_take_everything_in_silence(trained, capsys):
    detector = starting_model(TrainConfig(), trained, OLD, OLD, Reporter())
    assert all(torch.equal(a, b) for a, b in zip(outputs(detector), outputs(trained), strict=True))
    assert capsys.readouterr().err == ""


def test_branches_of_another_width_start_at_random(capsys):
    wide = build_detector("n", 80).eval()  # 80 hidden channels instead of 32
    detector = starting_model(TrainConfig(), wide, {i: f"c{i}" for i in range(80)}, {0: "c7"}, Reporter())
    assert detector.config.num_classes == 1
    said = capsys.readouterr().err
    assert "start at random" in said
    assert "by name" not in said


@pytest.mark.parametrize("initialization", ["release", "mamba"])
def test_preset_starts_as_the_option_says(initialization):
    config = TrainConfig(model="n", initialization=initialization)
    detector = starting_model(config, None, None, OLD, Reporter(quiet=True))
    assert detector.config.initialization == initialization
    A_logs = next(v for k, v in detector.state_dict().items() if k.endswith("A_logs"))
    expected = torch.arange(1.0, 17.0).log() if initialization == "mamba" else torch.zeros(16)
    torch.testing.assert_close(A_logs[0], expected)
    again, _ = fit_classes(detector.config, detector.state_dict(), 3, "x")  # as a resume builds it
    assert again.config == detector.config
