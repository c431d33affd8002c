"""Read a pickled module graph as data: an interpreter of its instructions that can call nothing.

Classes become inert `Node`s, a few known functions become plain values, and every other name in the file is refused.
Dict keys are strings or integers only, so that no nested value is ever hashed or compared.
Format: the comments of the standard library's pickletools. Test: tests/models/test_official.py.
"""

from __future__ import annotations

import pickletools
from typing import TYPE_CHECKING, Any

from mamba_yolo.errors import CheckpointError
from mamba_yolo.models.pickle_names import (
    ATTRIBUTE,
    CLASSES,
    DICTS,
    LISTS,
    OPAQUES,
    REBUILD_PARAMETERS,
    REBUILD_TENSOR,
    Name,
    Node,
    Opaque,
    checked_name,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WORK = 1_000_000  # instructions and copied items; the largest network's graph has 80,000
MAX_INT_KEY = 2**20  # larger ones can be made to collide in a dict


def read_pickle(data: bytes, load_storage: Callable[[Any], Any], rebuild_tensor: Callable[[list[Any]], Any]) -> Any:
    """The value that a pickle describes, without running anything in it.

    Args:
        data: protocol 2 or later.
        load_storage: turns a persistent id into a storage.
        rebuild_tensor: turns the arguments of a tensor's rebuild call into a tensor.

    Raises:
        CheckpointError: a name or an instruction that is not on the lists above, or damaged data.
    """
    reader = _Reader(load_storage, rebuild_tensor)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            reader.work(1)
            reader.step(opcode.name, argument)
        return reader.pop()
    except (ValueError, IndexError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"its pickle is damaged: {type(error).__name__}") from error


class _Reader:
    """The stack, the marks and the memo of a pickle being read."""

    def __init__(self, load_storage: Callable[[Any], Any], rebuild_tensor: Callable[[list[Any]], Any]) -> None:
        self.load_storage = load_storage
        self.rebuild_tensor = rebuild_tensor
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.work_done = 0

    def work(self, amount: int) -> None:
        """Count instructions and copied items: a short file can ask for the same long list again and again."""
        self.work_done += amount
        if self.work_done > MAX_WORK:
            raise CheckpointError(f"its pickle asks for more than {MAX_WORK} steps; refused")

    def step(self, opcode: str, argument: Any) -> None:
        """Carry out one instruction."""
        if opcode in _ARGUMENTS:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode]())
        elif opcode in _MEMORIZE:
            self.memo[len(self.memo) if opcode == "MEMOIZE" else argument] = self.stack[-1]
        elif opcode in _RECALL:
            self.stack.append(self.memo[argument])
        elif opcode in _TUPLES:
            self.stack.append(tuple([self.pop() for _ in range(_TUPLES[opcode])][::-1]))
        elif opcode == "GLOBAL":
            module, _, attribute = argument.partition(" ")
            self.stack.append(checked_name(module, attribute))
        elif opcode in _ACTIONS:
            _ACTIONS[opcode](self)
        elif opcode not in _SILENT:
            raise CheckpointError(f"its pickle uses the instruction {opcode}, which no Mamba-YOLO checkpoint needs")

    def pop(self) -> Any:
        """The topmost value, which must lie above the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise IndexError("stack underflow")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        """All values above the last mark."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values


def _mark(reader: _Reader) -> None:
    reader.marks.append(len(reader.stack))


def _tuple(reader: _Reader) -> None:
    values = reader.pop_to_mark()
    reader.stack.append(tuple(values))


def _append(reader: _Reader) -> None:
    _extend(reader, [reader.pop()])


def _appends(reader: _Reader) -> None:
    _extend(reader, reader.pop_to_mark())


def _extend(reader: _Reader, values: list[Any]) -> None:
    target = reader.stack[-1]
    if not isinstance(target, list):
        raise TypeError("not a list")
    target.extend(values)


def _set_item(reader: _Reader) -> None:
    value, key = reader.pop(), reader.pop()
    _update(reader.stack[-1], [key, value])


