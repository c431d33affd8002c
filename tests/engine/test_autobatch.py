"""The batch that fits: by a line through two measurements, which may themselves run out of memory."""

from __future__ import annotations

import pytest
import torch

from engine import tiny
from mamba_yolo.engine.autobatch import CPU_BATCH, chosen_batch, fitting_batch, measured_step
from mamba_yolo.engine.progress import Reporter
from mamba_yolo.engine.ranks import Ranks
from mamba_yolo.models import build_detector

MIB = 2**20


@pytest.mark.parametrize(("room", "expected"), [(1000, 18), (1049, 18), (1050, 19), (200, 2), (10, 1)])
def test_line_through_two_measurements(room, expected):
    assert fitting_batch(lambda n: (100 + 50 * n) * MIB, room * MIB) == expected


def test_no_room_for_the_probes_is_one_image():
    def measure(n):
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert fitting_batch(measure, 1.0) == 1


def test_other_errors_pass():
    def measure(n):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        fitting_batch(measure, 1.0)


def test_on_a_cpu_it_is_sixteen_or_all_images(tmp_path, capsys):
    config = tiny.tiny_config(tmp_path, batch=-1)
    assert chosen_batch(config, tiny.tiny_detector(), 100, Reporter()) == CPU_BATCH
    assert chosen_batch(config, tiny.tiny_detector(), 5, Reporter()) == 5
    assert "batch 16: on a CPU larger ones are not quicker" in capsys.readouterr().err
    assert chosen_batch(tiny.tiny_config(tmp_path, batch=3), tiny.tiny_detector(), 100, Reporter()) == 3


@pytest.mark.parametrize(("images", "expected"), [(100, 15), (8, 6), (1, 3)])
def test_ranks_share_it_evenly(tmp_path, images, expected):
    class Agreed(Ranks):
        def same_text(self, text):
            return text

    config = tiny.tiny_config(tmp_path, batch=-1)
    assert chosen_batch(config, tiny.tiny_detector(), images, Reporter(quiet=True), Agreed(world_size=3)) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_measured_batch_fits(tmp_path):
    detector = build_detector("n", 3).cuda()
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    config = tiny.tiny_config(tmp_path, batch=-1, imgsz=320, device="cuda")
    assert measured_step(detector, config, 8) > measured_step(detector, config, 2)
    assert all(torch.equal(v, before[k]) for k, v in detector.state_dict().items())
