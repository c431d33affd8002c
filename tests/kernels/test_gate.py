"""What the compiler made of the kernels, read from the shipped cubins: registers, stack, arguments, loops.

A record of section .nv.info is (format, attribute, size or value): 0x2f registers and 0x11 stack of a function, 0x19
bytes of arguments, 0x05 most threads. Budgets are those of NVRTC 12.9; they are the performance test without a GPU.
"""

import re
import struct
import subprocess
import zipfile
from importlib import metadata

import pytest

from mamba_yolo.ops import cuda_arguments
from mamba_yolo.ops.cuda_images import ARCHIVE

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
# Per kernel: arguments, most threads, registers.
BUDGETS = {
    "scan_summary": (cuda_arguments.SCAN_FORWARD, 128, 96),
    "scan_forward": (cuda_arguments.SCAN_FORWARD, 128, 96),
    "scan_sweep32": (cuda_arguments.SCAN_FORWARD, 128, 255),
    "scan_sweep16": (cuda_arguments.SCAN_FORWARD, 128, 224),
    "scan_sweep8": (cuda_arguments.SCAN_FORWARD, 128, 208),
    "scan_sweep4": (cuda_arguments.SCAN_FORWARD, 128, 160),
    "scan_adjoint": (cuda_arguments.SCAN_BACKWARD, 128, 128),
    "scan_backward": (cuda_arguments.SCAN_BACKWARD, 64, 255),
    "scan_sum": (cuda_arguments.SCAN_SUM, 128, 64),
    "norm_gate": (cuda_arguments.NORM_GATE, 128, 64),
}
# Bytes of stack where there are any: for Blackwell the compiler arranges the backward scan otherwise.
STACK = {("scan_backward", "sm_100"): 40, ("scan_backward", "sm_120"): 64}
# Instructions in the innermost loop with exponentials and the state updates it makes: sm_90, float32. A loop over ranks
# in it counts once, the branches for given steps and for no softplus count too.
LOOPS = {
    "scan_sweep32": (1730, 256),  # 8 tokens, 2 channels, 16 states
    "scan_sweep16": (935, 128),  # 8 tokens, 16 states
    "scan_sweep8": (1025, 128),  # 16 tokens, 8 states
    "scan_sweep4": (585, 64),  # 16 tokens, 4 states
    "scan_forward": (325, 32),  # 8 tokens, 4 states
    "scan_summary": (250, 32),
    "scan_adjoint": (410, 64),  # 4 tokens, 16 states
    "scan_backward": (1220, 64),  # 16 tokens, 4 states
}
# Slots between a load and its first use, in the same loop: one warp has nothing else to wait with for memory.
SLOTS_AHEAD = {"scan_sweep32": 950, "scan_sweep16": 850, "scan_sweep8": 850, "scan_sweep4": 400}
SLOTS_PER_EXPONENTIAL = 8


def sections(elf):
    """Name to bytes of a 64-bit ELF file."""
    offset, entry, count, names = struct.unpack_from("<Q", elf, 40)[0], *struct.unpack_from("<3H", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, offset + entry * i) for i in range(count)]
    text = elf[headers[names][4] :]
    return {text[h[0] : text.index(b"\0", h[0])].decode(): elf[h[4] : h[4] + h[5]] for h in headers if h[1] != 8}


def records(info):
    """(attribute, payload or value) of a .nv.info section."""
    at = 0
    while at < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        payload = info[at + 4 : at + 4 + size] if form == 4 else size
        yield attribute, payload
        at += 4 + (size if form == 4 else 0)


def cubins():
    with zipfile.ZipFile(ARCHIVE) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.endswith(".cubin")}


