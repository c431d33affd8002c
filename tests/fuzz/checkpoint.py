"""Official checkpoints: read as one, or refused with one line of moderate length; nothing in them is ever run.

Damage to the file, damage to the pickle inside a sound archive, programs of random pickle instructions, and small
files that ask for much. Whatever the interpreter reports as run or imported meanwhile is a finding.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import pickletools
import sys
import tempfile
import zipfile
from pathlib import Path

import torch

from fuzz.mutate import EDGES, mutated
from mamba_yolo.errors import MambaYoloError
from mamba_yolo.models import build_detector
from mamba_yolo.models.official import convert_state_dict, export_state_dict, read_checkpoint
from official_files import official_bytes

FILE = Path(tempfile.mkdtemp()) / "weights.pt"
LONGEST_MESSAGE = 1000
FORBIDDEN = ("exec", "compile", "import", "os.", "subprocess.", "socket.", "ctypes.", "shutil.", "pickle.find_class")
CODES = {op.name: op.code.encode("latin1") for op in pickletools.opcodes}
NAMES = [
    "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "collections OrderedDict", "builtins set",
    "builtins getattr", "builtins eval", "os system", "torch.nn.modules.conv Conv2d", "torch FloatStorage",
    "torch HalfStorage", "ultralytics.nn.tasks DetectionModel", "types SimpleNamespace", "functools partial",
    "torch Size", "posix system", "torch.nn os.system", "torch.hub load",
]  # fmt: skip
TEXTS = [
    "model",
    "ema",
    "names",
    "_parameters",
    "_buffers",
    "_modules",
    "weight",
    "storage",
    "0",
    "1",
    "cpu",
    "__class__",
]

seen: list[str] = []


def watch(event, arguments):
    """Note what should not happen while a file is read."""
    if watching and event.startswith(FORBIDDEN):
        seen.append((event, arguments[0]))


watching = False
sys.addaudithook(watch)


def members_of(data):
    """Name to bytes of a zip archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def archive(members, **options):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **options) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def seeds():
    """A network of 1/16 width with few weights, and a module of two tensors."""
    torch.manual_seed(0)
    network = export_state_dict(build_detector("n", 3, width=0.0625).state_dict())
    small = {"model.0.conv.0.weight": torch.rand(2, 3), "model.0.conv.1.running_mean": torch.rand(4)}
    options = {"optimizer": {"state": {0: {"step": torch.ones(1)}}}, "train_args": {"imgsz": 640}, "date": "today"}
    return official_bytes(network, {0: "a", 1: "b", 2: "c"}), official_bytes(small, ["a"], "segment", **options)


LARGE, SMALL = seeds()
PICKLE = next(name for name in members_of(SMALL) if name.endswith("data.pkl"))

for encoding in ("cp437", "raw_unicode_escape"):  # what reading loads lazily is loaded
    b"a".decode(encoding)
for sound in (LARGE, SMALL):
    FILE.write_bytes(sound)
    with contextlib.suppress(MambaYoloError):  # two tensors are no network
        convert_state_dict(read_checkpoint(FILE).state_dict)


def boundaries(data):
    """Where instructions begin, after the first."""
    return [place for _, _, place in itertools.islice(pickletools.genops(data), 1, None)]


PARTS = {data: members_of(data) for data in (LARGE, SMALL)}
STARTS = {data: boundaries(PARTS[data][PICKLE]) for data in (LARGE, SMALL)}


def instruction(rng):
    """One pickle instruction with a random argument."""
    kind = rng.choice(["plain", "plain", "memo", "text", "global", "number"])
    if kind == "memo":
        return rng.choice([b"q", b"h"]) + bytes([rng.randrange(8)])
    if kind == "text":
        word = rng.choice(TEXTS).encode() * rng.choice([1, 1, 1, 1000])
        return b"X" + len(word).to_bytes(4, "little") + word
    if kind == "global":
        return b"c" + rng.choice(NAMES).replace(" ", "\n").encode() + b"\n"
    if kind == "number":
        return b"J" + (rng.choice(EDGES) & 0xFFFF_FFFF).to_bytes(4, "little")
    code = rng.choice(list(CODES))
    return CODES[code] + (rng.randbytes(rng.choice([0, 1, 4])) if rng.random() < 0.1 else b"")


def program(rng):
    """Random instructions, some many times over."""
    return b"".join(instruction(rng) * rng.choice([1, 1, 1, 1, 2, 50, 5000]) for _ in range(rng.randrange(1, 40)))


def greedy(rng):
    """Build something long once, and something from it many times."""
    long = rng.choice([b"](%se", b"}(%su"]) % (
        rng.choice([b"NN", b"X\x01\x00\x00\x00aN", b"K\x01N"]) * rng.choice([10, 50_000])
    )
    graph = b"cultralytics.nn.tasks\nDetectionModel\n)\x81"
    group = rng.choice(TEXTS).encode()
    uses = [
        b"c__builtin__\nset\nh\x00\x85R",
        b"ccollections\nOrderedDict\nh\x00\x85R",
        graph + b"h\x00b",
        b"h\x00",
        b"h\x00\x85",
    ]
    uses.append(graph + b"}X" + len(group).to_bytes(4, "little") + group + b"h\x00sb")
    return b"\x80\x02" + long + b"q\x00" + rng.choice(uses) * rng.choice([1, 100, 20_000]) + program(rng) + b"."


def changed(rng):
    """The bytes of one file."""
    kind = rng.choice(["file", "pickle", "program", "splice", "greedy", "zip"])
    data = LARGE if rng.random() < 0.1 else SMALL
    if kind == "file":
        return mutated(rng, [data])
    members = dict(PARTS[data])
    if kind == "pickle":
        members[PICKLE] = mutated(rng, [members[PICKLE]])
    elif kind == "program":
        members[PICKLE] = b"\x80\x02" + program(rng) + b"."
    elif kind == "splice":
        at = rng.choice(STARTS[data])
        members[PICKLE] = members[PICKLE][:at] + program(rng) + members[PICKLE][at:]
    elif kind == "greedy":
        members[PICKLE] = greedy(rng)
    else:
        count, size = rng.choice([(0, 0), (3, 10**6), (3000, 1)])
        members |= {f"{PICKLE[:-8]}data/x{i}": bytes(size) for i in range(count)}
        packed = archive(members, compression=rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
        at = len(packed) - rng.choice([300, 1000])
        return packed[:at] + mutated(rng, [packed[at:]])
    return archive(members)


def attempt(rng):
    global watching
    FILE.write_bytes(changed(rng))
    seen.clear()
    watching = True
    try:
        checkpoint = read_checkpoint(FILE)
    except MambaYoloError as error:
        checkpoint = None
        assert "\n" not in str(error), error  # noqa: PT017
        assert len(str(error)) < LONGEST_MESSAGE, len(str(error))  # noqa: PT017
    finally:
        watching = False
    assert not seen, seen
    if checkpoint is not None:
        assert set(checkpoint.names) == set(range(checkpoint.num_classes))
        try:
            convert_state_dict(checkpoint.state_dict)
        except MambaYoloError as error:
            assert "\n" not in str(error), error  # noqa: PT017
