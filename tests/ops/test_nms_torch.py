"""NMS as torch operators: fake kernels, compile, export, modes and devices."""

import pytest
import torch

from mamba_yolo.ops import nms, nms_head, weighted_box_fusion


def some_boxes(number=60, seed=0):
    rng = torch.Generator().manual_seed(seed)
    corner = torch.rand(number, 2, generator=rng) * 80
    boxes = torch.cat([corner, corner + 5 + 30 * torch.rand(number, 2, generator=rng)], dim=1)
    return boxes, torch.rand(number, generator=rng), torch.randint(3, (number,), generator=rng)


def some_head():
    rng = torch.Generator().manual_seed(0)
    return torch.rand(2, 4 + 3 + 2, 50, generator=rng) * torch.tensor([[90.0]] * 4 + [[1.0]] * 5)


@pytest.mark.parametrize("name", ["nms", "nms_head", "weighted_box_fusion"])
def test_operators_are_registered_as_torch_wants_them(name):
    boxes, scores, classes = some_boxes()
    arguments = {
        "nms": (boxes, scores, classes, 0.5, 20, "hard"),
        "nms_head": (some_head(), 0.3, 0.5, True, False, False, 30, 3, [0, 2]),
        "weighted_box_fusion": (boxes, scores, None, 0.5, 2),
    }[name]
    torch.library.opcheck(getattr(torch.ops.mamba_yolo, name).default, arguments)


def test_the_operator_of_a_head_fills_up_with_zeros():
    rows, counts = torch.ops.mamba_yolo.nms_head(some_head(), 0.6, 0.5, False, False, False, 300, 3, None)
    assert rows.shape == (2, 50, 6 + 2)
    for image, count, expected in zip(rows, counts, nms_head(some_head(), conf_thr=0.6, iou_thr=0.5, num_classes=3),
                                      strict=True):  # fmt: skip
        assert torch.equal(image[:count], expected)
        assert not image[count:].any()


@pytest.mark.filterwarnings("ignore")  # of torch itself
def test_compiled_calls_equal_plain_ones():
    boxes, scores, classes = some_boxes()
    torch._dynamo.reset()

    @torch.compile(backend="aot_eager", fullgraph=True)
    def both(boxes, scores, classes):
        kept = nms(boxes * 1, scores, 0.5, classes=classes)
        return boxes[kept] + 1, weighted_box_fusion(boxes * 1, scores, 0.5)[0]

    found, fused = both(boxes, scores, classes)
    assert torch.equal(found, boxes[nms(boxes, scores, 0.5, classes=classes)] + 1)
    assert torch.equal(fused, weighted_box_fusion(boxes, scores, 0.5)[0])


@pytest.mark.filterwarnings("ignore")  # of torch itself
def test_a_module_with_nms_is_exported_for_any_number_of_boxes():
    class Best(torch.nn.Module):
        def forward(self, boxes, scores):
            return boxes[nms(boxes, scores, 0.5)]

    boxes, scores, _ = some_boxes()
    number = torch.export.Dim("number")
    program = torch.export.export(Best(), (boxes, scores), dynamic_shapes=({0: number}, {0: number}))
    boxes, scores, _ = some_boxes(91, seed=1)
    assert torch.equal(program.module()(boxes, scores), boxes[nms(boxes, scores, 0.5)])


def test_results_do_not_keep_or_change_the_input():
    boxes, scores, _ = some_boxes()
    before = boxes.clone()
    kept = nms(boxes.requires_grad_(), scores, 0.5)
    assert not kept.requires_grad
    assert torch.equal(boxes, before)
    (rows, _) = nms_head(some_head(), conf_thr=0.6, iou_thr=0.5, num_classes=3)
    assert rows.untyped_storage().nbytes() == rows.nbytes


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_rows_do_not_depend_on_threads(threads):
    rng = torch.Generator().manual_seed(0)
    pred = torch.rand(1, 4 + 20, 6000, generator=rng)
    pred[:, :4] *= 200
    options = {"conf_thr": 0.9, "iou_thr": 0.5, "multi_label": True}
    before = torch.get_num_threads()
    expected = nms_head(pred, backend="reference", **options)[0]
    try:
        torch.set_num_threads(threads)
        assert torch.equal(nms_head(pred, **options)[0], expected)
        assert torch.equal(nms_head(pred.repeat(3, 1, 1), **options)[2], expected)
    finally:
        torch.set_num_threads(before)
