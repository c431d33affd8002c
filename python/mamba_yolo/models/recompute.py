"""Less memory in training: values kept for the gradient are dropped, and computed again when it asks for them.

torch.utils.checkpoint does the same, but its first call imports torch's compiler, which takes half as long as torch
itself, at the start of every training. Test: tests/models/test_recompute.py.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import saved_tensors_hooks

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


def recomputed(layer: nn.Module, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """function(*inputs); a layer in training keeps the inputs alone and computes the rest again for the gradient.

    Nothing is computed after the last value that the gradient needs: a convolution at the end runs once. The function
    must draw no random numbers and update no statistics. torch's compiler chooses by itself what to recompute.
    """
    if not (layer.training and torch.is_grad_enabled()) or torch.compiler.is_compiling():
        return function(*inputs)
    call = _Call(function, inputs)
    with saved_tensors_hooks(call.drop, call.restore):
        return function(*inputs)


class _Call:
    """A call whose values for the gradient are replaced by their numbers."""

    def __init__(self, function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
        self.function = function
        self.kept: Any = _Inputs.apply(torch.empty(0, requires_grad=True), *inputs)
        kind = inputs[0].device.type
        self.autocast = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        self.count = 0
        self.values: dict[int, Tensor] = {}

    def drop(self, _: Tensor) -> int:
        """The number of a value, in place of it."""
        self.count += 1
        return self.count - 1

    def restore(self, number: int) -> Tensor:
        """The value of a number, which is handed out once: a second gradient computes it anew."""
        if number not in self.values:
            self.values = dict(enumerate(self._values()))
        return self.values.pop(number)

    def _values(self) -> list[Tensor]:
        inputs = [x.detach().requires_grad_(x.requires_grad) for x in self.kept.grad_fn.saved_tensors]
        values: list[Tensor] = []

        def keep(value: Tensor) -> Tensor:
            values.append(value.detach())
            if len(values) == self.count:
                raise _EnoughError
            return value

        hooks = saved_tensors_hooks(keep, lambda value: value)
        with contextlib.suppress(_EnoughError), torch.enable_grad(), torch.autocast(*self.autocast), hooks:
            self.function(*inputs)
        assert len(values) == self.count, "the function did not do the same again"
        return values


class _EnoughError(Exception):
    """Every value is there again."""


class _Inputs(torch.autograd.Function):
    """Keeps tensors as autograd does, which notices when one is changed in place."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        """An empty tensor whose grad_fn has them."""
        ctx.save_for_backward(*tensors[1:])
        return tensors[0].new_empty(0)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        """Nobody asks for it."""
        raise AssertionError("inputs that are kept have no gradient of their own")
