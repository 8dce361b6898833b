"""The one place that decides which backend runs.

Arrays decide: a NumPy array is computed on the CPU, a CuPy array on its device. The default matters where
arrays are created, and picks between ``cpu`` and ``naive`` for NumPy arrays.
"""

from __future__ import annotations

import os
import sys
from contextvars import ContextVar, Token
from functools import cache
from types import TracebackType

import numpy as np

from gconv._typing import Array
from gconv.backends.base import Backend, BackendUnavailableError

__all__ = [
    "Backend",
    "BackendUnavailableError",
    "array_kind",
    "available_backends",
    "get_backend",
    "unavailable_reason",
    "use_backend",
    "warmup",
]

NAMES = ("cpu", "gpu", "naive")
_selected: ContextVar[str | None] = ContextVar("gconv_backend", default=None)
_kinds: dict[type, str | None] = {}


def array_kind(array: Array) -> str | None:
    """Return "numpy" or "cupy", or None for anything else.

    Masked arrays and ``np.matrix`` are no arrays here: the kernels would ignore the mask, and ``*`` would
    mean another product. CuPy is looked for among the loaded modules only: an array of a module that was
    never imported can't exist.
    """
    kind = type(array)
    if kind not in _kinds:
        if isinstance(array, np.ndarray) and not isinstance(array, (np.ma.MaskedArray, np.matrix)):
            found: str | None = "numpy"
        else:
            cupy = sys.modules.get("cupy")
            found = "cupy" if cupy is not None and isinstance(array, cupy.ndarray) else None
        if found is None:
            # Not remembered: the same type could be an array's once CuPy has been imported.
            return None
        _kinds[kind] = found
    return _kinds[kind]


def known_kind(array: Array) -> str | None:
    """Return what array_kind found for this type before, the same string each time; None if it was not asked."""
    return _kinds.get(type(array))


@cache
def _load(name: str) -> Backend:
    if name == "cpu":
        from gconv.backends.cpu import CpuBackend, kernels

        if kernels is not None:
            return CpuBackend()
        from gconv.backends.numpy_only import NumpyBackend

        return NumpyBackend()
    if name == "naive":
        from gconv.backends.naive import NaiveBackend

        return NaiveBackend()
    from gconv.backends.gpu_diagnosis import check_gpu

    check_gpu()
    from gconv.backends.gpu import GpuBackend

    return GpuBackend()


def unavailable_reason(name: str) -> str | None:
    """Return why the backend ``name`` can't run here, with what mends it; None where it can."""
    try:
        _load(_known(name, "unavailable_reason: name"))
    except BackendUnavailableError as error:
        return str(error)
    return None


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends that can run in this process.

    >>> "cpu" in available_backends() and "naive" in available_backends()
    True
    """
    return tuple(name for name in NAMES if unavailable_reason(name) is None)


def _known(name: object, what: str) -> str:
    if not isinstance(name, str) or name not in (*NAMES, "auto"):
        raise ValueError(f"{what} must be one of auto, {', '.join(NAMES)}; got {name!r}")
    return name


def _selected_name() -> str:
    name = _selected.get()
    return name if name is not None else _environment_name()


@cache
def _environment_name() -> str:
    """Return what GCONV_BACKEND says for this process: every layer asks, and reading it takes as long as its checks."""
    return _known(os.environ.get("GCONV_BACKEND") or "auto", "the environment variable GCONV_BACKEND")


@cache
def _device_answers() -> bool:
    return unavailable_reason("gpu") is None


def get_backend(*arrays: Array) -> Backend:
    """Return the backend of the given arrays; without arrays, the default one.

    Parameters
    ----------
    *arrays : numpy.ndarray or cupy.ndarray
        All of one module.

    Returns
    -------
    Backend
        For NumPy arrays ``naive`` where that is selected, else ``cpu``.

    Raises
    ------
    TypeError
        If the arrays are of different modules, or one is no array.
    ValueError
        If GCONV_BACKEND holds an unknown name.
    BackendUnavailableError
        If the backend can't run here; the message says what to do.

    Examples
    --------
    >>> get_backend(np.zeros(3)).name
    'cpu'
    """
    if not arrays:
        name = _selected_name()
        return _load(name if name != "auto" else "gpu" if _device_answers() else "cpu")
    kinds = {array_kind(array) for array in arrays}
    if None in kinds:
        listed = ", ".join(type(array).__name__ for array in arrays)
        raise TypeError(f"get_backend: arrays must be NumPy or CuPy arrays; got {listed}")
    if len(kinds) > 1:
        raise TypeError(f"get_backend: arrays must be of one module; got {' and '.join(sorted(map(str, kinds)))}")
    return backend_of_kind(str(kinds.pop()))


def backend_of_kind(kind: str) -> Backend:
    """Return the backend of "numpy" or "cupy" arrays."""
    if kind == "cupy":
        return _load("gpu")
    return _load("naive" if _selected_name() == "naive" else "cpu")


class use_backend:
    """Select the default backend: ``use_backend("naive")``, or ``with use_backend("naive"):``.

    The choice belongs to the current context (thread or asyncio task), as a ``contextvars.ContextVar`` does:
    a thread started later begins with GCONV_BACKEND again.

    Parameters
    ----------
    name : {"auto", "cpu", "gpu", "naive"}

    Raises
    ------
    ValueError
        For an unknown name.
    BackendUnavailableError
        If the backend can't run here; the message says what to do.

    Examples
    --------
    >>> with use_backend("naive") as backend:
    ...     backend.name, get_backend(np.zeros(3)).name
    ('naive', 'naive')
    """

    def __init__(self, name: str) -> None:
        _known(name, "use_backend: name")
        if name != "auto":
            _load(name)
        self._token: Token[str | None] = _selected.set(name)

    def __enter__(self) -> Backend:
        return get_backend()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _selected.reset(self._token)


def warmup(*dtypes: str) -> None:
    """Compile every kernel of the default backend now, so that no first call has to wait for it.

    On a GPU that takes NVRTC some seconds once; CuPy keeps the binaries on disk, and later processes load them. The
    cpu backend was compiled when it was installed.

    Parameters
    ----------
    *dtypes : {"float32", "float64"}
        Of the arrays to come; float32 where none is given.

    Raises
    ------
    ValueError
        For another dtype.

    Examples
    --------
    >>> warmup("float32", "float64")
    """
    for dtype in dtypes or ("float32",):
        if dtype not in ("float32", "float64"):
            raise ValueError(f"warmup: dtypes must be float32 or float64; got {dtype!r}")
        get_backend().warmup(dtype)
