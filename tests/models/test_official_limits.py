"""Official checkpoints that are small and ask for much: refused within a moment, in one line of moderate length."""

import pickle
import time
import zipfile

import pytest

from mamba_yolo.errors import CheckpointError
from mamba_yolo.models import presets
from mamba_yolo.models.official import read_checkpoint
from mamba_yolo.models.pickle_names import Node
from mamba_yolo.models.pickle_reader import read_pickle

MANY = 100_000
MODULE = b"cultralytics.nn.tasks\nDetectionModel\n)\x81"
SECONDS = 10.0  # generous for a busy machine; without the limits these take minutes, or all memory


def text(word):
    return b"X" + len(word).to_bytes(4, "little") + word


def module_of(attributes):
    return MODULE + b"}(" + attributes + b"ub"


def names(count):
    return b"".join(text(b"n%d" % i) + b"N" for i in range(count))


def again(what, times):
    """Build `what` from memo entry 0, many times."""
    return what * times


def file_of(path, data, members=()):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", data)
        for name, content in members:
            file.writestr(f"m/{name}", content)
    return path


LIST = b"\x80\x02](" + b"N" * MANY + b"eq\x00"
PAIRS = b"\x80\x02](" + (text(b"a") + b"N\x86") * 20_000 + b"eq\x00"
DICT = b"\x80\x02}(" + names(MANY) + b"uq\x00"
LEAF = b"\x80\x02}(" + names(20_000) + b"uq\x00"


def root(graph):
    return b"}" + text(b"model") + graph + b"s."


def modules_with(group, count):
    """A module of `count` children that share memo entry 0 as their `group`."""
    child = module_of(text(group) + b"h\x00")
    children = b"".join(text(b"c%d" % i) + child for i in range(count))
    return root(module_of(text(b"_modules") + b"}(" + children + b"u"))


GREEDY = {
    "copies of a list": LIST + again(b"c__builtin__\nset\nh\x00\x85R", 2000) + b"N.",
    "copies of pairs": PAIRS + again(b"ccollections\nOrderedDict\nh\x00\x85R", 2000) + b"N.",
    "copies of attributes": DICT + again(MODULE + b"h\x00b", 2000) + b"N.",
    "millions of dicts": b"\x80\x02" + b"}" * 8_000_000 + b".",
    "shared parameters": LEAF + modules_with(b"_parameters", 2000),
    "shared children": LEAF + modules_with(b"_modules", 2000),
    "shared transient": b"\x80\x02](" + b"N" * 20_000 + b"eq\x00" + modules_with(b"_non_persistent_buffers_set", 2000),
    "long name": b"\x80\x02" + root(module_of(text(b"_modules") + b"}" + text(b"n" * 10**6) + MODULE + b"s")),
    "line breaks in a class": b"\x80\x02" + root(b"ctorch.nn.x\n" + b"A" * 10**6 + b"\n)\x81"),
    "line breaks in a name": b"\x80\x02" + root(module_of(text(b"_parameters") + b"}" + text(b"a\nb") + b"Ns")),
    "keys of one hash": b"\x80\x02}("
    + b"".join(pickle.dumps(i * (2**61 - 1), 2)[2:-1] + b"N" for i in range(20_000))
    + b"u.",
    "tensor as sizes": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00NN\x89NtR.",
}
STEPS, MEMBERS, NAMES = "more than 1000000 steps; refused", "more than 200000 members; refused", "not a dict of names"
MESSAGES = {
    "copies of a list": STEPS,
    "copies of pairs": STEPS,
    "copies of attributes": STEPS,
    "millions of dicts": STEPS,
    "shared parameters": MEMBERS,
    "shared children": MEMBERS,
    "shared transient": MEMBERS,
    "long name": NAMES,
    "line breaks in a class": r"its model is 'A{60}'",
    "line breaks in a name": NAMES,
    "keys of one hash": "expected text or a small number",
    "tensor as sizes": "a tensor without a storage",
}


