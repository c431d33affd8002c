"""Options of a run, each seen to do what it says."""

from __future__ import annotations

import math

import pytest
import torch

from engine import tiny
from mamba_yolo.config import AugmentConfig, TrainConfig
from mamba_yolo.engine import checkpoint
from mamba_yolo.engine import train as train_module
from mamba_yolo.engine.optim import make_plan
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.train import train
from mamba_yolo.errors import ConfigError
from mamba_yolo.losses.detection import DetectionLoss, rarity_weights
from mamba_yolo.types import RawDetections

QUIET = Reporter(quiet=True)


@pytest.fixture
def _stand_ins(monkeypatch):
    tiny.install(monkeypatch.setattr)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"batch": 0}, "batch must be between 1 and"),
        ({"batch": -2}, "batch must be between 1 and"),
        ({"freeze": 11}, "freeze must be between 0 and 10, got 11"),
        ({"time": -1.0}, "time must be between 0 and"),
        ({"save_period": -1}, "save_period must be between 0"),
        ({"class_weights": 2.0}, "class_weights must be between 0 and 1"),
        ({"amp_dtype": "int8"}, "amp_dtype must be one of auto, bfloat16, float16"),
        ({"initialization": "zeros"}, "initialization must be one of release, mamba"),
    ],
)
def test_domains(option, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**option)


@pytest.mark.usefixtures("_stand_ins")
def test_time_ends_the_run_after_an_epoch_and_the_run_goes_on(tmp_path, capsys, monkeypatch):
    real = train_module._run_epoch

    def half_an_hour(training, epoch):
        real(training, epoch)
        training.seconds = 1800.0 * (epoch + 1)

    monkeypatch.setattr(train_module, "_run_epoch", half_an_hour)
    result = train(tiny.tiny_config(tmp_path, time=1.0), model=tiny.tiny_detector())
    assert result.epochs == 2
    assert "1 hours are over: stopped after epoch 2" in capsys.readouterr().err
    assert train(tiny.tiny_config(tmp_path, resume=True), progress=QUIET).epochs == 4


@pytest.mark.usefixtures("_stand_ins")
def test_save_period_keeps_weights_of_its_epochs(tmp_path):
    folder = train(tiny.tiny_config(tmp_path, save_period=2), model=tiny.tiny_detector(), progress=QUIET).run_dir
    names = {path.name for path in (folder / "weights").iterdir()}
    assert names == {"best.safetensors", "last.safetensors", "epoch2.safetensors", "epoch4.safetensors"}
    fourth, last = (checkpoint.load(folder / f"weights/{n}.safetensors") for n in ("epoch4", "last"))
    assert fourth.resume is None
    assert all(torch.equal(fourth.weights[k], last.weights[k]) for k in last.weights)


def test_cosine_and_line():
    line, cosine = (make_plan(TrainConfig(epochs=10, cos_lr=cos, lrf=0.1), 100).schedule for cos in (False, True))
    assert [line.factor(e) for e in (0, 5)] == pytest.approx([1, 0.55])
    assert [cosine.factor(e) for e in (0, 5, 10)] == pytest.approx([1, 0.55, 0.1])
    assert cosine.factor(1) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 10)) / 2)


@pytest.mark.parametrize(
    ("power", "expected"), [(0.0, [1, 1, 1]), (1.0, [0.625, 2.5, 1]), (0.5, [10 / 12, 20 / 12, 1])]
)
def test_rare_classes_weigh_more_and_the_mean_box_weighs_one(power, expected):
    torch.testing.assert_close(
        rarity_weights(torch.tensor([8, 2, 0]), power), torch.tensor(expected, dtype=torch.float32)
    )


def test_class_weights_scale_the_class_loss_alone():
    torch.manual_seed(0)
    raw = RawDetections([torch.randn(2, 66, side, side) for side in (8, 4, 2)])
    targets = (torch.tensor([[0.5, 0.5, 0.4, 0.4]]), torch.tensor([1]), torch.tensor([0]))
    plain = DetectionLoss(2)(raw, *targets)
    double = DetectionLoss(2, class_weights=torch.tensor([2.0, 2.0]))(raw, *targets)
    assert double.cls == pytest.approx(2 * float(plain.cls))
    assert (double.box, double.dfl) == (plain.box, plain.dfl)
    first, second = (DetectionLoss(2, class_weights=torch.eye(2)[i])(raw, *targets).cls for i in range(2))
    assert float(first + second) == pytest.approx(float(plain.cls))


@pytest.mark.usefixtures("_stand_ins")
@pytest.mark.parametrize("power", [0.0, 1.0])
def test_class_weights_are_off_unless_asked_for(tmp_path, monkeypatch, power):
    given = []

    class Loss(tiny.TinyLoss):
        def __init__(self, *args):
            super().__init__(*args)
            given.append(args[-1])

    monkeypatch.setattr("mamba_yolo.engine.prepare.DetectionLoss", Loss)
    train(tiny.tiny_config(tmp_path, epochs=1, class_weights=power), model=tiny.tiny_detector(), progress=QUIET)
    assert (given == [None]) == (power == 0)
    assert TrainConfig().class_weights == 0


@pytest.mark.usefixtures("_stand_ins")
def test_multi_scale_reaches_the_loader_of_training_only(tmp_path, monkeypatch):
    seen = []

    class Loader(tiny.TinyLoader):
        def __init__(self, *args, augment=None, **options):
            super().__init__(*args, **options)
            seen.append(augment and augment.multi_scale)

    monkeypatch.setattr("mamba_yolo.engine.prepare.Loader", Loader)
    config = tiny.tiny_config(tmp_path, epochs=1, augment=AugmentConfig(multi_scale=True))
    train(config, model=tiny.tiny_detector(), progress=QUIET)
    assert seen == [True, None]


@pytest.mark.usefixtures("_stand_ins")
def test_chosen_batch_is_that_of_the_run(tmp_path):
    result = train(tiny.tiny_config(tmp_path, batch=-1, epochs=1), model=tiny.tiny_detector(), progress=QUIET)
    assert "batch: 8\n" in (result.run_dir / "args.yaml").read_text()
