"""The scan as a torch operator: opcheck, compile, export, flop counter."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mamba_yolo.errors import BackendError
from mamba_yolo.ops import _cuda, dispatch, ss2d_scan
from mamba_yolo.ops._native import native
from ops.scan_cases import map_inputs, sequence_inputs


def raw_inputs(requires_grad):
    x, proj, dt_weight, dt_bias, A_logs, Ds, height, width = map_inputs(batch=1, height=3, width=4, channels=9)
    tensors = [x, None, proj, dt_weight, dt_bias, -A_logs.exp(), Ds]
    leaves = [t.requires_grad_(requires_grad) if t is not None else None for t in tensors]
    return (*leaves, height, width, True, requires_grad)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # opcheck looks at every input
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(requires_grad):
    torch.library.opcheck(torch.ops.mamba_yolo.scan_forward, raw_inputs(requires_grad))
    u, delta, A, B, C, D, bias = sequence_inputs(batch=1, channels=3, length=5, states=2)
    proj = torch.cat([B, C], dim=1).mT.contiguous()
    sequence = [u.mT.contiguous(), delta.mT.contiguous(), proj, torch.empty(1, 3, 0).double(), bias[None], A, D]
    leaves = [t.requires_grad_(requires_grad) for t in sequence]
    torch.library.opcheck(torch.ops.mamba_yolo.scan_forward, (*leaves, 0, 0, True, requires_grad))


def test_gradient_without_checkpoints_is_an_error():
    y, _ = torch.ops.mamba_yolo.scan_forward(*raw_inputs(requires_grad=True)[:-1], False)
    with pytest.raises(RuntimeError, match="needs save=True"):
        y.sum().backward()


class Scan(torch.nn.Module):
    def __init__(self, parameters):
        super().__init__()
        self.weights = torch.nn.ParameterList(parameters)

    def forward(self, x_BDHW, proj_BPHW):
        x, proj = (m.flatten(2).mT for m in (x_BDHW, proj_BPHW))
        return ss2d_scan(x, proj, *self.weights, x_BDHW.shape[2], x_BDHW.shape[3]).mT.unflatten(2, x_BDHW.shape[2:])


def module_and_maps(height=6, width=4):
    x, proj, *parameters, _, _ = map_inputs(height=height, width=width, dtype=torch.float32)
    maps = [t.mT.unflatten(2, (height, width)) for t in (x, proj)]
    return Scan(parameters), maps


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about itself
def test_compiles_to_one_graph():
    module, maps = module_and_maps()
    expected = module(*maps)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*maps), expected)
    compiled(*maps).sum().backward()
    got = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    module(*maps).sum().backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(got, module.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore")
def test_exports_with_any_height_and_width():
    module, maps = module_and_maps()
    size = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        program = torch.export.export(module, tuple(maps), dynamic_shapes=(size, size))
        _, other_maps = module_and_maps(height=5, width=9)
        torch.testing.assert_close(program.module()(*other_maps), module(*other_maps))


def test_meta_tensors_have_shapes_only():
    inputs = [t.to("meta") if isinstance(t, torch.Tensor) else t for t in map_inputs(batch=1, height=3, width=4)]
    assert ss2d_scan(*inputs).shape == inputs[0].shape


def test_flops_are_counted():
    inputs = map_inputs(batch=1, height=4, width=4, channels=8, rank=2, dtype=torch.float32)
    with FlopCounterMode(display=False) as counter:
        ss2d_scan(*inputs)
    assert counter.get_total_flops() == 4 * 16 * 8 * (7 * 16 + 2 * 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_fake_tensors_on_a_gpu(monkeypatch, dtype):
    """Tracing for a GPU, as compile does, here where none is."""
    monkeypatch.setattr(_cuda, "_gpus", {0: object()})
    inputs = map_inputs(dtype=torch.float32)
    with FakeTensorMode(), torch.no_grad():
        x, proj, *parameters = (torch.empty(t.shape, device="cuda") for t in inputs[:6])
        x, proj = x.to(dtype), proj.to(dtype)
        y = ss2d_scan(x, proj, *parameters, *inputs[6:])
        assert (y.shape, y.dtype, y.device.type) == (x.shape, dtype, "cuda")
        scanned = (x, None, proj, *parameters)
        y, checkpoints = torch.ops.mamba_yolo.scan_forward(*scanned, *inputs[6:], True, True)
        assert (checkpoints.shape, checkpoints.dtype) == ((2, 4, 3, 16, 24), torch.float32)
        found = torch.ops.mamba_yolo.scan_backward(y, *scanned, checkpoints, *inputs[6:], True)
        assert [(g.shape, g.dtype) for g in found] == [(t.shape, t.dtype) for t in scanned if t is not None]


@pytest.mark.parametrize(
    ("dtype", "reason"), [(torch.float64, "the tensor is torch.float64"), (torch.float32, "sees no|built without")]
)
def test_what_cuda_kernels_cannot_do_is_warned_of_once(monkeypatch, dtype, reason):
    monkeypatch.setattr(_cuda, "_gpus", {})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    dispatch._warn_once.cache_clear()
    with FakeTensorMode(), torch.no_grad():
        inputs = [torch.empty(t.shape, device="cuda", dtype=dtype) for t in map_inputs(height=2, width=2)[:6]]
        with pytest.warns(RuntimeWarning, match=f"slow torch definition of the scan: .*({reason})") as warned:
            assert all(ss2d_scan(*inputs, 2, 2).shape == (2, 4, 24) for _ in range(2))
        assert len(warned) == 1
        with pytest.raises(BackendError, match=f"backend 'cuda' cannot run: .*({reason})"):
            ss2d_scan(*inputs, 2, 2, backend="cuda")
    dispatch._warn_once.cache_clear()


@pytest.mark.filterwarnings("ignore")
def test_whether_cuda_kernels_run_is_a_constant_to_the_compiler(monkeypatch):
    monkeypatch.setattr(_cuda, "_gpus", {0: object()})
    sign = torch.compile(lambda x: x if _cuda.why_not(0) is None else -x, fullgraph=True, backend="eager")
    assert sign(torch.ones(1)) == 1


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.empty(2, 6).mT, "expected a contiguous float32 tensor on the CPU"),
        (torch.empty(6, 2, 1, dtype=torch.float16), "expected a float32 tensor on the CPU"),
    ],
)
def test_results_go_only_into_dense_memory(y, message):
    x, proj, dt_weight, A, Ds = (torch.zeros(shape) for shape in [(6, 2, 1), (6, 2, 12), (4, 1, 1), (4, 1), (4,)])
    with pytest.raises(ValueError, match=message):
        native.scan_forward((x, None, proj, dt_weight, A, A, Ds), y, None, ((6, 2, 1, 1, 1), (1, 2), True, 1))
