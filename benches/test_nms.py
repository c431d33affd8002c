"""NMS of a full head (8400 anchors, 80 classes), beside the torch definition and torchvision where installed.

Run: `pytest benches/test_nms.py --benchmark-only -s`. Rows are asserted before anything is timed.
"""

import importlib.util

import torch

from mamba_yolo.ops import nms, nms_head


def head(seed=0):
    rng = torch.Generator().manual_seed(seed)
    pred = torch.rand(1, 84, 8400, generator=rng)
    pred[:, :2] *= 640
    pred[:, 2:4] = 10 + 90 * pred[:, 2:4]
    pred[:, 4:] = pred[:, 4:] ** 60  # few scores are high
    return pred


def test_prediction(beside):
    pred, options = head(), {"conf_thr": 0.25, "iou_thr": 0.45, "max_det": 300}
    (ours,), (reference,) = nms_head(pred, **options), nms_head(pred, backend="reference", **options)
    assert torch.equal(ours, reference)
    beside(
        "NMS of a head, prediction",
        lambda: nms_head(pred, **options),
        {"definition": lambda: nms_head(pred, backend="reference", **options)},
    )


def test_plain(beside):
    rng = torch.Generator().manual_seed(0)
    corner = torch.rand(8400, 2, generator=rng) * 600
    boxes = torch.cat([corner, corner + 10 + 60 * torch.rand(8400, 2, generator=rng)], dim=1)
    scores = torch.rand(8400, generator=rng)
    peers = {}
    if importlib.util.find_spec("torchvision"):
        from torchvision.ops import nms as peer

        assert torch.equal(nms(boxes, scores, 0.5), peer(boxes, scores, 0.5))
        peers["torchvision"] = lambda: peer(boxes, scores, 0.5)
    else:
        assert torch.equal(nms(boxes, scores, 0.5), nms(boxes, scores, 0.5, backend="reference"))
        peers["definition"] = lambda: nms(boxes, scores, 0.5, backend="reference")
    beside("NMS of 8400 boxes", lambda: nms(boxes, scores, 0.5), peers)
