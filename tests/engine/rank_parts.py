"""Checks that need two processes: run by torchrun from test_ranks.py; a failed assertion ends the process with 1."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from engine import tiny
from mamba_yolo.engine import validate as validate_module
from mamba_yolo.engine.masks import masks_of_all
from mamba_yolo.engine.ranks import join
from mamba_yolo.engine.step import Stepper, choose_precision
from mamba_yolo.engine.syncnorm import blank_forward, synchronise_norms
from mamba_yolo.engine.validate import validate
from mamba_yolo.losses import DetectionLoss, loss_of
from mamba_yolo.ops import encode_rle
from mamba_yolo.types import Batch, RawDetections

CPU = torch.device("cpu")


def check_exchange(ranks):
    assert ranks.total(torch.tensor([1.0, ranks.rank])).tolist() == [2, 1]
    assert ranks.mean(3.0 * ranks.rank) == 1.5
    assert ranks.same_text("runs/tränen" if ranks.is_first else "other") == "runs/tränen"
    assert ranks.same_text("" if ranks.is_first else "other") == ""
    rows = [torch.full((2, 3), 7.0, dtype=torch.float64), torch.zeros(0, 3, dtype=torch.float64)]
    for shape in (rows, rows[::-1], [rows[1], rows[1]]):
        assert all(map(torch.equal, ranks.gather(shape[ranks.rank]), shape))
    layer = nn.BatchNorm1d(3)
    layer.running_mean += ranks.rank
    ranks.average_statistics(layer)
    assert layer.running_mean.tolist() == [0.5] * 3
    layer.weight.data += ranks.rank
    ranks.same_weights(layer)
    assert layer.weight.tolist() == [1.0] * 3


def check_norms(ranks):
    """Outputs, gradients and running statistics of uneven shares are those of the whole batch."""
    torch.manual_seed(0)
    whole = (torch.randn(5, 4, 3, 3) * 0.1 + 100).requires_grad_()  # a mean that swallows squares in float32
    plain, target = nn.BatchNorm2d(4, momentum=0.3), torch.randn(5, 4, 3, 3)
    (plain(whole) * target).sum().backward()
    part = slice(0, 3) if ranks.is_first else slice(3, 5)
    mine = whole.detach()[part].requires_grad_()
    synced = nn.Sequential(nn.BatchNorm2d(4, momentum=0.3))
    synchronise_norms(synced, ranks)
    y = synced(mine)
    (y * target[part]).sum().backward()
    ranks.add_gradients(synced)
    torch.testing.assert_close(mine.grad, whole.grad[part], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(synced[0].weight.grad, plain.weight.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(synced[0].running_var, plain.running_var, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(synced[0].running_mean, plain.running_mean)
    assert synced.state_dict().keys() == {f"0.{k}" for k in plain.state_dict()}


def check_blank_share(ranks):
    """A rank without images answers the norms and changes nothing."""
    torch.manual_seed(0)
    network = tiny.tiny_detector()
    alone = tiny.tiny_detector()
    alone.stem[3].p = network.stem[3].p = 0.0
    synchronise_norms(network, ranks)
    images = torch.rand(2, 3, 64, 64)
    expected = sum(level.square().sum() for level in alone(images).levels)
    expected.backward()
    if ranks.is_first:
        sum(level.square().sum() for level in network(images).levels).backward()
    else:
        blank_forward(network, CPU).backward()
    ranks.add_gradients(network)
    for a, b in zip(network.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.stem[1].running_var, alone.stem[1].running_var)


class Levels(nn.Module):
    """A network whose levels are its parameters, times the mean of each image."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.maps = nn.ParameterList([torch.randn(1, 64 + 2, s, s) * 0.5 for s in (8, 4, 2)])

    def forward(self, images):
        return RawDetections([m * images.mean((1, 2, 3), keepdim=True) for m in self.maps])


class MaskLevels(Levels):
    """The same with coefficients and prototypes."""

    def __init__(self):
        super().__init__()
        self.coefs, self.protos = nn.Parameter(torch.randn(1, 32, 84)), nn.Parameter(torch.randn(1, 32, 16, 16))

    def forward(self, images):
        level = images.mean((1, 2, 3), keepdim=True)
        coefs = self.coefs * level[..., 0]
        return super().forward(images)._replace(mask_coefs=coefs, protos=self.protos.expand(len(images), -1, -1, -1))


class Watched:
    """Stands for the average, and keeps the gradients it was called with."""

    def update(self, model):
        self.seen = [p.grad for p in model.parameters()]


