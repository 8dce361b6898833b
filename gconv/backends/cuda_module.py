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
    "Argument",
    "SourceFolder",
    "compile_options",
    "kernel",
    "kernel_module",
    "launch",
    "source_files",
    "source_text",
]

Argument = Array | int | float | np.generic | tuple[int, ...] | None

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
    *arguments: Argument,
) -> None:
    """Launch a kernel on CuPy's current stream.

    Parameters
    ----------
    file, operation : str
        ``conv``, ``conv_forward_square``: the file and the entry point without its suffix.
    dtype : float32 or float64
        What REAL is in the kernel.
    grid, block : tuple of int
        Blocks, and threads a block.
    *arguments : array, int, float, NumPy scalar or structure, or None
        C-contiguous CuPy arrays; an int becomes an index (32 or 64 bits wide, as the sizes need), a named tuple of
        ints a structure of indices, a float a REAL; a NumPy scalar or structure stays what it is, None is a null
        pointer.
    """
    wide = any(map(_is_large, arguments))
    index = np.dtype(np.int64 if wide else np.int32)
    typed = tuple([_typed(value, index, dtype) for value in arguments])
    kernel(file, operation, dtype.name, wide)(grid, block, typed)


def _is_large(value: Argument) -> bool:
    """Return whether a kernel needs 64-bit indices for an argument."""
    if type(value) is int:
        return value >= _WIDE_NUMBER
    if isinstance(value, tuple):
        return max(value) >= _WIDE_NUMBER
    return isinstance(value, cupy.ndarray) and value.size >= _WIDE_ARRAY


def _typed(value: Argument, index: np.dtype[Any], real: np.dtype[Any]) -> Any:
    if type(value) is int:
        return index.type(value)
    if type(value) is float:
        return real.type(value)
    if isinstance(value, tuple):
        return np.array([value], _structure(type(value), index))
    return value


@cache
def _structure(kind: Any, index: np.dtype[Any]) -> np.dtype[Any]:
    """Return the layout of a C structure whose fields are those of a named tuple, all of them indices."""
    return np.dtype([(name, index) for name in kind._fields])
