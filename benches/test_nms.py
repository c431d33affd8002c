"""NMS beside ultralytics, torchvision, lsnms, powerboxes and the torch definition, each where it is installed.

Run: `pytest benches/test_nms.py --benchmark-only -s`. Results are asserted before anything is timed: rows of a head
equal the definition's in both modes, and ultralytics' bit for bit; indices of ready boxes torchvision's (lsnms also
drops boxes whose IoU equals the threshold, and both others compute in float64; they are held to 0.1 % of the number
kept).
"""

import pytest
import torch

import peers
from mamba_yolo.ops import nms, nms_head, nms_turned, weighted_box_fusion

CASES = {
    "1 k clustered": (1000, 640, True),
    "8.4 k": (8400, 640, False),
    "30 k over 10 000 px": (30_000, 10_000, False),
    "100 k over 10 000 px": (100_000, 10_000, False),
}
SLOW = 50_000  # boxes from which quadratic peers take seconds


def some_boxes(number, extent, clustered):
    """Boxes of 10 to 100 px; clustered: around 60 objects."""
    rng = torch.Generator().manual_seed(number)
    if not clustered:
        corner, size = torch.rand(number, 2, generator=rng) * extent, 10 + 90 * torch.rand(number, 2, generator=rng)
        return torch.cat([corner, corner + size], dim=1), torch.rand(number, generator=rng)
    objects = torch.randint(60, (number,), generator=rng)
    centre = (torch.rand(60, 2, generator=rng) * extent)[objects] + 4 * torch.randn(number, 2, generator=rng)
    half = (10 + 50 * torch.rand(60, 2, generator=rng))[objects] * (0.9 + 0.2 * torch.rand(number, 2, generator=rng))
    return torch.cat([centre - half, centre + half], dim=1), torch.rand(number, generator=rng)


def head(candidates, best_only):
    """8400 anchors, 80 classes, and the threshold that so many pass."""
    rng = torch.Generator().manual_seed(0)
    pred = torch.rand(1, 84, 8400, generator=rng)
    pred[:, :2] *= 640
    pred[:, 2:4] = 10 + 90 * pred[:, 2:4]
    pred[:, 4:] **= 60  # few scores are high
    scores = pred[0, 4:].amax(0) if best_only else pred[0, 4:].flatten()
    return pred, scores.topk(candidates + 1).values[-1].item()


def boxes_peers(boxes, scores, iou_thr):
    """Calls by name, of those installed."""
    found = {}
    try:
        from torchvision.ops import nms as torchvision_nms

        if len(boxes) < SLOW:
            found["torchvision"] = lambda: torchvision_nms(boxes, scores, iou_thr)
    except ImportError:
        pass
    in_64 = boxes.double().numpy(), scores.double().numpy()
    try:
        import lsnms

        found["lsnms"] = lambda: lsnms.nms(*in_64, iou_thr, 0.0)
    except ImportError:
        pass
    try:
        import powerboxes

        if len(boxes) < SLOW:
            found["powerboxes"] = lambda: powerboxes.nms(*in_64, iou_thr, 0.0)
        found["powerboxes rtree"] = lambda: powerboxes.rtree_nms(*in_64, iou_thr, 0.0)
    except ImportError:
        pass
    return found


def head_peer(pred, conf_thr, iou_thr, multi_label=False):
    """The same work by ultralytics, where it is installed: rows of the one image."""
    if not peers.version("ultralytics"):
        return {}
    threads = torch.get_num_threads()
    call = peers.ultralytics("utils.nms").non_max_suppression
    torch.set_num_threads(threads)
    return {"ultralytics": lambda: call(pred, conf_thr, iou_thr, multi_label=multi_label)[0]}


def assert_alike(kept, others):
    for name, peer in others.items():
        if name == "torchvision":
            assert torch.equal(kept, peer())
        else:
            assert len(kept) == pytest.approx(len(peer()), rel=1e-3), name


