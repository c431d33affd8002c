"""Optimizers: SGD with Nesterov momentum, as the release has it, Muon for short runs, AdamW.

Three parameter groups: weights (decayed); norms, A_logs, Ds and every vector (not decayed); biases (not decayed, with a
warm-up rate of their own). `dt_projs_bias` of the scan is a time step rather than an offset, so it goes with the norms
and never sees the high bias rate. Test: tests/engine/test_optim.py.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from mamba_yolo.engine.muon import Muon, normalised_filters
from mamba_yolo.engine.schedule import Schedule, accumulation, optimizer_steps

if TYPE_CHECKING:
    from mamba_yolo.config import TrainConfig
    from mamba_yolo.engine.schedule import Rates

GROUPS = ("weights", "norms", "biases")
NOMINAL_BATCH = 64  # of the release
SHORT_RUN_STEPS = 10_000  # `auto` takes SGD from here on
ADAM_BETA2 = 0.999
SCAN_PARAMETERS = ("A_logs", "Ds")
_Kind = TypeVar("_Kind", bound=torch.optim.Optimizer)


@dataclass(frozen=True)
class Plan:
    """How a run is optimised: which optimizer, with which rates.

    Attributes:
        is_short: the run has less than SHORT_RUN_STEPS steps of the nominal batch.
    """

    kind: str
    schedule: Schedule
    steps: int
    weight_decay: float
    is_short: bool

    def describe(self) -> str:
        """One line for the log."""
        s = self.schedule
        return (
            f"{self.kind}: lr {s.lr0:g} to {s.lr0 * s.lrf:g}, weight decay {self.weight_decay:g}, "
            f"{self.steps} steps of {s.accumulate} batches, warm-up {s.warmup_batches} batches"
        )


def make_plan(config: TrainConfig, batches_per_epoch: int) -> Plan:
    """Choose optimizer and schedule; `auto` is Muon below 10,000 steps of a nominal batch of 64, else SGD.

    A run that is short of steps gains nothing from accumulating them away: Muon steps after every batch unless `nbs`
    says otherwise.
    """
    nominal = config.nbs or NOMINAL_BATCH
    steps = optimizer_steps(config.epochs, batches_per_epoch, accumulation(nominal, config.batch))
    is_short, kind = steps < SHORT_RUN_STEPS, config.optimizer
    if kind == "auto":
        kind = "muon" if is_short else "sgd"
    if kind == "muon":
        nominal = config.nbs or config.batch
    accumulate = accumulation(nominal, config.batch)
    steps = optimizer_steps(config.epochs, batches_per_epoch, accumulate)
    schedule = Schedule(
        epochs=config.epochs,
        batches_per_epoch=batches_per_epoch,
        lr0=config.lr0,
        lrf=config.lrf,
        momentum=config.momentum,
        accumulate=accumulate,
        warmup_epochs=config.warmup_epochs,
        # Adam scales its own steps: a rate of 0.1 would move every bias by 0.1 a step. Muon was measured with 0.
        warmup_bias_lr=config.warmup_bias_lr if kind == "sgd" else 0.0,
        warmup_momentum=min(config.warmup_momentum, config.momentum),
        cosine=config.cos_lr,
    )
    return Plan(kind, schedule, steps, config.weight_decay * config.batch * accumulate / nominal, is_short)


def parameter_groups(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Sort trainable parameters into `GROUPS`, each once, in the order of the model."""
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
    seen: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                groups[_group_of(module, name, parameter)].append(parameter)
    return groups


def build_optimizer(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """Make the optimizer of a plan; its rates are set before every step by `set_rates`."""
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": plan.weight_decay if name == "weights" else 0.0, "name": name}
        for name, parameters in parameter_groups(model).items()
    ]
    lr, momentum = plan.schedule.lr0, plan.schedule.momentum
    if plan.kind == "muon":
        return _eager(Muon)(groups, normalised_filters(model), lr, momentum)
    if plan.kind == "adamw":
        return _eager(torch.optim.AdamW)(groups, lr=lr, betas=(momentum, ADAM_BETA2))
    return _eager(torch.optim.SGD)(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)


def set_rates(optimizer: torch.optim.Optimizer, rates: Rates) -> None:
    """Write the rates of one batch into the parameter groups; Adam keeps its beta1."""
    for group in optimizer.param_groups:
        group["lr"] = rates.bias_lr if group["name"] == "biases" else rates.lr
        if "momentum" in group:
            group["momentum"] = rates.momentum


def _eager(kind: type[_Kind]) -> type[_Kind]:
    """The same optimizer without the guards that import torch's compiler; the arithmetic is torch's."""
    guarded = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    plain = {name: inspect.unwrap(getattr(torch.optim.Optimizer, name)) for name in guarded}
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {**plain, "step": step})


def _group_of(module: nn.Module, name: str, parameter: nn.Parameter) -> str:
    if name == "bias" and not _is_norm(module):
        return "biases"
    if _is_norm(module) or parameter.ndim <= 1 or name in SCAN_PARAMETERS or name.endswith("bias"):
        return "norms"
    return "weights"


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__
