"""Half precision: what is computed in it, what the scaler does, and that a trained model keeps its figures."""

from __future__ import annotations

import math

import pytest
import torch

from engine import tiny
from engine.test_step import Plain, batches, step, stepper
from mamba_yolo.engine import inference, prepare
from mamba_yolo.engine.callbacks import Callback
from mamba_yolo.engine.checkpoint import load, load_model
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.step import choose_precision
from mamba_yolo.engine.train import train
from mamba_yolo.engine.validate import validate
from mamba_yolo.errors import TrainingError
from mamba_yolo.models import build_detector

CPU, GPU = torch.device("cpu"), torch.device("cuda")
QUIET = Reporter(quiet=True)


@pytest.mark.parametrize(
    ("device", "amp", "amp_dtype", "expected"),
    [
        (CPU, True, "auto", None),
        (CPU, True, "bfloat16", torch.bfloat16),
        (CPU, True, "float16", torch.float16),
        (CPU, False, "bfloat16", None),
        (GPU, True, "auto", "best"),
        (GPU, True, "float16", torch.float16),
        (GPU, False, "auto", None),
    ],
)
@pytest.mark.parametrize("best", [torch.bfloat16, torch.float16])
@pytest.mark.filterwarnings("ignore:torch.cuda.amp.GradScaler is enabled")
def test_type_by_device_and_option(device, amp, amp_dtype, expected, best, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: best is torch.bfloat16)
    chosen = choose_precision(device, amp, amp_dtype)
    assert chosen.autocast is (best if expected == "best" else expected)
    if device is CPU:
        assert chosen.scaler.is_enabled() is (expected is torch.float16)


@pytest.mark.parametrize(("amp_dtype", "rel"), [("bfloat16", 2e-2), ("float16", 3e-3)])
def test_step_is_close_to_that_in_float32(amp_dtype, rel):
    torch.manual_seed(0)
    exact, half = Plain(), Plain()
    half.load_state_dict(exact.state_dict())
    one, other = stepper(exact), stepper(half)
    other.precision = choose_precision(CPU, True, amp_dtype)
    if amp_dtype == "float16":
        other.precision = other.precision._replace(scaler=torch.amp.GradScaler("cpu", init_scale=256.0))
    before = exact.layer.weight.detach().clone()
    step(one, batches(4)[0])
    step(other, batches(4)[0])
    moved, difference = (exact.layer.weight - before).norm(), (half.layer.weight - exact.layer.weight).norm()
    assert 0 < difference < rel * moved
    assert half.layer.weight.dtype == torch.float32


def many_steps(s, count):
    for _ in range(count):
        step(s, batches(4)[0])


class Steep(tiny.TinyLoss):
    """A finite loss whose scaled gradient overflows; infinite at any scale with slope 1e38."""

    slope = 10.0

    def __call__(self, raw, *targets):
        parts = super().__call__(raw, *targets)
        level = raw.levels[0]
        return parts._replace(total=((level - level.detach()) * self.slope).sum())


def test_overflow_skips_the_step_and_halves_the_scale():
    model = Plain()
    s = stepper(model, Steep(2))
    s.precision = choose_precision(CPU, True, "float16")
    before = model.layer.weight.detach().clone()
    scale = s.precision.scaler.get_scale()
    step(s, batches(4)[0])
    assert torch.equal(model.layer.weight, before)
    assert s.precision.scaler.get_scale() == scale / 2
    many_steps(s, 12)
    assert not torch.equal(model.layer.weight, before)


def test_overflow_at_every_scale_is_an_error():
    loss = Steep(2)
    loss.slope = 1e30
    s = stepper(Plain(), loss)
    s.precision = choose_precision(CPU, True, "float16")
    with pytest.raises(TrainingError, match=r"a gradient is not finite .* try amp=False"):
        many_steps(s, 60)


def test_scaler_goes_on_where_it_was(tmp_path, monkeypatch):
    tiny.install(monkeypatch.setattr)
    options = {"amp_dtype": "float16", "epochs": 2}
    straight = train(tiny.tiny_config(tmp_path / "a", **options), model=tiny.tiny_detector(), progress=QUIET)
    with pytest.raises(KeyboardInterrupt):
        train(tiny.tiny_config(tmp_path / "b", **options), model=tiny.tiny_detector(), callbacks=[Stop()])
    resumed = train(tiny.tiny_config(tmp_path / "b", resume=True, **options), progress=QUIET)
    tiny.assert_same_run(straight.run_dir, resumed.run_dir)
    scalers = [load(r.run_dir / "weights/last.safetensors").resume.scaler for r in (straight, resumed)]
    assert scalers[0] == scalers[1]
    assert scalers[0]["_growth_tracker"] + 16 - math.log2(scalers[0]["scale"]) > 1


class Stop(Callback):
    def on_epoch_end(self, epoch, row, metrics):
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`n`, 60 steps on squares of 64 pixels."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        sets = {"train": tiny.TinyDataset(48), "val": tiny.TinyDataset(5, first=100)}
        patch.setattr(prepare, "open_dataset", lambda path, split: sets[split])
        patch.setattr(prepare, "Loader", tiny.TinyLoader)
        config = tiny.tiny_config(tmp_path_factory.mktemp("half"), epochs=10, batch=8, val_period=10, nbs=0)
        result = train(config, model=build_detector("n", 2), progress=QUIET)
    return load_model(result.best).detector


def test_validation_in_bfloat16_gives_the_figures_of_float32(trained, monkeypatch):
    monkeypatch.setattr(inference, "has_bfloat16", lambda device: True)
    # Of 400 pictures the two differ by -0.003 to 0.002, to either side: their mean must be measured.
    loader = tiny.TinyLoader(tiny.TinyDataset(1600, first=200), batch_size=40, train=False)
    exact, half = (validate(trained, loader, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert exact.map50_95 > 0.2
    assert half.map50_95 == pytest.approx(exact.map50_95, abs=0.002)
    assert half.map50_95 != exact.map50_95  # it was another computation
