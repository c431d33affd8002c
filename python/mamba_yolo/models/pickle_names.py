"""The names that a pickled Mamba-YOLO module graph may mention, and the inert values that stand for them.

Test: tests/models/test_official.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mamba_yolo.errors import CheckpointError

CLASS_ROOTS = ("torch.nn.", "ultralytics.", "timm.")  # classes from here become nodes
CLASSES = {"types SimpleNamespace"}
STORAGE_SUFFIX = "Storage"
MAX_NAME_SHOWN = 60

# What a call of these gives; the rest of the file never looks inside an Opaque.
REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"
REBUILD_PARAMETERS = {"torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state"}
DICTS = {"collections OrderedDict", "__builtin__ dict", "builtins dict"}
LISTS = {"__builtin__ set", "builtins set", "__builtin__ frozenset", "builtins frozenset", "torch Size"}
ATTRIBUTE = {"__builtin__ getattr", "builtins getattr"}
OPAQUES = {
    "functools partial",
    "torch device",
    "pathlib PosixPath",
    "pathlib PurePosixPath",
    "pathlib WindowsPath",
    "numpy dtype",
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar",
    "_codecs encode",
}
CALLS = {REBUILD_TENSOR, *REBUILD_PARAMETERS, *DICTS, *LISTS, *ATTRIBUTE, *OPAQUES}


@dataclass(frozen=True)
class Name:
    """A global that the file refers to; it stands for nothing and is never looked up."""

    module: str
    attribute: str

    @property
    def is_class(self) -> bool:
        """Whether objects of it may occur in the graph."""
        return self.module.startswith(CLASS_ROOTS) or str(self) in CLASSES

    def __str__(self) -> str:
        return f"{self.module} {self.attribute}"


@dataclass
class Node:
    """A pickled object of some class: its class's name and its attributes."""

    class_name: str
    state: dict[str | int, Any] = field(default_factory=dict)

    @property
    def shown_class(self) -> str:
        """Its class's name for one line of an error."""
        return repr(self.class_name[:MAX_NAME_SHOWN])


class Opaque:
    """A value that the file describes and nobody needs: bound methods, paths, number types."""


def checked_name(module: Any, attribute: Any) -> Name:
    """A name on the lists; every other is refused at its first mention."""
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise TypeError("a name must be text")
    name = Name(module, attribute)
    is_storage = module == "torch" and attribute.endswith(STORAGE_SUFFIX) and attribute.isalnum()
    if not (name.is_class or is_storage or str(name) in CALLS):
        raise CheckpointError(f"it asks for {shown(name)}, which no Mamba-YOLO checkpoint needs; refused")
    return name


def shown(value: Any) -> str:
    """A name for one line of an error."""
    text = f"{value.module}.{value.attribute}" if isinstance(value, Name) else type(value).__name__
    return repr(text[:MAX_NAME_SHOWN])
