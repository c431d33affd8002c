"""The native module: CPU kernels and data pipeline. Arrays are C-contiguous numpy arrays."""

DEBUG_BUILD: bool
VERSION: str
