"""Compiling C++ for the tests of CUDA kernels; without a compiler they fail."""

import subprocess

from helpers import ROOT

FOLDER = ROOT / "tests/kernels"


def compile_shared(library, *sources_and_options):
    """Compile C++ into a shared library, with tests/kernels to include from."""
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", f"-I{FOLDER}"]
    subprocess.run(["g++", *flags, "-o", str(library), *map(str, sources_and_options), "-ldl"], check=True, timeout=120)
    return library


def compile_twin(unit, library):
    """Compile a file of cuda/ for the CPU."""
    options = ["-O2", "-ffp-contract=off", "-fno-strict-aliasing", f"-I{ROOT / 'cuda'}", "-include", "twin/cuda_host.h"]
    return compile_shared(library, *options, "-x", "c++", ROOT / f"cuda/{unit}.cu", FOLDER / "twin/runtime.cpp")
