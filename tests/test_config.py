"""Options: domains, unknown names, nesting, types."""

import pytest

from mamba_yolo.checks import check_given, unknown_name
from mamba_yolo.config import AugmentConfig, DetectorConfig, PredictConfig, TrainConfig, ValConfig, from_flat, to_dict
from mamba_yolo.errors import ConfigError


def test_flat_names_reach_nested_options():
    config = from_flat(TrainConfig, {"epochs": 3, "mosaic": 0.5, "augment": {"fliplr": 0.0}})
    assert (config.epochs, config.augment.mosaic, config.augment.fliplr) == (3, 0.5, 0.0)


@pytest.mark.parametrize("cls", [TrainConfig, ValConfig, PredictConfig, DetectorConfig, AugmentConfig])
def test_defaults_are_valid_and_survive_a_round_trip(cls):
    assert from_flat(cls, to_dict(cls())) == cls()


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (TrainConfig, {"epoch": 3}, "unknown option 'epoch'; did you mean 'epochs'"),
        (TrainConfig, {"mosiac": 0}, "did you mean 'mosaic'"),
        (TrainConfig, {"xyzzy": 0}, "known: .*epochs"),
        (TrainConfig, {"epochs": "3"}, "epochs must be of type int, got '3'"),
        (TrainConfig, {"epochs": True}, "epochs must be of type int, got True"),
        (TrainConfig, {"epochs": 0}, "epochs must be between 1 and"),
        (TrainConfig, {"imgsz": 300}, "imgsz must be a positive multiple of 32, got 300; try 288"),
        (TrainConfig, {"lr0": float("nan")}, "lr0 must be between .* got nan"),
        (TrainConfig, {"optimizer": "lion"}, "optimizer must be one of auto, sgd, adamw, muon, got 'lion'"),
        (TrainConfig, {"mosaic": 1.5}, "mosaic must be between 0 and 1, got 1.5"),
        (ValConfig, {"conf": -0.1}, "conf must be between 0 and 1"),
        (PredictConfig, {"classes": (-1,)}, "classes must be between 0 and"),
        (DetectorConfig, {"task": "pose"}, "task must be one of detect, segment"),
        (DetectorConfig, {"num_classes": 0}, "num_classes must be between 1 and"),
        (DetectorConfig, {"stage_depths": (3, 3, 0, 3)}, "stage_depths must be four positive numbers"),
    ],
)
def test_what_is_wrong_is_said(cls, values, message):
    with pytest.raises(ConfigError, match=message):
        from_flat(cls, values)


def test_missing_and_unknown_options_name_the_way_out():
    with pytest.raises(ConfigError, match=r"data is missing; give it as data=\.\.\. \(or --data"):
        check_given("data", "")
    assert unknown_name("modle", ["model", "epochs"]) == "unknown option 'modle'; did you mean 'model'?"
