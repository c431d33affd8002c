"""The loss equals the recorded reference, and stays finite where there is nothing to learn."""

import math

import pytest
import torch

from helpers import assert_close_to_scale, golden
from mamba_yolo.errors import ShapeError
from mamba_yolo.losses import DetectionLoss
from mamba_yolo.losses.detection import distribution_focal_loss
from mamba_yolo.types import RawDetections

NO_BOXES = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))


def random_raw(dtype=torch.float32, batch=2, num_classes=5, size=64):
    rng = torch.Generator().manual_seed(3)
    levels = [torch.randn(batch, 64 + num_classes, size // s, size // s, generator=rng) for s in (8, 16, 32)]
    return RawDetections([level.to(dtype).requires_grad_() for level in levels])


def targets(boxes, classes=None, images=None):
    count = len(boxes)
    classes = [0] * count if classes is None else classes
    images = [0] * count if images is None else images
    return torch.tensor(boxes), torch.tensor(classes), torch.tensor(images)


def loss_and_gradients(raw, boxes):
    loss = DetectionLoss(raw.levels[0].shape[1] - 64)(raw, *boxes)
    return loss, torch.autograd.grad(loss.total, raw.levels)


def test_equals_golden_with_gradients():
    g = golden("detect")
    raw = RawDetections([g[f"raw.{i}"].requires_grad_() for i in range(3)])
    boxes = (g["loss.batch.bboxes"], g["loss.batch.cls"], g["loss.batch.batch_idx"])
    loss, gradients = loss_and_gradients(raw, boxes)
    torch.testing.assert_close(torch.stack(loss[1:4]), g["loss.items_box_cls_dfl"], rtol=1e-5, atol=0)
    torch.testing.assert_close(loss.total, g["loss.total"][0], rtol=1e-5, atol=0)
    for level in range(3):
        assert_close_to_scale(gradients[level], g[f"loss.grad_raw.{level}"], 1e-5)


def test_order_of_boxes_does_not_matter():
    boxes = targets([[0.3, 0.3, 0.4, 0.4], [0.6, 0.5, 0.3, 0.6], [0.5, 0.5, 0.9, 0.9]], [0, 1, 2], [0, 1, 0])
    forwards, _ = loss_and_gradients(random_raw(), boxes)
    backwards, _ = loss_and_gradients(random_raw(), tuple(t.flip(0) for t in boxes))
    torch.testing.assert_close(forwards.total, backwards.total)


def test_no_box_in_the_whole_batch_teaches_only_the_classes():
    raw = random_raw()
    loss, gradients = loss_and_gradients(raw, NO_BOXES)
    assert loss.box == 0
    assert loss.dfl == 0
    expected = sum(torch.nn.functional.softplus(level[:, 64:]).sum() for level in raw.levels) * 0.5
    torch.testing.assert_close(loss.cls, expected.detach())
    for gradient in gradients:
        assert gradient[:, :64].abs().max() == 0
        assert gradient[:, 64:].min() > 0


def test_image_without_boxes_beside_one_with():
    _, gradients = loss_and_gradients(random_raw(), targets([[0.5, 0.5, 0.6, 0.6]], images=[1]))
    assert gradients[0][0, :64].abs().max() == 0
    assert gradients[0][1, :64].abs().max() > 0


@pytest.mark.parametrize(
    "box",
    [[0.5, 0.5, 1e-6, 1e-6], [0.5, 0.5, 0.0, 0.0], [3.0, 3.0, 0.5, 0.5], [0.0, 0.0, 0.05, 0.05], [0.5, 0.5, 9.0, 9.0]],
    ids=["tiny", "empty", "outside", "corner", "huge"],
)
def test_strange_boxes_stay_finite(box):
    loss, gradients = loss_and_gradients(random_raw(), targets([box]))
    assert torch.isfinite(loss.total)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_many_boxes_on_the_same_anchors():
    boxes = targets([[0.5, 0.5, 0.5 + i / 400, 0.5] for i in range(100)], [i % 5 for i in range(100)])
    loss, gradients = loss_and_gradients(random_raw(), boxes)
    assert torch.isfinite(loss.total)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype):
    boxes = targets([[0.5, 0.5, 0.6, 0.6]])
    narrow = random_raw(dtype)
    wide = RawDetections([level.detach().float().requires_grad_() for level in narrow.levels])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, gradients = loss_and_gradients(narrow, boxes)
    assert loss.total.dtype == torch.float32
    assert gradients[0].dtype == dtype
    torch.testing.assert_close(loss.total, loss_and_gradients(wide, boxes)[0].total)


def test_extreme_logits_stay_finite():
    raw = RawDetections([(level * 1e4).detach().requires_grad_() for level in random_raw().levels])
    loss, gradients = loss_and_gradients(raw, targets([[0.5, 0.5, 0.6, 0.6]]))
    assert torch.isfinite(loss.total)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_total_is_the_sum_times_the_batch():
    loss, _ = loss_and_gradients(random_raw(batch=3), targets([[0.5, 0.5, 0.6, 0.6]]))
    torch.testing.assert_close(loss.total.detach(), 3 * (loss.box + loss.cls + loss.dfl))


def test_gains_scale_the_parts():
    boxes, raw = targets([[0.5, 0.5, 0.6, 0.6]]), random_raw()
    one, other = DetectionLoss(5)(raw, *boxes), DetectionLoss(5, box=15, cls=0.25, dfl=0)(raw, *boxes)
    torch.testing.assert_close(torch.stack(other[1:4]), torch.stack([one.box * 2, one.cls / 2, one.dfl * 0]))


def test_four_levels():
    rng = torch.Generator().manual_seed(0)
    levels = [torch.randn(1, 69, 64 // s, 64 // s, generator=rng) for s in (4, 8, 16, 32)]
    loss = DetectionLoss(5, (4, 8, 16, 32))(RawDetections(levels), *targets([[0.5, 0.5, 0.6, 0.6]]))
    assert loss.box > 0


def test_distribution_loss_by_hand():
    bins = torch.full((1, 64), 0.0)
    bins[0, 2] = math.log(3)  # left side: probability 3/18 for 2 cells, 1/18 for the others
    got = distribution_focal_loss(bins, torch.tensor([[2.25, 0.0, 99.0, -1.0]]))
    left = -(0.75 * math.log(3 / 18) + 0.25 * math.log(1 / 18))
    assert got.item() == pytest.approx((left + 3 * math.log(16)) / 4, rel=1e-5)


def test_wrong_number_of_classes():
    with pytest.raises(ShapeError, match=r"expected 3 levels of shape \(B, 70, H, W\)"):
        DetectionLoss(6)(random_raw(), *NO_BOXES)
