"""Official checkpoints: keys both ways, files read as data, hostile and damaged files refused."""

import contextlib
import io
import pickle
import random
import struct
import zipfile

import pytest
import torch

from helpers import golden_weights, shared
from mamba_yolo.errors import CheckpointError, MissingFileError
from mamba_yolo.models import Detector, build_detector, preset_config
from mamba_yolo.models.official import config_from_official, convert_state_dict, export_state_dict, read_checkpoint
from mamba_yolo.models.pickle_reader import read_pickle

TASKS = ["detect", "segment"]
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000NK\x04tQ"


def checkpoint_file(task):
    return shared(f"goldens/official_width_1_16_{task}.pt")


@pytest.mark.parametrize("task", TASKS)
def test_file_equals_the_recorded_weights(task):
    checkpoint, expected = read_checkpoint(checkpoint_file(task)), golden_weights(task)
    assert checkpoint.state_dict.keys() == expected.keys()
    for key, tensor in expected.items():
        assert checkpoint.state_dict[key].equal(tensor), key
        assert checkpoint.state_dict[key].dtype == tensor.dtype
    assert (checkpoint.variant, checkpoint.task, checkpoint.num_classes) == ("v1", task, 5)
    assert checkpoint.names == {i: str(i) for i in range(5)}


@pytest.mark.parametrize("task", TASKS)
def test_file_loads_into_the_network(task):
    state = read_checkpoint(checkpoint_file(task)).state_dict
    Detector(config_from_official(state)).load_state_dict(convert_state_dict(state))


@pytest.mark.parametrize("task", TASKS)
def test_export_is_the_inverse(task):
    official = golden_weights(task)
    exported = export_state_dict(convert_state_dict(official))
    assert exported.keys() == official.keys()
    assert all(exported[key].equal(official[key]) for key in official)


@pytest.mark.parametrize("variant", ["v1", "v2"])
@pytest.mark.parametrize("name", ["n", "t", "b", "l", "t-seg"])
def test_config_is_found_from_the_shapes(name, variant):
    config = preset_config(name, 7, variant)
    with torch.device("meta"):
        state = build_detector(name, 7, variant).state_dict()
    assert config_from_official(export_state_dict(state)) == config


def test_half_precision_is_widened():
    halves = {k: t.half() if t.is_floating_point() else t for k, t in golden_weights("detect").items()}
    assert {t.dtype for t in convert_state_dict(halves).values()} == {torch.float32, torch.int64}


def test_unknown_and_missing_keys_are_listed():
    state = golden_weights("detect")
    state["model.99.strange"] = state.pop("model.8.cv1.conv.weight")
    with pytest.raises(CheckpointError, match=r"unknown model\.99\.strange; missing model\.8\.cv1\.conv\.weight"):
        convert_state_dict(state)


def test_nothing_at_all():
    with pytest.raises(CheckpointError, match="missing model"):
        convert_state_dict({})


def test_wrong_shape_names_the_key():
    state = golden_weights("detect")
    state["model.8.cv1.conv.weight"] = torch.zeros(3, 3)
    with pytest.raises(CheckpointError, match=r"model\.8\.cv1\.conv\.weight must have shape .* got \(3, 3\)"):
        convert_state_dict(state)


def test_other_bins_are_refused():
    state = golden_weights("detect")
    state["model.21.dfl.conv.weight"] = state["model.21.dfl.conv.weight"] + 1
    with pytest.raises(CheckpointError, match="must hold 0 to 15"):
        convert_state_dict(state)


def test_sizes_that_no_network_has():
    state = golden_weights("detect")
    state["model.7.mlp.fc2.bias"] = torch.zeros(72)
    with pytest.raises(CheckpointError, match="no size of Mamba-YOLO"):
        convert_state_dict(state)


@pytest.mark.parametrize("switch", [{"neck_block": "c2f"}, {"pyramid": "p2-p5"}, {"downsampling": "conv"}], ids=str)
def test_ablations_have_no_official_form(switch):
    with torch.device("meta"):
        state = build_detector("n", **switch).state_dict()
    with pytest.raises(CheckpointError, match="not the keys of an official Mamba-YOLO network"):
        export_state_dict(state)


# Files ------------------------------------------------------------------------------------------------------------


