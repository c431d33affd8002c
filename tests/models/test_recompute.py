"""Recomputing: what is kept, the same gradients to the bit, in every way that autograd may ask for them."""

import subprocess
import sys

import pytest
import torch

from mamba_yolo.models.blocks import RGBlock
from mamba_yolo.models.recompute import recomputed


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(2, 8, 6, 4)


@pytest.fixture
def mlp():
    torch.manual_seed(0)
    return RGBlock(8)


def gradients(mlp, x, function=None):
    """Of x and of the weights."""
    x = x.clone().requires_grad_()
    y = recomputed(mlp, function or mlp, x)
    return torch.autograd.grad(y.square().sum(), [x, *mlp.parameters()])


def saved_bytes(mlp, x):
    """Kept for the gradient besides weights."""
    sizes = {parameter.data_ptr(): 0 for parameter in mlp.parameters()}

    def pack(tensor):
        sizes.setdefault(tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        recomputed(mlp, mlp, x.clone().requires_grad_())
    return sum(sizes.values())


def same(some, others):
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_it_keeps_its_inputs_only_and_gives_the_same_gradients(mlp, x):
    kept, expected = saved_bytes(mlp.eval(), x), gradients(mlp, x)
    assert saved_bytes(mlp.train(), x) == x.nbytes < kept / 5
    assert same(gradients(mlp, x), expected)
    with torch.no_grad():
        assert torch.equal(recomputed(mlp, mlp, x), mlp(x))


def test_the_end_that_no_gradient_needs_is_computed_once(mlp, x):
    ends = []

    def function(x):
        y = mlp(x)
        ends.append(y)
        return y + 1

    gradients(mlp.train(), x, function)
    assert len(ends) == 1


def test_gradients_may_be_asked_for_twice(mlp, x):
    expected = gradients(mlp.eval(), x)
    calls = []
    mlp.train().register_forward_pre_hook(lambda *_: calls.append(1))
    x = x.clone().requires_grad_()
    loss = recomputed(mlp, mlp, x).square().sum()
    asked = [torch.autograd.grad(loss, [x, *mlp.parameters()], retain_graph=True) for _ in range(2)]
    assert same(asked[0], expected)
    assert same(asked[1], expected)
    assert len(calls) == 3  # nothing was kept after the first


def test_only_some_gradients_may_be_asked_for(mlp, x):
    expected = gradients(mlp.eval(), x)
    mlp.train().requires_grad_(False)
    x.requires_grad_()
    (alone,) = torch.autograd.grad(recomputed(mlp, mlp, x).square().sum(), [x])
    assert torch.equal(alone, expected[0])
    assert not recomputed(mlp, mlp, x.detach()).requires_grad


def test_mixed_precision_is_that_of_the_first_time(mlp, x):
    found = []
    for training in (False, True):
        mlp.train(training)
        with torch.autocast("cpu", torch.bfloat16):
            y = recomputed(mlp, mlp, x.requires_grad_())
        found.append(torch.autograd.grad(y.float().square().sum(), [x, *mlp.parameters()]))
    assert same(*found)
    assert not same(found[0], gradients(mlp, x))


def test_an_input_that_was_changed_meanwhile_is_an_error(mlp, x):
    x = x.requires_grad_() * 1
    y = recomputed(mlp.train(), lambda x: mlp(x) * x, x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about itself
def test_it_compiles(mlp, x):
    expected = gradients(mlp.eval(), x)
    call = torch.compile(lambda x: recomputed(mlp, mlp, x), fullgraph=True, backend="aot_eager")
    mlp.train()
    x = x.clone().requires_grad_()
    assert same(torch.autograd.grad(call(x).square().sum(), [x, *mlp.parameters()]), expected)


TRAINING = """
import sys
import torch
from mamba_yolo import build_detector
from mamba_yolo.engine.optim import build_optimizer, make_plan
from mamba_yolo.config import TrainConfig
from mamba_yolo.losses import DetectionLoss
network = build_detector("n", num_classes=1).train()
for kind in ("adamw", "sgd"):
    optimizer = build_optimizer(network, make_plan(TrainConfig(optimizer=kind), 1))
    loss = DetectionLoss(1)(network(torch.rand(2, 3, 32, 32)), torch.full((1, 4), 0.5), torch.zeros(1), torch.zeros(1))
    loss.total.backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""


def test_a_training_step_does_without_torchs_compiler():
    """Which takes half as long to import as torch itself."""
    run = subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
