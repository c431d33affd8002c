"""What the tests of CUDA kernels compile: C++ by g++, without which they fail, and archives by the wheel's script."""

import importlib.util
import subprocess
import sys

from helpers import ROOT

FOLDER = ROOT / "tests/kernels"


def compile_shared(library, *sources_and_options):
    """Compile C++ into a shared library, with tests/kernels to include from."""
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", f"-I{FOLDER}"]
    subprocess.run(["g++", *flags, "-o", str(library), *map(str, sources_and_options), "-ldl"], check=True, timeout=120)
    return library


def load_builder():
    """The script that makes the wheel's archive, as a module."""
    spec = importlib.util.spec_from_file_location("cuda_binaries", ROOT / ".ci/cuda_binaries.py")
    module = sys.modules["cuda_binaries"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
