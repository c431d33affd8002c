"""Weighted box fusion: by hand, against a plain loop, and odd input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_yolo.errors import ConfigError, DetectionError
from mamba_yolo.ops import weighted_box_fusion

backends = pytest.mark.parametrize("backend", ["reference", "rust"])


@backends
def test_two_models_by_hand(backend):
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60], [0, 0, 10, 10]])
    scores, classes = torch.tensor([0.75, 0.25, 0.5, 0.125]), torch.tensor([0, 0, 0, 1])
    fused, fused_scores, first = weighted_box_fusion(
        boxes, scores, 0.55, classes=classes, num_models=2, backend=backend
    )
    assert first.tolist() == [0, 2, 3]
    assert fused_scores.tolist() == [0.5, 0.25, 0.0625]  # the mean; half of it where one of two models saw it
    assert fused.tolist() == [[0, 0, 10, 10.5], [50, 50, 60, 60], [0, 0, 10, 10]]


def plain_loop(boxes, scores, iou_thr, classes, num_models):
    """Clusters in float64 Python."""
    clusters = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        best, found = iou_thr, None
        for cluster in clusters:
            (x1, y1, x2, y2), (a1, b1, a2, b2) = cluster["box"], boxes[i]
            inter = max(min(x2, a2) - max(x1, a1), 0) * max(min(y2, b2) - max(y1, b1), 0)
            iou = inter / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - inter)
            if cluster["class"] == classes[i] and iou > best:
                best, found = iou, cluster
        if found is None:
            found = {"class": classes[i], "members": []}
            clusters.append(found)
        found["members"].append(i)
        weights = [scores[m] for m in found["members"]]
        columns = zip(*(boxes[m] for m in found["members"]), strict=True)
        found["box"] = [sum(v * w for v, w in zip(c, weights, strict=True)) / sum(weights) for c in columns]
        share = min(len(weights), num_models) / num_models
        found["score"] = sum(weights) / len(weights) * share
    return sorted(clusters, key=lambda c: -c["score"])


@backends
@given(st.lists(st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 25)] * 2, st.integers(0, 1)), max_size=40),
       st.integers(1, 3))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_equals_a_plain_loop(backend, raw, num_models):
    boxes = [[x, y, x + w, y + h] for x, y, w, h, _ in raw]
    classes = [r[4] for r in raw]
    scores = [0.97**i for i in range(len(raw))]  # no two means are equal
    expected = plain_loop(boxes, scores, 0.5414213, classes, num_models)
    fused, fused_scores, first = weighted_box_fusion(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(scores), 0.5414213,
        classes=torch.tensor(classes, dtype=torch.int64), num_models=num_models, backend=backend,
    )  # fmt: skip
    assert first.tolist() == [c["members"][0] for c in expected]
    torch.testing.assert_close(fused, torch.tensor([c["box"] for c in expected]).reshape(-1, 4))
    torch.testing.assert_close(fused_scores, torch.tensor([c["score"] for c in expected]).reshape(-1))


def test_rust_equals_the_definition_to_the_bit():
    rng = torch.Generator().manual_seed(0)
    corner = torch.rand(500, 2, generator=rng) * 300
    boxes = torch.cat([corner, corner + 40 * torch.rand(500, 2, generator=rng) + 20], dim=1)
    scores, classes = torch.rand(500, generator=rng), torch.randint(4, (500,), generator=rng)
    both = [weighted_box_fusion(boxes, scores, 0.4, classes=classes, backend=b) for b in ("rust", "reference")]
    assert torch.equal(both[0][2], both[1][2])
    torch.testing.assert_close(both[0][0], both[1][0], rtol=3e-7, atol=0)


@backends
def test_odd_input(backend):
    run = lambda boxes, scores, **more: weighted_box_fusion(  # noqa: E731
        torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), 0.5, backend=backend, **more
    )
    assert [len(t) for t in run([], [])] == [0, 0, 0]
    assert run([[0.0, 0, 1, 1]] * 2, [0.0, -0.0])[0].tolist() == [[0, 0, 1, 1]]  # no weight: the first
    assert len(run([[0.0, 0, 0, 0]] * 2, [0.5, 0.5])[0]) == 2  # no area: no overlap
    with pytest.raises(DetectionError, match="NaN"):
        run([[0.0, 0, 1, float("nan")]], [0.5])
    with pytest.raises(DetectionError, match="scores must have shape"):
        run([[0.0, 0, 1, 1]], [0.5, 0.5])
    with pytest.raises(ConfigError, match="num_models must be 1 or more"):
        run([[0.0, 0, 1, 1]], [0.5], num_models=0)