def _set_items(reader: _Reader) -> None:
    pairs = reader.pop_to_mark()
    _update(reader.stack[-1], pairs)


def _update(target: Any, flat_pairs: list[Any]) -> None:
    """Put key, value, key, value ... into a dict."""
    if not isinstance(target, dict) or len(flat_pairs) % 2:
        raise TypeError("not a dict, or half a pair")
    for key, value in zip(flat_pairs[::2], flat_pairs[1::2], strict=True):
        if not isinstance(key, str) and not (isinstance(key, int) and abs(key) < MAX_INT_KEY):
            raise CheckpointError(
                f"a dict in it has a key of type {type(key).__name__}, expected text or a small number"
            )
        target[key] = value


def _stack_global(reader: _Reader) -> None:
    attribute, module = reader.pop(), reader.pop()
    reader.stack.append(checked_name(module, attribute))


def _reduce(reader: _Reader) -> None:
    arguments, function = reader.pop(), reader.pop()
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise CheckpointError(f"it calls a {type(function).__name__}, which is never done for a file")
    reader.stack.append(_result(reader, function, list(arguments)))


def _result(reader: _Reader, function: Name, arguments: list[Any]) -> Any:
    """What a known function would have given."""
    name = str(function)
    if name == REBUILD_TENSOR:
        return reader.rebuild_tensor(arguments)
    if name in REBUILD_PARAMETERS:
        return arguments[0]
    if name in DICTS:
        made: dict[str | int, Any] = {}
        for pair in _items(reader, arguments):
            _update(made, list(pair) if isinstance(pair, list | tuple) and len(pair) == 2 else [None])
        return made
    if name in LISTS:
        return _items(reader, arguments)
    if name in CLASSES and not arguments:
        return Node(function.attribute)
    if name in ATTRIBUTE:
        _check_attribute(arguments)
    elif name not in OPAQUES:
        raise CheckpointError(f"it calls {shown(function)}, which is never done for a file")
    return Opaque()


def _items(reader: _Reader, arguments: list[Any]) -> list[Any]:
    """Copy of the list or tuple that a container is made from."""
    items = arguments[0] if arguments else []
    if not isinstance(items, list | tuple):
        raise TypeError("not a list")
    reader.work(len(items))
    return list(items)


def _check_attribute(arguments: list[Any]) -> None:
    """Allow the mention of a plain attribute of a module or class, as bound methods are stored."""
    owner, attribute = arguments
    known_owner = isinstance(owner, Node) or (isinstance(owner, Name) and owner.is_class)
    if not known_owner or not isinstance(attribute, str) or attribute.startswith("_"):
        raise CheckpointError("it reaches for an attribute that no Mamba-YOLO checkpoint needs")


def _new_object(reader: _Reader) -> None:
    arguments, cls = reader.pop(), reader.pop()
    if not isinstance(cls, Name) or not cls.is_class or arguments != ():
        raise CheckpointError(f"it makes an object of {shown(cls)}, which no Mamba-YOLO checkpoint needs")
    reader.stack.append(Node(cls.attribute))


def _build(reader: _Reader) -> None:
    state = reader.pop()
    target = reader.stack[-1]
    if isinstance(target, Node):
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if part is not None and not isinstance(part, dict):
                raise TypeError("not the attributes of an object")
            reader.work(len(part or {}))
            target.state.update(part or {})
    elif not isinstance(target, Opaque | dict):
        raise TypeError("not an object")


def _persistent(reader: _Reader) -> None:
    reader.stack.append(reader.load_storage(reader.pop()))


_NUMBERS = frozenset(["BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"])
_TEXTS = frozenset(["BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"])
_ARGUMENTS = _NUMBERS | _TEXTS
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_MEMORIZE = frozenset(["BINPUT", "LONG_BINPUT", "MEMOIZE"])
_RECALL = frozenset(["BINGET", "LONG_BINGET"])
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_SILENT = frozenset(["PROTO", "FRAME", "STOP"])
_ACTIONS: dict[str, Callable[[_Reader], None]] = {
    "MARK": _mark,
    "TUPLE": _tuple,
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new_object,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