@pytest.mark.parametrize("case", CASES)
def test_plain(beside, case):
    boxes, scores = some_boxes(*CASES[case])
    others = boxes_peers(boxes, scores, 0.5)
    kept = nms(boxes, scores, 0.5)
    assert_alike(kept, others)
    if len(boxes) <= 8400:
        assert torch.equal(kept, nms(boxes, scores, 0.5, backend="reference"))
    beside(f"NMS of {case}", lambda: nms(boxes, scores, 0.5), others, rounds=5 if len(boxes) <= 8400 else 3)


@pytest.mark.parametrize(
    ("what", "candidates", "options"),
    [
        ("validation head, 30 k candidates", 30_000, {"iou_thr": 0.7, "multi_label": True}),
        ("prediction head, 2 k candidates", 2022, {"iou_thr": 0.45}),
    ],
)
def test_head(beside, what, candidates, options):
    pred, conf_thr = head(candidates, "multi_label" not in options)
    options = {"conf_thr": conf_thr, **options}
    for compat in (False, True):
        ours, definition = (nms_head(pred, compat=compat, backend=b, **options)[0] for b in ("rust", "reference"))
        assert torch.equal(ours, definition)
    (everything,) = nms_head(pred, max_det=30_000, **options | {"iou_thr": 1.0})
    assert len(everything) == candidates
    before = pred.clone()
    whole = head_peer(pred, **options)
    for rows in (call() for call in whole.values()):
        assert torch.equal(nms_head(pred, compat=True, **options)[0], rows)
    assert torch.equal(pred, before)
    shifted = everything[:, :4] + everything[:, 5:] * 7680
    ready = boxes_peers(shifted, everything[:, 4].contiguous(), options["iou_thr"])
    definition = {"definition": lambda: nms_head(pred, backend="reference", **options)}
    ours = lambda: nms_head(pred, compat=True, **options)  # noqa: E731
    beside(what, ours, {**whole, **definition}, rounds=3)
    if ready:
        beside(f"{what}; peers get ready boxes", ours, ready, rounds=3)


@pytest.mark.parametrize("kind", ["soft_linear", "soft_gaussian", "diou", "weighted_box_fusion"])
def test_other_kinds(beside, kind):
    boxes, scores = some_boxes(2000, 640, True)

    def run(backend):
        if kind == "weighted_box_fusion":
            return weighted_box_fusion(boxes, scores, 0.55, backend=backend)[2]
        return nms(boxes, scores, 0.5, kind=kind, backend=backend)

    assert len(run("rust")) == len(run("reference"))
    beside(f"{kind} of 2000", lambda: run("rust"), {"definition": lambda: run("reference")})


@pytest.mark.parametrize("kind", ["polygon", "gaussian"])
def test_turned(beside, kind):
    """The peer takes degrees and computes in float64; it knows areas only."""
    corners, scores = some_boxes(2000, 640, True)
    angle = torch.rand(2000, generator=torch.Generator().manual_seed(0)) * torch.pi
    centre, size = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    boxes = torch.cat([centre, size, angle[:, None]], 1)
    kept = nms_turned(boxes, scores, 0.5, kind=kind)
    others = {"definition": lambda: nms_turned(boxes, scores, 0.5, kind=kind, backend="reference")}
    assert torch.equal(kept, others["definition"]())
    if kind == "polygon" and peers.version("powerboxes"):
        import powerboxes

        ready = torch.cat([boxes[:, :4], boxes[:, 4:].rad2deg()], 1).double().numpy(), scores.double().numpy()
        others["powerboxes"] = lambda: powerboxes.rotated_nms(*ready, 0.5, 0.0)
        others["powerboxes rtree"] = lambda: powerboxes.rtree_rotated_nms(*ready, 0.5, 0.0)
        assert_alike(kept, {name: call for name, call in others.items() if name != "definition"})
    beside(f"turned, {kind}, of 2000", lambda: nms_turned(boxes, scores, 0.5, kind=kind), others, rounds=3)
