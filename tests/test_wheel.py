"""The wheel: everything needed is in it, nothing else, and it works from another folder."""

import os
import subprocess
import sys
import zipfile

import pytest
import torch

from helpers import ROOT

pytestmark = pytest.mark.e2e
LARGEST_WHEEL_BYTES = 8_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "maturin", "build", "--release", "--quiet", "--out", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=500)
    (path,) = folder.glob("*.whl")
    return path


def test_contents(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top.split("-")[0] for top in tops} <= {"mamba_yolo", "mamba_yolo.libs"}, tops
    needed = ["_rust.abi3.so", "_rust.pyi", "py.typed", "visual/page.css", "assets/n-bccd.safetensors"]
    needed += [f"assets/bccd_mini/{name}" for name in ("data.yaml", "LICENSE.txt")]
    if sys.platform != "darwin":
        needed.append("ops/cuda_kernels.zip")
    for name in needed:
        assert f"mamba_yolo/{name}" in names
    in_tree = {
        p.relative_to(ROOT / "python").as_posix()
        for p in (ROOT / "python").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and p.suffix not in (".so", ".pyd")
    }
    assert in_tree <= set(names)
    assert not [n for n in names if n.endswith(".pyc")]
    assert wheel.stat().st_size < LARGEST_WHEEL_BYTES
    assert "abi3" in wheel.name


def test_metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith("METADATA"))
    text = archive.read(name).decode()
    assert "License-Expression: Apache-2.0" in text
    assert "Requires-Python: >=3.11" in text
    assert not [line for line in text.splitlines() if line.startswith("Requires-Dist") and "opencv" in line]
    assert any("licenses/NOTICE" in n for n in archive.namelist())


def test_works_from_another_folder(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = (
        "import mamba_yolo, pathlib\n"
        "assert pathlib.Path(mamba_yolo.__file__).parent == pathlib.Path('site/mamba_yolo').resolve()\n"
        "from mamba_yolo.cli.entry import run\n"
        "from mamba_yolo.ops.cuda_images import Images\n"
        "import sys\n"
        "assert sys.platform == 'darwin' or 'scan_forward' in Images().units\n"
        "raise SystemExit(run(['doctor']))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "everything works" in run.stdout
    assert torch.cuda.is_available() or "CUDA kernels" in run.stdout