def symbols(elf):
    """Numbers of function symbols by name."""
    parts = sections(elf)
    text, table = parts[".strtab"], parts[".symtab"]
    found = {}
    for i in range(len(table) // 24):
        name = struct.unpack_from("<I", table, 24 * i)[0]
        found[i] = text[name : text.index(b"\0", name)].decode()
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_keeps_its_budget(architecture):
    seen = set()
    for path, elf in cubins().items():
        if not path.startswith(architecture + "/"):
            continue
        names, parts = symbols(elf), sections(elf)
        assert not any(name.startswith(".nv.global") for name in parts), path
        figures = {}
        for attribute, payload in records(parts[".nv.info"]):
            if attribute in (0x2F, 0x11):
                symbol, value = struct.unpack("<II", payload)
                if not names[symbol].startswith("$"):  # the compiler's own, as shuffles are on some GPUs
                    figures.setdefault(names[symbol], {})[attribute] = value
        for kernel, figure in figures.items():
            arguments, threads, registers = BUDGETS[kernel.rpartition("_")[0]]
            own = dict(records(parts[f".nv.info.{kernel}"]))
            assert figure[0x2F] <= registers, (kernel, figure)
            assert figure[0x11] <= STACK.get((kernel.rpartition("_")[0], architecture), 0), (kernel, figure)
            assert own[0x19] == arguments.size, kernel
            assert struct.unpack("<3I", own[0x05]) == (threads, 1, 1), kernel
            seen.add(kernel)
    assert seen == {f"{kernel}_{suffix}" for kernel in BUDGETS for suffix in ("f32", "f16", "bf16")}


@pytest.mark.parametrize("target", ["compute_75", "compute_80"])
def test_nothing_is_computed_in_double(target):
    with zipfile.ZipFile(ARCHIVE) as archive:
        texts = [archive.read(name) for name in archive.namelist() if name.startswith(target + "/")]
    assert texts
    assert not any(b".f64" in text for text in texts)


def hot_loops(cubin, kernel, fewest):
    """Lists of instructions of the loops of a kernel that hold so many exponentials, by where they begin."""
    [tool] = [f.locate() for f in metadata.files("nvidia-cuda-nvdisasm") if f.name == "nvdisasm"]
    listing = subprocess.run([tool, "-c", cubin], capture_output=True, text=True, check=True).stdout
    [text] = [t for t in listing.split("\n.text.") if t.startswith(f"{kernel}:")]
    instructions, labels, loops = [], {}, []
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L_\w+):", line):
            labels[label[1]] = len(instructions)
        if code := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            instructions.append(code[1])
    for i, code in enumerate(instructions):
        target = re.search(r"BRA.*`\((\.L_\w+)\)", code)
        if target and labels[target[1]] <= i:
            loops.append(range(labels[target[1]], i + 1))
    hot = [loop for loop in loops if sum("MUFU.EX2" in instructions[i] for i in loop) >= fewest]
    return {loop: [instructions[i] for i in loop] for loop in sorted(hot, key=lambda loop: loop[0])}


def innermost_loops(cubin, kernel, fewest):
    """Those of `hot_loops` that hold no other."""
    hot = hot_loops(cubin, kernel, fewest)
    return [
        codes
        for loop, codes in hot.items()
        if not any(o != loop and o[0] >= loop[0] and o[-1] <= loop[-1] for o in hot)
    ]


def hot_loop(kernel, folder):
    """Of a kernel for sm_90, the loop over states; one that folds summaries may come before it."""
    unit = "scan_forward" if kernel == "scan_summary" else kernel.rstrip("0123456789")
    (folder / "a.cubin").write_bytes(cubins()[f"sm_90/{unit}.cubin"])
    return innermost_loops(folder / "a.cubin", f"{kernel}_f32", LOOPS[kernel][1])[-1]


def slots_ahead(loop):
    """Of a loop's loads from global memory, the slots until an instruction, perhaps of the next turn, reads it."""
    for i, load in enumerate(loop):
        if loaded := re.search(r"LDG\S* (R\d+),", load):
            exponentials = 0
            for waited, code in enumerate(loop[i + 1 :] + loop[:i]):
                operands = code if re.search(r"\bST[GS]\b", code) else code.partition(",")[2]
                if re.search(rf"\b{loaded[1]}\b", operands):
                    yield max(waited, SLOTS_PER_EXPONENTIAL * exponentials)
                    break
                exponentials += "MUFU.EX2" in code


@pytest.mark.parametrize("kernel", LOOPS)
def test_loops_keep_their_budget(kernel, tmp_path):
    loop, (most, updates) = hot_loop(kernel, tmp_path), LOOPS[kernel]
    assert len(loop) <= most, len(loop) / updates
    assert not any("LDL" in code or "STL" in code for code in loop)


@pytest.mark.parametrize("kernel", SLOTS_AHEAD)
def test_loads_come_long_before_they_are_needed(kernel, tmp_path):
    ahead = sorted(slots_ahead(hot_loop(kernel, tmp_path)))
    assert len(ahead) >= 8
    assert ahead[0] >= SLOTS_AHEAD[kernel], ahead


@pytest.mark.parametrize("kernel", ["scan_sweep16", "scan_sweep8", "scan_sweep4"])
def test_b_and_c_are_asked_for_a_tile_before_they_are_needed(kernel, tmp_path):
    inner = len(hot_loop(kernel, tmp_path))
    tile = next(iter(hot_loops(tmp_path / "a.cubin", f"{kernel}_f32", LOOPS[kernel][1]).values()))
    assert any("BAR" in code for code in tile)
    assert sum(slots > inner for slots in slots_ahead(tile)) >= 16  # of a thread, for 32 tokens
