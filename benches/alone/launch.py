"""Times a launch of a kernel that does nothing, with tests/kernels/fake_driver.cpp as driver: `launch.py ARCHIVE`."""

import contextlib
import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

from mamba_yolo.ops import _cuda, cuda_images
from mamba_yolo.ops.cuda_arguments import SCAN_FORWARD
from timing import seconds, serve

CALLS = 500
FIELDS = range(len(SCAN_FORWARD.fields))

torch.cuda.get_device_capability = lambda index: (9, 0)
torch.cuda.get_device_properties = lambda index: SimpleNamespace(multi_processor_count=132)
torch.cuda.device = lambda index: contextlib.nullcontext()
torch.cuda.current_device = lambda: 0  # a GPU's costs about 0.1 us more
_cuda.current_stream = lambda index: 0  # likewise
_cuda.Images = lambda: cuda_images.Images(Path(sys.argv[1]))
gpu = _cuda.Gpu(0)
library = ctypes.CDLL("libcuda.so.1")
packed = ctypes.create_string_buffer(SCAN_FORWARD.pack(*FIELDS))
pointers = (ctypes.c_void_p * 1)(ctypes.addressof(packed))
function = ctypes.c_void_p(gpu._kernels["nothing"])


def ours():
    gpu.launch("nothing", 1, 32, 0, SCAN_FORWARD, *FIELDS)


def by_ctypes():
    library.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, None, pointers, None)


def answer(name):
    call = {"ours": ours, "ctypes, packed before": by_ctypes}[name]
    return seconds(lambda: [call() for _ in range(CALLS)]) / CALLS


serve(answer)
