"""CuPy without a device: real cupy.ndarray objects over host memory.

``install()`` gives CuPy a host allocator, so shapes, strides, views, dtypes, flags and the refusal of implicit
conversion are CuPy's own. RawModule runs in the emulator; the operations named below are computed by NumPy on the
same memory. Anything else still fails for want of a driver: the surface is closed, nothing passes silently.

It changes CuPy for the whole process, and is for processes that have no device.
"""

import bisect
import ctypes
import functools
import math
import types
import weakref
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np
import pytest

from cuda_on_cpu import streams
from cuda_on_cpu.emulator import Module

launches: list[str] = []  # names of the kernels that were run, so that a test can tell they were
settings = {"checked": True, "blocks": 1 << 62}  # blocks: how many more thread blocks a test may run

_FILL = 0xFB  # what fresh memory holds: cupy.empty is not zeros
_allocations: dict[int, int] = {}  # lowest address: size, of what is alive
_limit: list[int] = []  # bytes that one allocation may have, to play a full device


class _Block:
    """Host memory of one allocation."""

    def __init__(self, size: int) -> None:
        self.buffer = ctypes.create_string_buffer(max(size, 1) + 512)
        self.address = -(-ctypes.addressof(self.buffer) // 256) * 256
        ctypes.memset(self.address, _FILL, size)
        _allocations[self.address] = max(size, 1)
        weakref.finalize(self, _allocations.pop, self.address, None)


def _allocate(size: int) -> cupy.cuda.MemoryPointer:
    if _limit and size > _limit[0]:
        raise cupy.cuda.memory.OutOfMemoryError(size, 0, 0)
    return _pointer(_Block(size), size)


def _pointer(block: _Block, size: int) -> cupy.cuda.MemoryPointer:
    memory = cupy.cuda.UnownedMemory(block.address, max(size, 1), block, device_id=0)
    return cupy.cuda.MemoryPointer(memory, 0)


def allocation(address: int) -> tuple[int, int]:
    """Return (low, high) of the allocation that an address lies in."""
    starts = sorted(_allocations)
    i = bisect.bisect_right(starts, address) - 1
    if i >= 0 and address < starts[i] + _allocations[starts[i]]:
        return starts[i], starts[i] + _allocations[starts[i]]
    raise ValueError(f"address {address:#x} lies in no live CuPy array")


class MemoryPool:
    """cupy.cuda.MemoryPool: a freed block is handed out again, to whoever asks for its size."""

    def __init__(self) -> None:
        self._free: dict[int, list[_Block]] = {}

    def malloc(self, size: int) -> cupy.cuda.MemoryPointer:
        """Return a block that comes back to this pool once nobody holds it."""
        waiting = self._free.setdefault(size, [])
        block = waiting.pop() if waiting else _Block(size)
        ctypes.memset(block.address, _FILL, size)
        loan = _Loan(block)
        weakref.finalize(loan, waiting.append, block)
        memory = cupy.cuda.UnownedMemory(block.address, max(size, 1), loan, device_id=0)
        return cupy.cuda.MemoryPointer(memory, 0)


class _Loan:
    def __init__(self, block: _Block) -> None:
        self.block = block


def host(a: cupy.ndarray) -> np.ndarray:
    """Return a NumPy view of a CuPy array's memory."""
    if a.size == 0:
        return np.empty(a.shape, a.dtype)
    low, high = 0, a.itemsize
    for size, stride in zip(a.shape, a.strides, strict=True):
        reach = (size - 1) * stride
        low, high = (low + reach, high) if stride < 0 else (low, high + reach)
    buffer = (ctypes.c_char * (high - low)).from_address(a.data.ptr + low)
    return np.ndarray(a.shape, a.dtype, buffer, -low, a.strides)


def device(x: Any) -> cupy.ndarray:
    """Return a CuPy copy that keeps the axes' order in memory, as CuPy does."""
    a = _like(np.asarray(x))
    host(a)[...] = x
    return a


def _like(x: Any) -> cupy.ndarray:
    x = np.asarray(x)
    axes = range(x.ndim) if x.flags.c_contiguous else sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
    return cupy.empty([x.shape[i] for i in axes], x.dtype).transpose(*np.argsort(axes).tolist())


PLAIN = (int, float, complex, bool, np.generic, slice, type, np.dtype, str, type(None), type(Ellipsis))


def _to_host(value: Any) -> Any:
    if isinstance(value, cupy.ndarray):
        return host(value)
    if isinstance(value, (tuple, list)):
        return type(value)(_to_host(v) for v in value)
    if isinstance(value, PLAIN):
        return value
    raise TypeError(f"Unsupported type {type(value)}")  # CuPy's own words


def _operation(function: Callable[..., Any], queued: bool = True) -> Callable[..., Any]:
    """Return a NumPy function on CuPy arrays; one that is not ``queued`` can't be captured."""

    @functools.wraps(function)
    def on_arrays(*arguments: Any, out: Any = None, **options: Any) -> Any:
        given = [*arguments, *(arguments[0] if arguments and isinstance(arguments[0], (tuple, list)) else ())]
        if not any(isinstance(value, cupy.ndarray) for value in given):
            raise TypeError(f"{function.__name__}: no cupy.ndarray among the arguments")
        if not queued:
            streams.refuse_capture(function.__name__)

        def compute() -> Any:
            kept = {name: _to_host(value) for name, value in options.items()}
            return function(*[_to_host(value) for value in arguments], **kept)

        if out is None:
            result = compute()
            if not isinstance(result, (np.ndarray, np.generic)):
                return result
            out = _like(result)
            if not streams.capturing():
                host(out)[...] = result
                return out

        def store() -> None:
            host(out)[...] = compute()

        streams.enqueue(store)
        return out

    return on_arrays


def _creation(function: Callable[..., Any]) -> Callable[..., Any]:
    def create(*arguments: Any, **options: Any) -> cupy.ndarray:
        made = function(*_to_host(arguments), **{name: _to_host(value) for name, value in options.items()})
        a = _like(made)
        streams.enqueue(lambda: host(a).__setitem__(Ellipsis, made))
        return a

    return functools.wraps(function)(create)


def _array(x: Any, dtype: Any = None, copy: bool = True, order: str = "K", **_: Any) -> cupy.ndarray:
    if isinstance(x, cupy.ndarray):
        return x if not copy and (dtype is None or x.dtype == dtype) else x.astype(dtype or x.dtype)
    streams.refuse_capture("a copy from the host")
    return device(np.array(x, dtype))


class _Function:
    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def __call__(self, grid: Any, block: Any, arguments: Any) -> None:
        for i, argument in enumerate(arguments):
            if isinstance(argument, np.ndarray) and not (argument.dtype.fields and argument.size == 1):
                raise TypeError(f"argument {i}: Unsupported type <class 'numpy.ndarray'>")

        def run() -> None:
            settings["blocks"] -= math.prod(grid)
            if settings["blocks"] < 0:
                pytest.skip("too many thread blocks for the emulator; runs on a device")
            launches.append(self._kernel.name)
            self._kernel(grid, block, [host(a) if isinstance(a, cupy.ndarray) else a for a in arguments])

        # A captured launch keeps the structures that it was given by value.
        arguments = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        streams.enqueue(run)


class _RawModule:
    def __init__(self, code: str, *, options: tuple[str, ...] = ()) -> None:
        self._source = code, tuple(options)
        self._module: Module | None = None

    def compile(self) -> Module:
        if self._module is None:
            self._module = Module(*self._source, checked=bool(settings["checked"]), allocation=allocation)
        return self._module

    def get_function(self, name: str) -> _Function:
        return _Function(self.compile().get_function(name))


UFUNCS = "add subtract multiply divide exp log sqrt maximum minimum abs where isfinite"
REDUCTIONS = "sum mean max min argmax take_along_axis pad tensordot"
CUBLAS = "matmul dot vdot tensordot"
CREATIONS = "zeros ones full arange"
METHODS = "sum mean max min argmax any all"
OPERATORS = "abs add radd sub rsub mul rmul truediv rtruediv floordiv mod pow neg matmul rmatmul gt lt ge le eq ne invert and or"
IN_PLACE = "iadd isub imul itruediv"


def install() -> None:
    """Change CuPy for this process."""
    cupy.cuda.set_allocator(_allocate)
    for name in (*UFUNCS.split(), *REDUCTIONS.split()):
        setattr(cupy, name, _operation(getattr(np, name)))
    for name in CUBLAS.split():
        setattr(cupy, name, _operation(getattr(np, name), queued=False))
    for name in CREATIONS.split():
        setattr(cupy, name, _creation(getattr(np, name)))
    array = cupy.ndarray
    for name in METHODS.split():
        setattr(array, name, _operation(getattr(np.ndarray, name)))
    for name in OPERATORS.split():
        setattr(array, f"__{name}__", _operation(getattr(np.ndarray, f"__{name}__"), queued="matmul" not in name))
    for name in IN_PLACE.split():
        setattr(array, f"__{name}__", _in_place(f"__{name}__"))
    array.__hash__ = None
    array.__array_ufunc__ = array.__array_function__ = _no_mixing
    for name, method in METHODS_OF_ARRAYS.items():
        setattr(array, name, method)
    array.reshape = _reshape(array.reshape)
    array.__getitem__ = _getitem(array.__getitem__)
    cupy.array = _array
    cupy.asarray = lambda x, dtype=None, **options: _array(x, dtype, copy=False)
    cupy.ascontiguousarray = _contiguous
    cupy.asnumpy = lambda x, **options: x.get() if isinstance(x, cupy.ndarray) else np.asarray(x)
    cupy.lib.stride_tricks.sliding_window_view = _windows(cupy.lib.stride_tricks.sliding_window_view)
    cupy.RawModule = _RawModule
    cupy.ElementwiseKernel = cupy.ReductionKernel = _refuse
    cupy.cuda.nvrtc = types.SimpleNamespace(getVersion=lambda: (0, 0))  # g++ compiles here
    cupy.cuda.MemoryPool = MemoryPool
    streams.install(_current_allocator)
    runtime = cupy.cuda.runtime
    runtime.getDeviceCount = lambda: 1
    runtime.memGetInfo = lambda: (1 << 30, 2 << 30)
    runtime.driverGetVersion = runtime.runtimeGetVersion
    runtime.getDeviceProperties = lambda _: {"name": b"host memory", "major": 9, "minor": 0}
    cupy.cuda.Device = _Device


class full_device:
    """Play a device on which no allocation of more than ``size`` bytes succeeds."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __enter__(self) -> None:
        _limit.append(self._size)

    def __exit__(self, *_: object) -> None:
        _limit.clear()


class _Device:
    id = 0

    def __init__(self, *_: Any) -> None:
        pass


class _current_allocator:
    """cupy.cuda.using_allocator."""

    def __init__(self, allocator: Callable[[int], Any]) -> None:
        self._allocator = allocator

    def __enter__(self) -> None:
        cupy.cuda.set_allocator(self._allocator)

    def __exit__(self, *_: object) -> None:
        cupy.cuda.set_allocator(_allocate)


def _in_place(name: str) -> Callable[..., Any]:
    def change(self: cupy.ndarray, other: Any) -> cupy.ndarray:
        _to_host(other)  # refuses NumPy arrays at once
        streams.enqueue(lambda: getattr(host(self), name)(_to_host(other)))
        return self

    return change


def _no_mixing(self: cupy.ndarray, *_: Any, **__: Any) -> None:
    raise TypeError("Unsupported type <class 'numpy.ndarray'>")


def _refuse(*_: Any, **__: Any) -> None:
    raise NotImplementedError("ElementwiseKernel and ReductionKernel are not emulated: use a RawKernel")


def _get(self: cupy.ndarray, *_: Any, **__: Any) -> np.ndarray:
    streams.refuse_capture("a copy to the host")
    return host(self).copy()


def _set(self: cupy.ndarray, values: Any, **_: Any) -> None:
    streams.refuse_capture("a copy from the host")
    host(self)[...] = np.asarray(values, self.dtype).reshape(self.shape)


def _copy(self: cupy.ndarray, order: str = "C") -> cupy.ndarray:
    a = cupy.empty(self.shape, self.dtype)
    streams.enqueue(lambda: host(a).__setitem__(Ellipsis, host(self)))
    return a


def _astype(self: cupy.ndarray, dtype: Any, copy: bool = True, **_: Any) -> cupy.ndarray:
    if not copy and self.dtype == dtype:
        return self
    a = _like(host(self).astype(dtype))
    streams.enqueue(lambda: host(a).__setitem__(Ellipsis, host(self).astype(dtype)))
    return a


def _fill(self: cupy.ndarray, value: Any) -> None:
    streams.enqueue(lambda: host(self).fill(_to_host(value)))


def _setitem(self: cupy.ndarray, index: Any, value: Any) -> None:
    _to_host(value)
    streams.enqueue(lambda: host(self).__setitem__(_to_host(index), _to_host(value)))


def _getitem(real: Callable[..., Any]) -> Callable[..., Any]:
    def item(self: cupy.ndarray, index: Any) -> cupy.ndarray:
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, np.ndarray) for part in parts):
            raise IndexError("arrays used as indices must be of CuPy here")
        if any(isinstance(part, (cupy.ndarray, list)) for part in parts):
            return _operation(np.ndarray.__getitem__)(self, index)
        return real(self, index)

    return item


def _number(kind: Callable[[Any], Any]) -> Callable[[cupy.ndarray], Any]:
    def number(self: cupy.ndarray) -> Any:
        streams.refuse_capture("a copy to the host")
        return kind(host(self))

    return number


def _reshape(real: Callable[..., Any]) -> Callable[..., Any]:
    def reshape(self: cupy.ndarray, *shape: Any, **options: Any) -> cupy.ndarray:
        return real(self if self.flags.c_contiguous else _copy(self), *shape, **options)

    return reshape


def _contiguous(x: Any, dtype: Any = None) -> cupy.ndarray:
    if isinstance(x, cupy.ndarray):
        x = x if dtype in (None, x.dtype) else x.astype(dtype)
        return x if x.flags.c_contiguous else _copy(x)
    return _array(x, dtype)


def _windows(_: Callable[..., Any]) -> Callable[..., Any]:
    def windows(x: cupy.ndarray, window_shape: Any, axis: Any = None, **__: Any) -> cupy.ndarray:
        view = np.lib.stride_tricks.sliding_window_view(host(x), window_shape, axis=axis)
        return cupy.ndarray(view.shape, x.dtype, memptr=x.data, strides=view.strides)

    return windows


METHODS_OF_ARRAYS = {
    "get": _get,
    "set": _set,
    "copy": _copy,
    "astype": _astype,
    "fill": _fill,
    "item": lambda self, *index: _number(lambda a: a.item(*index))(self),
    "tolist": _number(lambda a: a.tolist()),
    "__bool__": _number(bool),
    "__float__": _number(float),
    "__int__": _number(int),
    "__repr__": _number(repr),
    "__setitem__": _setitem,
}
