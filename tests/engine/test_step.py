"""One step: accumulation, clipping, precision, and what happens when numbers go wrong."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from engine import tiny
from mamba_yolo.config import DetectorConfig, TrainConfig
from mamba_yolo.engine.ema import Ema
from mamba_yolo.engine.norms import NormMomentum
from mamba_yolo.engine.optim import build_optimizer, make_plan
from mamba_yolo.engine.schedule import Rates
from mamba_yolo.engine.step import Stepper, choose_precision, network_input
from mamba_yolo.errors import TrainingError
from mamba_yolo.types import Batch, RawDetections

CPU = torch.device("cpu")


class Plain(nn.Module):
    """A detector without batch norm: the gradient of a batch is the sum over its images."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 66, 8, 8)

    def forward(self, images):
        return RawDetections([self.layer(images)])


def stepper(model, loss=None, clip=10.0, kind="sgd"):
    plan = make_plan(TrainConfig(optimizer=kind, nbs=1, batch=1), 10)
    precision = choose_precision(CPU, True)
    loss = loss or tiny.TinyLoss(2)
    return Stepper(
        model,
        loss,
        build_optimizer(model, plan),
        Ema(model, 0.9, 1.0),
        NormMomentum(model, short_run=True),
        precision,
        CPU,
        clip,
    )


def batches(size):
    return list(tiny.TinyLoader(tiny.TinyDataset(8), batch_size=size, train=False).epoch(0))


def step(s, batch, accumulate=1, last=False, lr=0.01):
    rates = Rates(lr=lr, bias_lr=lr, momentum=0.9, accumulate=accumulate)
    return s(batch, rates, last=last, files=lambda: [f"{i}.png" for i in batch.sample_index.tolist()])


def test_two_batches_of_two_are_one_of_four():
    torch.manual_seed(0)
    whole, halves = Plain(), None
    halves = copy.deepcopy(whole)
    one, two = stepper(whole), stepper(halves)
    step(one, batches(4)[0])
    for batch in batches(2)[:2]:
        step(two, batch, accumulate=2)
    torch.testing.assert_close(whole.layer.weight, halves.layer.weight, rtol=1e-6, atol=1e-7)
    assert (one.ema.updates, two.ema.updates) == (1, 1)


def test_nothing_moves_until_enough_batches_wait():
    model = Plain()
    before = model.layer.weight.detach().clone()
    s = stepper(model)
    step(s, batches(2)[0], accumulate=2)
    assert torch.equal(model.layer.weight, before)
    assert (s.waiting, s.ema.updates) == (1, 0)
    step(s, batches(2)[1], accumulate=2)
    assert not torch.equal(model.layer.weight, before)
    assert s.waiting == 0


def test_last_batch_of_an_epoch_always_steps():
    s = stepper(Plain())
    step(s, batches(2)[0], accumulate=4, last=True)
    assert (s.waiting, s.ema.updates, s.step) == (0, 1, 1)


@pytest.mark.parametrize("clip", [1e-3, 1e6])
def test_clip_bounds_the_gradient(clip):
    torch.manual_seed(0)
    model = Plain()
    s = stepper(model, clip=clip)
    model.layer.weight.grad = None
    before = [p.detach().clone() for p in model.parameters()]
    for group in s.optimizer.param_groups:
        group["weight_decay"] = 0.0
        group["nesterov"] = False
    s(batches(4)[0], Rates(1.0, 1.0, 0.0, 1), last=False, files=list)
    moved = torch.cat([(p - b).flatten() for p, b in zip(model.parameters(), before, strict=True)]).norm().item()
    assert moved == pytest.approx(clip, rel=1e-3) if clip < 1 else 0.01 < moved < clip


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_loss_changes_nothing_and_names_the_files(bad):
    class Bad(tiny.TinyLoss):
        def __call__(self, *args):
            parts = super().__call__(*args)
            return parts._replace(total=parts.total * bad)

    model = Plain()
    before = model.layer.weight.detach().clone()
    with pytest.raises(
        TrainingError, match=r"step 1: the loss is not finite \(lr 0\.01\); images of the batch: 0\.png, 1\.png\."
    ):
        step(stepper(model, Bad(2)), batches(2)[0])
    assert torch.equal(model.layer.weight, before)


def test_bad_gradient_changes_nothing():
    class Root(tiny.TinyLoss):  # value 0, slope infinite
        def __call__(self, raw, *targets):
            parts = super().__call__(raw, *targets)
            return parts._replace(total=(raw.levels[0] * 0).sum().sqrt())

    model = Plain()
    before = model.layer.weight.detach().clone()
    with pytest.raises(TrainingError, match="a gradient is not finite"):
        step(stepper(model, Root(2)), batches(2)[0])
    assert torch.equal(model.layer.weight, before)


def test_many_files_are_counted():
    s = stepper(Plain())
    text = s._explain("x", [f"{i}.png" for i in range(20)])
    assert "15.png and 4 more" in text


def test_network_input_is_channels_last_floats_in_0_to_1():
    x = network_input(torch.tensor([[[[0, 255]], [[51, 102]], [[1, 2]]]], dtype=torch.uint8), CPU)
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x[0, :, 0], torch.tensor([[0, 1], [0.2, 0.4], [1 / 255, 2 / 255]]))


def test_cpu_stays_in_float32():
    precision = choose_precision(CPU, True)
    assert precision.autocast is None
    assert not precision.scaler.is_enabled()


def test_batch_without_boxes_trains():
    batch = batches(2)[0]
    empty = Batch(batch.images, torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).long(), batch.sample_index,
                  batch.letterbox)  # fmt: skip
    losses = step(stepper(tiny.TinyDetector(DetectorConfig(num_classes=2))), empty)
    assert losses.cls > 0
