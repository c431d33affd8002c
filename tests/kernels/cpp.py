"""Compiling C++ for the tests of CUDA kernels; without a compiler they fail."""

import subprocess

from helpers import ROOT

FOLDER = ROOT / "tests/kernels"


def compile_shared(source, library, *options):
    """Compile a file of tests/kernels into a shared library."""
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", f"-I{FOLDER}", *options]
    subprocess.run(["g++", *flags, "-o", str(library), str(FOLDER / source), "-ldl"], check=True, timeout=120)
    return library
