"""Memory that runs out: the batch is computed in pieces, and the weights are those of the whole batch."""

from __future__ import annotations

import pytest
import torch

from engine import tiny
from engine.test_step import Plain, batches, step, stepper
from mamba_yolo.engine import checkpoint
from mamba_yolo.engine.callbacks import Callback
from mamba_yolo.engine.pieces import is_out_of_memory, split
from mamba_yolo.engine.ranks import Ranks
from mamba_yolo.engine.train import train
from mamba_yolo.errors import TrainingError

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError(),
]


class Tight(Plain):
    """Memory for so many images at most; the error comes in the forward or in the backward pass."""

    def __init__(self, room, error, backward=False):
        super().__init__()
        self.room, self.error, self.backward, self.sizes = room, error, backward, []

    def forward(self, images):
        self.sizes.append(len(images))
        raw = super().forward(images)
        if len(images) > self.room and not self.backward:
            raise self.error
        if len(images) > self.room:
            raw.levels[0].register_hook(self.fail)
        return raw

    def fail(self, _):
        raise self.error


def same_start(*models):
    for model in models:
        model.load_state_dict(models[0].state_dict())


def test_split_keeps_every_image_and_box():
    (batch,) = batches(8)
    pieces = split(batch, 3)
    assert [len(p.images) for p in pieces] == [3, 2, 3]
    assert torch.equal(torch.cat([p.images for p in pieces]), batch.images)
    assert torch.equal(torch.cat([p.boxes_cxcywh_norm for p in pieces]), batch.boxes_cxcywh_norm)
    owners = [p.sample_index[p.batch_index] for p in pieces]
    assert torch.equal(torch.cat(owners), batch.sample_index[batch.batch_index])
    assert len(split(batch, 99)) == 8


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_weights_are_those_of_the_whole_batch(error, backward):
    roomy, tight = Plain(), Tight(2, error, backward)
    same_start(roomy, tight)
    said = []
    one, other = stepper(roomy), stepper(tight)
    other.say = said.append
    for batch in batches(8) * 2:
        expected, got = step(one, batch), step(other, batch)
        assert got == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(tight.layer.weight, roomy.layer.weight, rtol=1e-5, atol=1e-6)
    assert tight.sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert [line.split(" (")[0] for line in said] == [
        "out of memory: batches of 8 are computed in 2 pieces from now on",
        "out of memory: batches of 8 are computed in 4 pieces from now on",
    ]


def test_one_image_too_large_is_said_and_changes_nothing():
    model = Tight(0, ERRORS[0])
    before = model.layer.weight.detach().clone()
    s = stepper(model)
    s.say = lambda _: None
    with pytest.raises(
        TrainingError, match=r"step 1: out of memory with a single image of 64 x 64 pixels on cpu; lower"
    ):
        step(s, batches(4)[0])
    assert torch.equal(model.layer.weight, before)


def test_a_rank_says_what_to_do_instead():
    s = stepper(Tight(2, ERRORS[0]))
    s.ranks = Ranks(rank=1, world_size=2)
    with pytest.raises(
        TrainingError, match=r"step 1: rank 1: out of memory with its 4 images of 64 x 64 pixels on cpu; lower --batch"
    ):
        step(s, batches(4)[0])
    assert s.pieces == 1


def test_other_errors_pass():
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        step(stepper(Tight(2, RuntimeError("shapes do not fit"))), batches(4)[0])


class TightDetector(tiny.TinyDetector):
    def forward(self, images):
        if self.training and len(images) > 2:
            raise ERRORS[0]
        return super().forward(images)


def test_run_goes_on_and_resumes_in_pieces(tmp_path, monkeypatch, capsys):
    tiny.install(monkeypatch.setattr)
    monkeypatch.setattr(checkpoint, "Detector", TightDetector)
    straight = train(tiny.tiny_config(tmp_path / "a", epochs=3), model=tiny.tiny_detector())
    assert capsys.readouterr().err.count("computed in 2 pieces from now on") == 1
    assert checkpoint.load(straight.run_dir / "weights/last.safetensors").resume.pieces == 2
    with pytest.raises(KeyboardInterrupt):
        train(tiny.tiny_config(tmp_path / "b", epochs=3), model=tiny.tiny_detector(), callbacks=[StopAfterOne()])
    capsys.readouterr()
    resumed = train(tiny.tiny_config(tmp_path / "b", epochs=3, resume=True))
    assert "pieces" not in capsys.readouterr().err
    tiny.assert_same_run(straight.run_dir, resumed.run_dir)


class StopAfterOne(Callback):
    def on_epoch_end(self, epoch, row, metrics):
        raise KeyboardInterrupt