def step(ranks, images, targets, masks=None):
    """One step on a batch of images and (image, class, box) targets; its losses and gradients."""
    network, average = Levels() if masks is None else MaskLevels(), Watched()
    loss = loss_of("detect" if masks is None else "segment", DetectionLoss(2))
    optimizer = torch.optim.SGD([{"params": network.parameters(), "name": "weights"}], lr=0.0)
    optimizer.zero_grad = lambda set_to_none: None
    stepper = Stepper(
        network, loss, optimizer, average, type("Norms", (), {"next_batch": lambda _: None})(),
        choose_precision(CPU, False), CPU, clip=1e12, ranks=ranks,
    )  # fmt: skip
    rates = type("Rates", (), {"lr": 0.0, "bias_lr": 0.0, "momentum": 0.0, "accumulate": 1})()
    if not len(images):
        return stepper.idle(rates), average.seen
    owners, classes, boxes = (torch.tensor([t[i] for t in targets]) for i in range(3))
    batch = Batch(
        images, boxes.float().reshape(-1, 4), classes.long(), owners.long(),
        torch.arange(len(images)), torch.zeros(len(images), 3), masks,
    )  # fmt: skip
    return stepper(batch, rates, last=True, files=list), average.seen


def check_step(ranks):
    """Losses and summed gradients of uneven shares, of one without boxes and of none are those of the whole batch."""
    from mamba_yolo.engine.ranks import ALONE

    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64)).astype(np.uint8))
    targets = [(0, 1, [0.4, 0.4, 0.5, 0.5]), (0, 0, [0.7, 0.7, 0.3, 0.4]), (1, 0, [0.5, 0.3, 0.6, 0.3])]
    masks = (torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.5).to(torch.uint8)
    # images of rank 0: (1, 2), (2, without boxes), (3, none)
    for first, all_masks in itertools.product((1, 2, 3), (None, masks)):
        mine = slice(0, first) if ranks.is_first else slice(first, 3)
        kept = [mine.start <= o < mine.stop for o, _, _ in targets]
        share = [(o - mine.start, c, b) for (o, c, b), k in zip(targets, kept, strict=True) if k]
        expected, gradients = step(ALONE, images, targets, all_masks)
        losses, summed = step(ranks, images[mine], share, None if all_masks is None else all_masks[kept])
        assert (losses.seg > 0) == (all_masks is not None)
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        for a, b in zip(summed, gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def check_masks(ranks):
    """Masks of detections reach every rank, also of images without any."""
    whole = {i: [encode_rle(torch.ones(4 + i, 5) * (k % 2)) for k in range(i % 3)] for i in range(5)}
    for own in ((0, 2, 4), (), (0, 1, 2, 3, 4)):  # of rank 0
        mine = {i: rles for i, rles in whole.items() if (i in own) == ranks.is_first}
        assert masks_of_all(mine, ranks) == whole


def check_validation(ranks):
    """Every figure of sharded validation is that of one process; detections are drawn by image."""

    def drawn(raw, batch, dataset, **options):
        return [detections(int(i), dataset) for i in batch.sample_index]

    validate_module._detect = drawn
    data = tiny.TinyDataset(7)
    for batch_size in (1, 2, 7):  # 7: the second rank has none
        whole, share = (
            tiny.TinyLoader(data, batch_size=batch_size, train=False, rank=r, world_size=n)
            for r, n in ((0, 1), (ranks.rank, 2))
        )
        expected = validate(tiny.tiny_detector(), whole)
        found = validate(tiny.tiny_detector(), share, ranks=ranks)
        assert found == expected
        assert (found.confusion == expected.confusion).all()
        assert all(map(np.array_equal, found.curves, expected.curves))
        assert found.map50 > 0.2
    double = tiny.TinyLoader(data, batch_size=2, train=False)
    share = tiny.TinyLoader(data, batch_size=1, train=False, rank=ranks.rank, world_size=2)
    options = {"criterion": tiny.TinyLoss(2), "per_image": True}
    expected = validate(tiny.tiny_detector().eval(), double, **options)
    found = validate(tiny.tiny_detector().eval(), share, ranks=ranks, **options)
    np.testing.assert_allclose(list(found.losses.values()), list(expected.losses.values()), rtol=1e-5)
    alone = [[v.loss for v in m.verdicts] for m in (found, expected)]
    np.testing.assert_allclose(*alone, rtol=1e-5)
    assert len(set(alone[0])) == len(data)


def detections(i, dataset):
    """None to three rows, some on the object."""
    rng = np.random.default_rng(i)
    boxes = np.concatenate([dataset[i].boxes_xyxy, rng.uniform(0, 64, (i % 3, 4)).astype(np.float32)])
    rows = np.concatenate([boxes, rng.uniform(size=(len(boxes), 1)), np.zeros((len(boxes), 1))], axis=1)
    rows[: len(dataset[i].classes), 5] = dataset[i].classes
    return torch.from_numpy(rows.astype(np.float32))


def check_threads_have_ended():
    """Threads of a closed group that still free tensors while Python ends would abort the process."""
    tasks = Path("/proc/self/task")  # elsewhere than on Linux there is nothing to see
    names = [(task / "comm").read_text() for task in tasks.iterdir()] if tasks.exists() else []
    assert not [n for n in names if "gloo" in n]


if __name__ == "__main__":
    with join("cpu") as group:
        for check in (check_exchange, check_norms, check_blank_share, check_step, check_masks, check_validation):
            check(group)
    check_threads_have_ended()
    sys.stdout.write(f"done {group.rank}\n")
