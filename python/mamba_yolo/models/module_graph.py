"""State dict of a pickled module graph, within limits: a small file can describe an exponentially larger graph.

Test: tests/models/test_official.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from mamba_yolo.errors import CheckpointError
from mamba_yolo.models.pickle_names import Node

if TYPE_CHECKING:
    from torch import Tensor

MAX_MODULES = 10_000  # the largest network has under a thousand
MAX_MEMBERS = 200_000  # of all modules together: the same dict may be in many
MAX_KEY_LETTERS = 300  # the longest official key has 60
NAME = re.compile(r"\w{1,100}", re.ASCII)


def state_dict(model: Node, *, max_elements: int) -> dict[str, Tensor]:
    """Parameters and persistent buffers of a graph by the names of torch, half precision widened to float32.

    Args:
        model: the root.
        max_elements: of all tensors together.

    Raises:
        CheckpointError: not a graph of modules, or one beyond the limits.
    """
    walk = _Walk(max_elements)
    waiting, num_modules = [("", model)], 0
    while waiting:
        prefix, node = waiting.pop()
        num_modules += 1
        if num_modules > MAX_MODULES or len(prefix) > MAX_KEY_LETTERS:
            raise CheckpointError(
                f"has more than {MAX_MODULES} modules, or names longer than {MAX_KEY_LETTERS} characters; refused"
            )
        walk.take_tensors(prefix, node)
        children = walk.members(node, "_modules").items()
        waiting += [(f"{prefix}{name}.", child) for name, child in children if isinstance(child, Node)]
    return walk.state


class _Walk:
    """What was found so far, and how much of it."""

    def __init__(self, max_elements: int) -> None:
        self.max_elements = max_elements
        self.state: dict[str, Tensor] = {}
        self.num_members = 0
        self.num_elements = 0

    def take_tensors(self, prefix: str, node: Node) -> None:
        """Add the parameters and persistent buffers of one module."""
        transient = self._transient(node)
        for name, tensor in {**self.members(node, "_parameters"), **self.members(node, "_buffers")}.items():
            if not isinstance(tensor, torch.Tensor) or name in transient:
                continue
            self.num_elements += tensor.numel()
            if self.num_elements > self.max_elements:
                raise CheckpointError("its modules share weights so often that they outgrow the file; refused")
            self.state[prefix + name] = tensor.float() if tensor.is_floating_point() else tensor

    def members(self, node: Node, group: str) -> dict[str, Any]:
        """Named members of a module."""
        members = node.state.get(group) or {}
        if isinstance(members, dict):
            self._count(len(members))
        if not isinstance(members, dict) or not all(isinstance(n, str) and NAME.fullmatch(n) for n in members):
            raise CheckpointError(f"{group} of a {node.shown_class} is not a dict of names")
        return members

    def _transient(self, node: Node) -> set[str]:
        """Buffers that a module keeps out of its state dict."""
        names = node.state.get("_non_persistent_buffers_set")
        if not isinstance(names, list):
            return set()
        self._count(len(names))
        return {name for name in names if isinstance(name, str)}

    def _count(self, num_members: int) -> None:
        self.num_members += num_members
        if self.num_members > MAX_MEMBERS:
            raise CheckpointError(f"its modules have more than {MAX_MEMBERS} members; refused")