@pytest.mark.parametrize("attack", GREEDY)
def test_greedy_file_is_refused_at_once(attack, tmp_path):
    path = file_of(tmp_path / "greedy.pt", GREEDY[attack])
    started = time.process_time()
    with pytest.raises(CheckpointError, match=rf"greedy\.pt: .*{MESSAGES[attack]}") as caught:
        read_checkpoint(path)
    assert time.process_time() - started < SECONDS
    message = str(caught.value).replace(str(tmp_path), "")
    assert "\n" not in message
    assert len(message) < 400


def test_deep_modules_have_short_names(tmp_path):
    graph = MODULE
    for _ in range(400):
        graph = module_of(text(b"_modules") + b"}" + text(b"n") + graph + b"s")
    with pytest.raises(CheckpointError, match="names longer than 300 characters"):
        read_checkpoint(file_of(tmp_path / "deep.pt", b"\x80\x02" + root(graph)))


@pytest.mark.parametrize("step", [b"\x85", b"]a", b"\x86"], ids=["tuples", "lists", "pairs"])
def test_deep_nesting_is_read_and_let_go(step):
    start = b"N" if step != b"]a" else b""
    with_inner = {b"\x85": b"\x85", b"]a": b"]", b"\x86": b"N\x86"}[step]
    closing = b"a" * 299_999 if step == b"]a" else b""
    value = read_pickle(b"\x80\x02" + start + with_inner * 300_000 + closing + b".", None, None)
    assert isinstance(value, tuple | list)


def test_many_storages_take_time_in_proportion(tmp_path):
    count = 9_000
    entry = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n%sNK\x01tQ"
    data = b"\x80\x02" + b"".join(entry % text(b"%d" % i) for i in range(count)) + b"N."
    path = file_of(tmp_path / "many.pt", data, [(f"data/{i}", b"\0\0\0\0") for i in range(count)])
    started = time.process_time()
    with pytest.raises(CheckpointError, match="holds NoneType at its root"):
        read_checkpoint(path)
    assert time.process_time() - started < SECONDS


def test_more_members_than_any_checkpoint(tmp_path):
    path = file_of(tmp_path / "many.pt", b"\x80\x02N.", [(f"data/{i}", b"") for i in range(10_001)])
    with pytest.raises(CheckpointError, match="has 10002 members, more than 10000"):
        read_checkpoint(path)


def test_storage_names_and_counts(tmp_path):
    entry = b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\n%sN%stQ."
    for key, count, message in (
        (b"../0", b"K\x01", "not a storage"),
        (b"0" * 1000, b"K\x01", "not a storage"),
        (b"7", b"K\x01", "has no member 'data/7'"),
        (b"0", b"K\x02", "storage 0 has 1 elements, its pickle says another number"),
        (b"0", text(b"1"), "its pickle says another number"),
    ):
        path = file_of(tmp_path / "bad.pt", entry % (text(key), count), [("data/0", b"\0\0\0\0")])
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(path)


def test_a_storage_has_one_type(tmp_path):
    entry = b"(X\x07\x00\x00\x00storagectorch\n%sStorage\nX\x01\x00\x00\x000NK\x01tQ"
    data = b"\x80\x02" + entry % b"Float" + entry % b"Int" + b"."
    with pytest.raises(CheckpointError, match="storage 0 is used with two types"):
        read_checkpoint(file_of(tmp_path / "two.pt", data, [("data/0", b"\0\0\0\0")]))


def test_names_of_configs():
    assert presets.describe(presets.preset_config("l-seg", 3, "v2")) == "mamba-yolo-l-seg v2"
    odd = presets.preset_config("t", width=0.0625)
    assert presets.describe(odd) == "mamba-yolo-(depth 0.33, width 0.0625, at most 1024) v1"
    assert presets.describe(presets.preset_config("t", local_spatial=False)) == "mamba-yolo-t ablation"


def test_a_node_shows_the_start_of_its_class():
    assert Node("A\n" + "b" * 100).shown_class == repr("A\n" + "b" * 58)