def archive(path, data, *, members=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("model/data.pkl", data)
        for name, content in members:
            file.writestr(f"model/{name}", content)
    return path


def altered(path, target, change):
    """Copy of a golden checkpoint with its pickle changed."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as file:
        for member in source.infolist():
            content = source.read(member)
            file.writestr(member.filename, change(content) if member.filename.endswith("data.pkl") else content)
    return target


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.reduction = (function, arguments)

    def __reduce__(self):
        return self.reduction


def hostile_pickles(marker):
    import os

    harm = f"open({str(marker)!r}, 'w')"
    return {
        "os.system": pickle.dumps({"model": Call(os.system, f"touch {marker}")}, 2),
        "eval": pickle.dumps({"model": Call(eval, harm)}, 4),
        "exec": pickle.dumps({"model": Call(exec, harm)}, 2),
        "getattr": pickle.dumps({"model": Call(getattr, Call(__import__, "os"), "system")}, 2),
        "getattr of text": pickle.dumps({"model": Call(getattr, "text", "format")}, 2),
        "dunder": b"\x80\x02cbuiltins\ngetattr\nctorch.nn.modules\nLinear\nX\x09\x00\x00\x00__class__\x86R.",
        "dotted name": b"\x80\x04\x8c\x05torch\x8c\x0enn.os.system\x93.",
        "class called": b"\x80\x02ctorch.nn.modules.linear\nLinear\nK\x01K\x01\x86R.",
        "result called": b"\x80\x02cfunctools\npartial\n)R)R.",
        "old instruction": b"(S'touch'\nios\nsystem\n.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent id": b"\x80\x02X\x01\x00\x00\x00aQ.",
        "nested persistent id": b"\x80\x02X\x01\x00\x00\x00aQQ.",
        "storage of another type": b"\x80\x02" + STORAGE.replace(b"FloatStorage", b"QuantStorage") + b".",
        "half a pair": b"\x80\x02})s.",
        "tuple key": b"\x80\x02})Ns.",
        "build of a number": b"\x80\x02K\x01}b.",
        "endless memo": b"\x80\x02h\x05.",
        "nothing": b"\x80\x02.",
        "an open mark": b"\x80\x02N(.",
    }


@pytest.mark.parametrize("attack", hostile_pickles("x"))
def test_hostile_pickle_is_refused_and_not_run(attack, tmp_path):
    marker = tmp_path / "harm"
    path = archive(tmp_path / "bad.pt", hostile_pickles(marker)[attack])
    with pytest.raises(CheckpointError, match=r"bad\.pt: ") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("attribute", [b"__class__", b"_private0"])
def test_hidden_attributes_are_out_of_reach(attribute, tmp_path):
    data = b"\x80\x02cbuiltins\ngetattr\nctorch.nn.modules\nLinear\nX\x09\x00\x00\x00" + attribute + b"\x86R."
    with pytest.raises(CheckpointError, match="reaches for an attribute"):
        read_checkpoint(archive(tmp_path / "bad.pt", data))


def test_hostile_call_inside_a_good_checkpoint(tmp_path):
    call = b"cos\nsystem\nX\x04\x00\x00\x00true\x85R0"
    path = altered(checkpoint_file("detect"), tmp_path / "bad.pt", lambda data: data[:2] + call + data[2:])
    with pytest.raises(CheckpointError, match=r"asks for 'os\.system', which no Mamba-YOLO checkpoint needs; refused"):
        read_checkpoint(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.99, 0.9999])
def test_truncated_file(share, tmp_path):
    data = checkpoint_file("detect").read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=r"cut\.pt: not a whole torch archive"):
        read_checkpoint(path)


@pytest.mark.parametrize("cut", [1, 10, 1000, 100_000])
def test_truncated_pickle(cut, tmp_path):
    path = altered(checkpoint_file("detect"), tmp_path / "cut.pt", lambda data: data[:-cut])
    with pytest.raises(CheckpointError, match=r"cut\.pt: "):
        read_checkpoint(path)


def test_damaged_storage(tmp_path):
    data = bytearray(checkpoint_file("detect").read_bytes())
    weights = golden_weights("detect")["model.8.cv2.conv.weight"].half().numpy().tobytes()
    data[data.index(weights)] ^= 0xFF
    path = tmp_path / "flipped.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"flipped\.pt: "):
        read_checkpoint(path)


def test_zip_bomb(tmp_path):
    path = archive(tmp_path / "bomb.pt", bytes(10_000_000), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed or encrypted members"):
        read_checkpoint(path)


def test_overlapping_members(tmp_path):
    path = archive(tmp_path / "overlap.pt", b"\x80\x02N.", members=[("data/0", bytes(1000))])
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", 10**9, 10**9)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="more bytes than the file has"):
        read_checkpoint(path)


def test_huge_pickle(tmp_path):
    path = archive(tmp_path / "huge.pt", bytes(17 * 2**20))
    with pytest.raises(CheckpointError, match="its pickle has 17825792 bytes"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "view",
    [
        b"K\x00K\x05\x85K\x01\x85",
        b"K\x03K\x02\x85K\x01\x85",
        b"K\x00K\x02\x85K\x04\x85",
        b"J\xff\xff\xff\xffK\x01\x85K\x01\x85",
    ],
    ids=["too long", "late", "wide steps", "negative"],
)
def test_tensor_beyond_its_storage(view, tmp_path):
    data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + view + b"\x89NtR."
    path = archive(tmp_path / "bad.pt", data, members=[("data/0", bytes(16))])
    with pytest.raises(CheckpointError, match="beyond its storage"):
        read_checkpoint(path)


def nested_modules(levels):
    """A pickle of modules that each hold the next one twice."""
    module = b"cultralytics.nn.tasks\nDetectionModel\n)\x81"
    graph = module
    for level in range(levels):
        memo = bytes([level])
        twice = b"(X\x01\x00\x00\x00a" + graph + b"q" + memo + b"X\x01\x00\x00\x00bh" + memo + b"u"
        graph = module + b"}X\x08\x00\x00\x00_modules}" + twice + b"sb"
    return b"\x80\x02}X\x05\x00\x00\x00model" + graph + b"s."


def test_modules_shared_exponentially(tmp_path):
    with pytest.raises(CheckpointError, match="more than 10000 modules"):
        read_checkpoint(archive(tmp_path / "laughs.pt", nested_modules(60)))


def test_weights_shared_beyond_the_size_of_the_file(tmp_path):
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE.replace(b"K\x04t", b"M\xe8\x03t")
    tensor += b"K\x00M\xe8\x03\x85K\x01\x85\x89NtRq\x00"
    entries = b"(X\x01\x00\x00\x00a" + tensor
    entries += b"".join(b"X\x01\x00\x00\x00%ch\x00" % letter for letter in b"bcdefghijk") + b"u"
    module = b"cultralytics.nn.tasks\nDetectionModel\n)\x81}X\x0b\x00\x00\x00_parameters}" + entries + b"sb"
    data = b"\x80\x02}X\x05\x00\x00\x00model" + module + b"s."
    with pytest.raises(CheckpointError, match="outgrow the file"):
        read_checkpoint(archive(tmp_path / "shared.pt", data, members=[("data/0", bytes(4000))]))


def test_module_that_holds_itself(tmp_path):
    module = b"cultralytics.nn.tasks\nDetectionModel\n)\x81q\x00"
    data = b"\x80\x02}X\x05\x00\x00\x00model" + module + b"}X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00ah\x00ssbs."
    with pytest.raises(CheckpointError, match="more than 10000 modules"):
        read_checkpoint(archive(tmp_path / "loop.pt", data))


def test_other_models_are_named(tmp_path):
    data = b"\x80\x02}X\x05\x00\x00\x00modelcultralytics.nn.tasks\nPoseModel\n)\x81s."
    with pytest.raises(CheckpointError, match="its model is 'PoseModel', expected DetectionModel or SegmentationModel"):
        read_checkpoint(archive(tmp_path / "pose.pt", data))


def test_plain_state_dict_is_not_an_official_checkpoint(tmp_path):
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, buffer)
    path = tmp_path / "plain.pt"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="its model is 'NoneType'"):
        read_checkpoint(path)


def test_legacy_format(tmp_path):
    path = tmp_path / "old.pt"
    torch.save({"model": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="not a whole torch archive"):
        read_checkpoint(path)


def test_no_such_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.pt: no such file"):
        read_checkpoint(tmp_path / "none.pt")


def test_folder_and_other_zip(tmp_path):
    with pytest.raises(CheckpointError, match="not a whole torch archive"):
        read_checkpoint(tmp_path)
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"without the one data\.pkl"):
        read_checkpoint(path)


@pytest.mark.parametrize("seed", range(5))
def test_random_damage_gives_one_error_or_a_value(seed):
    with zipfile.ZipFile(checkpoint_file("detect")) as file:
        data = file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))[:20_000]
    rng = random.Random(seed)
    for _ in range(40):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        with contextlib.suppress(CheckpointError):
            read_pickle(bytes(damaged), lambda _: torch.zeros(1), lambda _: torch.zeros(1))


def test_odd_shapes():
    state = golden_weights("detect")
    for key in ("model.1.mlp.fc2.bias", "model.21.cv3.0.2.weight", "model.1.op.A_logs"):
        with pytest.raises(CheckpointError, match="cannot have shape"):
            config_from_official(state | {key: torch.zeros(())})
