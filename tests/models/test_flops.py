"""FLOPs against a count by hand, layer by layer."""

import pytest
import torch
from torch import nn

from mamba_yolo.errors import ConfigError
from mamba_yolo.models import build_detector
from mamba_yolo.models.blocks import VisionClueMerge
from mamba_yolo.models.flops import paper_figures, summary
from mamba_yolo.models.presets import preset_config
from mamba_yolo.models.ss2d import SS2D


def count_by_hand(detector, imgsz):
    """Multiply-adds of every convolution and projection, and the scan by its loops."""
    convolutions, scans = [], []

    def on_convolution(layer, inputs, output):
        cells = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        convolutions.append(2 * layer.weight.numel() * cells[0, 0].numel())

    def on_scan(layer, _, output):
        length = output[0, 0].numel()
        directions, inner, rank = layer.dt_projs_weight.shape
        convolutions.append(2 * layer.x_proj_weight.numel() * length)
        scans.append(directions * length * inner * (7 * layer.A_logs.shape[1] + 2 * rank))

    def on_merge(layer, inputs, output):
        on_convolution(layer.merge.conv, inputs, output)

    for module in detector.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(on_convolution)
        if isinstance(module, VisionClueMerge):  # uses the weights of its convolution, not the module
            module.register_forward_hook(on_merge)
        if isinstance(module, SS2D):
            module.register_forward_hook(on_scan)
    with torch.no_grad():
        detector.eval()(torch.zeros(1, 3, imgsz, imgsz))
    return sum(convolutions), sum(scans)


@pytest.mark.parametrize("name", ["n", "n-seg"])
def test_count_equals_the_count_by_hand(name):
    detector = build_detector(name, num_classes=5)
    got = summary(detector, 64)
    convolutions, scans = count_by_hand(detector, 64)
    assert got.scan_flops == scans
    assert got.flops == convolutions + scans


def test_layers_are_what_hooks_on_layers_see():
    detector = build_detector("n", num_classes=5)
    seen = []
    for module in detector.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, _, y: seen.append(2 * m.weight.numel() * y[0, 0].numel()))
        if isinstance(module, VisionClueMerge):
            module.register_forward_hook(lambda m, _, y: seen.append(2 * m.merge.conv.weight.numel() * y[0, 0].numel()))
    with torch.no_grad():
        detector.eval()(torch.zeros(1, 3, 64, 64))
    assert summary(detector, 64).layer_flops == sum(seen)


def test_parts_add_up():
    got = summary(build_detector("n-seg", num_classes=5), 128)
    assert sum(part.flops for part in got.parts) == got.flops
    assert sum(part.scan_flops for part in got.parts) == got.scan_flops > 0
    assert sum(part.parameters for part in got.parts) == got.parameters
    assert got.parts[0].name == "backbone.stem"


def test_cost_grows_with_the_area():
    detector = build_detector("n")
    assert summary(detector, 128).flops == 4 * summary(detector, 64).flops


def test_large_network_takes_no_memory():
    with torch.device("meta"):
        detector = build_detector("l")
    got = summary(detector, 640)
    assert got.parameters == 57_631_024
    assert 150e9 < got.flops < 200e9


def test_paper_figures():
    assert paper_figures(preset_config("t", num_classes=3)).flops_g == 14.3
    assert paper_figures(preset_config("b", variant="v2", initialization="mamba")).parameters_m == 19.1
    assert paper_figures(preset_config("n")) is None
    assert paper_figures(preset_config("t-seg")) is None
    assert paper_figures(preset_config("t", channel_mlp="mlp")) is None


def test_side_must_be_a_multiple_of_32():
    with pytest.raises(ConfigError, match="multiple of 32"):
        summary(build_detector("n"), 100)
