"""MambaYOLO hands over to the right room with the right values; the rooms have their own tests."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mamba_yolo import MambaYOLO, MambaYoloError, api
from mamba_yolo.config import TrainConfig
from mamba_yolo.engine.checkpoint import Checkpoint, save
from mamba_yolo.errors import ConfigError, MissingFileError, NotYetError
from mamba_yolo.models import build_detector

IMAGE = np.zeros((40, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    return MambaYOLO("n", num_classes=2, device="cpu")


@pytest.fixture
def weights(tmp_path):
    detector = build_detector("n", 3)
    save(tmp_path / "best.safetensors", Checkpoint(detector.config, {0: "a", 1: "b", 2: "c"}, detector.state_dict()))
    return tmp_path / "best.safetensors"


def test_a_preset(model):
    assert model.task == "detect"
    assert sorted(model.names) == [0, 1]
    assert next(model.module.parameters()).device.type == "cpu"
    assert "2 classes" in repr(model)


def test_a_seed_gives_the_same_preset_and_leaves_torch_as_it_is():
    state = torch.get_rng_state()
    first, again, other = (next(MambaYOLO("n", seed=seed).module.parameters()) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_file_brings_its_names(weights):
    assert MambaYOLO(weights).names == {0: "a", 1: "b", 2: "c"}


@pytest.mark.parametrize("name", ["mamba-yolo-x", "gone.safetensors"])
def test_what_is_not_there_is_an_error(name):
    with pytest.raises(MambaYoloError, match=name.split(".")[0]):
        MambaYOLO(name)


def test_predict_gives_a_list_or_a_stream(model):
    results = model.predict([IMAGE, IMAGE], conf=0.0, imgsz=64, max_det=3)
    assert [len(r) for r in results] == [3, 3]
    assert results[0].names == model.names
    stream = model.predict([IMAGE, IMAGE], conf=0.0, imgsz=64, max_det=3, stream=True)
    assert inspect.isgenerator(stream)
    assert len(list(stream)) == 2
    assert len(model(IMAGE, imgsz=64, classes=0)) == 1


def test_predict_writes_only_when_asked(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.predict(IMAGE, imgsz=64)
    assert list(tmp_path.iterdir()) == []
    model.predict(IMAGE, imgsz=64, save=True, project="r", classes=[0])
    assert (tmp_path / "r" / "predict" / "image0.jpg").is_file()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"confidence": 0.5}, "unknown option 'confidence'; did you mean 'conf'"),
        ({"conf": 2}, "conf must be between 0 and 1"),
        ({"imgsz": 100}, "multiple of 32"),
        ({"conf": "high"}, "conf must be of type float"),
        ({"classes": [-1]}, "classes must be between"),
    ],
)
def test_predict_checks_its_options(model, options, match):
    with pytest.raises(ConfigError, match=match):
        model.predict(IMAGE, **options)


def test_predict_checks_its_source_at_once(model):
    with pytest.raises(MissingFileError, match="gone"):
        model.predict("gone.jpg", stream=True)


def test_train_hands_over_and_holds_the_best_weights(monkeypatch, weights):
    model = MambaYOLO("n", num_classes=2, device="cpu")
    seen = {}

    def train(config, **given):
        seen.update(given, config=config)
        return SimpleNamespace(run_dir=weights.parent, best=weights, best_metrics="figures")

    monkeypatch.setattr(api, "train", train)
    before = model.module
    assert model.train(data="d.yaml", epochs=3, mosaic=0.5, seed=1, hook=print) == "figures"
    assert seen["hook"] is print
    assert seen["model"] is before
    assert isinstance(seen["config"], TrainConfig)
    assert (seen["config"].epochs, seen["config"].augment.mosaic, seen["config"].device) == (3, 0.5, "cpu")
    assert model.names == {0: "a", 1: "b", 2: "c"}
    assert model.module.config.num_classes == 3


def test_train_and_val_need_data(model):
    for verb in (model.train, model.val):
        with pytest.raises(ConfigError, match="data is missing"):
            verb()
        with pytest.raises(ConfigError, match="unknown option 'dat'; did you mean 'data'"):
            verb(dat="d.yaml")


def test_val_hands_over(monkeypatch, model):
    monkeypatch.setattr(api, "open_dataset", lambda data, split: SimpleNamespace(names={0: "a"}, asked=(data, split)))
    monkeypatch.setattr(api, "Loader", lambda *args, **options: (args, options))
    monkeypatch.setattr(api, "validate", lambda detector, loader, **options: (loader, options))
    ((dataset, *shape), loading), options = model.val(
        data="d.yaml", split="test", conf=0.1, imgsz=64, cache="ram", rect=True
    )
    assert dataset.asked == ("d.yaml", "test")
    assert shape == [64, 16]
    assert loading == {"train": False, "threads": 0, "cache": "ram", "rect": True, "pin_memory": False, "masks": False}
    assert (options["conf"], options["max_det"]) == (0.1, 300)


def test_export_is_reserved(model):
    with pytest.raises(NotYetError, match="not in this version"):
        model.export(format="onnx")


def test_train_takes_callbacks_as_objects_and_names(monkeypatch, model):
    from mamba_yolo.engine.callbacks import Callback

    seen = {}

    def train(config, **given):
        seen.update(given, config=config)
        raise ConfigError("far enough")

    monkeypatch.setattr(api, "train", train)
    mine = Callback()
    with pytest.raises(ConfigError, match="far enough"):
        model.train(data="d.yaml", callbacks=[mine, "wandb"])
    assert seen["callbacks"] == [mine]
    assert seen["config"].callbacks == ("wandb",)
