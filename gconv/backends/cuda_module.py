"""From the .cu files to launches: sources joined, compiled once by NVRTC, called with typed arguments."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import cupy
import numpy as np

from gconv import kernels
from gconv._typing import Array
from gconv.backends.capture import capture

__all__ = [
    "SUFFIXES",
    "SourceFolder",
    "compile_options",
    "kernel",
    "kernel_module",
    "launch",
    "source_files",
    "source_text",
]

SUFFIXES = {"float32": "f32", "float64": "f64"}
_C_TYPES = {"float32": "float", "float64": "double"}
# Grid-stride loops add at most 2^21 to an index, and pooled positions a window: far below the other 2^30.
_WIDE_ARRAY, _WIDE_NUMBER = 1 << 30, 1 << 28


class SourceFolder:
    """Where the .cu files are; the mutation check points ``path`` at broken ones."""

    path = Path(kernels.__path__[0], "cuda")


def source_files() -> list[str]:
    """Return the names of the .cu files, without the suffix."""
    return sorted(path.stem for path in SourceFolder.path.glob("*.cu"))


def source_text(file: str) -> str:
    """Return one .cu file with common.cuh and what it includes put in.

    CuPy's disk cache knows a kernel by its text and would miss a change in an included file.
    """
    included: set[str] = set()

    def text(name: str) -> str:
        if name in included:
            return ""
        included.add(name)
        lines = []
        for number, line in enumerate((SourceFolder.path / name).read_text(encoding="utf-8").splitlines(), 1):
            found = re.fullmatch(r'#include "(.+)"', line)
            lines.append(f'{text(found[1])}#line {number + 1} "{name}"' if found else line)
        return "\n".join([f'#line 1 "{name}"', *lines, ""])

    return text("common.cuh") + text(f"{file}.cu")


def compile_options(dtype: str, wide: bool) -> tuple[str, ...]:
    """Return NVRTC's options: the dtype, and 64-bit indices where ``wide``."""
    index = "long long" if wide else "int"
    # No -use_fast_math: its exp and division are off by many units in the last place, and NaN would be lost.
    return "-std=c++17", f"-DREAL={_C_TYPES[dtype]}", f"-DSUFFIX={SUFFIXES[dtype]}", f"-DINDEX={index}"


@cache
def kernel_module(file: str, dtype: str, wide: bool) -> Any:
    """Return one .cu file for one dtype, compiled on first use in the process."""
    return cupy.RawModule(code=source_text(file), options=compile_options(dtype, wide))


@cache
def kernel(file: str, operation: str, dtype: str, wide: bool) -> Any:
    """Return the kernel ``<operation>_<f32|f64>`` of one file, compiled on first use in the process.

    CuPy keeps the binary on disk (CUPY_CACHE_DIR), so another process compiles nothing.

    Raises
    ------
    RuntimeError
        If this is the first use, and a graph is being captured: a device loads nothing then.
    """
    if capture.running:
        name = f"{operation}_{SUFFIXES[dtype]}"
        raise RuntimeError(f"launch: kernel {name} of {file}.cu must run once before a graph is captured; got none")
    return kernel_module(file, dtype, wide).get_function(f"{operation}_{SUFFIXES[dtype]}")


def launch(
    file: str,
    operation: str,
    dtype: np.dtype[Any],
    grid: tuple[int, ...],
    block: tuple[int, ...],
    *arguments: Array | int | float | np.generic | None,
) -> None:
    """Launch a kernel on CuPy's current stream.

    Parameters
    ----------
    file, operation : str
        ``conv``, ``conv_forward_wide``: the file and the entry point without its suffix.
    dtype : float32 or float64
        What REAL is in the kernel.
    grid, block : tuple of int
        Blocks, and threads a block.
    *arguments : array, int, float, NumPy scalar or structure, or None
        C-contiguous CuPy arrays; an int becomes an index (32 or 64 bits wide, as the sizes need), a float a REAL,
        a NumPy scalar or structure stays what it is, None is a null pointer.
    """
    wide = False
    for value in arguments:
        if type(value) is int:
            wide = wide or value >= _WIDE_NUMBER
        elif isinstance(value, cupy.ndarray):
            wide = wide or value.size >= _WIDE_ARRAY
    index: Any = np.int64 if wide else np.int32
    typed = [
        index(value) if type(value) is int else dtype.type(value) if type(value) is float else value
        for value in arguments
    ]
    kernel(file, operation, dtype.name, wide)(grid, block, tuple(typed))
