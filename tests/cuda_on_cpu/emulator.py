"""Kernels of a .cu file, launched on the CPU with the conventions of cupy.RawModule."""

import ctypes
import mmap
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cuda_on_cpu.build import build, run

KINDS = ("bounds", "barrier", "warp", "race", "misaligned", "uninitialised", "trap", "undefined")
ORDERS = ("ascending", "descending", "random")
MAX_THREADS = 1024
GAP = 1 << 19  # bytes between two arrays: a stray access hits none

_lock = threading.RLock()  # the runtime has global state, and ctypes releases the GIL


class KernelError(RuntimeError):
    """A kernel broke a rule of CUDA; ``reports`` lists (kind, text) with kinds of KINDS."""

    def __init__(self, name: str, reports: list[tuple[str, str]]) -> None:
        self.reports = reports
        super().__init__(f"{name}:\n" + "\n".join(f"  {kind}: {text}" for kind, text in reports))


class Memory(NamedTuple):
    """A piece of host memory [low, high), watched in cells of 1 << shift bytes."""

    low: int
    high: int
    shift: int


class _Report(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in ("kind", "line")),
        *((name, ctypes.c_uint) for name in ("block", "thread", "other_block", "other_thread")),
        *((name, ctypes.c_ulong) for name in ("address", "code", "other_code")),
        ("size", ctypes.c_int),
        ("text", ctypes.c_char * 80),
    ]


class Module:
    """A compiled .cu source.

    Parameters
    ----------
    code : str
        With extern "C" kernels and device code only.
    options : tuple of str
        -D and -I count.
    checked : bool
        Check every memory access; False runs some three times faster and finds wrong results only.
    order : {"ascending", "descending", "random"}
        The order in which blocks and threads get their turn; ``seed`` draws the random one.
    allocation : callable, optional
        Returns (low, high) of the allocation that an address lies in: for addresses inside structures.
    """

    def __init__(
        self,
        code: str,
        options: tuple[str, ...] = (),
        checked: bool = True,
        order: str = "random",
        seed: int = 0,
        allocation: Callable[[int], tuple[int, int]] | None = None,
    ) -> None:
        self.library_path, self.names = build(code, options, checked)
        self.library = ctypes.CDLL(str(self.library_path))
        self.library.emu_image.restype = ctypes.c_ulong
        self.checked, self.order, self.seed, self.allocation = checked, order, seed, allocation

    def get_function(self, name: str) -> "Kernel":
        """Return a kernel by its C name."""
        if name not in self.names:
            raise ValueError(f"no kernel {name!r}; there are {', '.join(self.names)}")
        return Kernel(self, name)


class Kernel:
    """One kernel; arguments are NumPy arrays, NumPy scalars, structured arrays of one element, or None.

    Stricter than CuPy: dtypes must be the parameters' own, arrays C-contiguous and, unless const, writable.
    """

    def __init__(self, module: Module, name: str) -> None:
        self.module, self.name = module, name
        self._launch = getattr(module.library, f"emu_launch_{name}")
        text = ctypes.create_string_buffer(8192)
        getattr(module.library, f"emu_signature_{name}")(text)
        self.signature = text.value.decode().split()

    def __call__(self, grid: Sequence[int], block: Sequence[int], arguments: Sequence[Any]) -> None:
        """Run the kernel to its end.

        Raises
        ------
        KernelError
            If it broke a rule.
        TypeError, ValueError
            If arguments do not fit the parameters, or grid and block are impossible.
        """
        grid, block = (tuple(int(v) for v in sizes) + (1,) * (3 - len(sizes)) for sizes in (grid, block))
        if min(grid + block) < 1 or np.prod(block) > MAX_THREADS or block[2] > 64 or max(grid[1:]) > 65535:
            raise ValueError(f"{self.name}: impossible configuration grid={grid} block={block}")
        if len(arguments) != len(self.signature):
            raise TypeError(f"{self.name}: {len(arguments)} arguments for {len(self.signature)} parameters")
        checked = [self._check(i, a, p) for i, (a, p) in enumerate(zip(arguments, self.signature, strict=True))]
        with _lock:
            self._run(grid, block, checked)

    def _check(self, i: int, argument: Any, parameter: str) -> Any:
        pointer = re.fullmatch(r"(c?)P(\w+)", parameter)
        if pointer:
            wrong = _wrong_array(argument, constant=bool(pointer[1]), code=pointer[2])
        elif isinstance(argument, np.ndarray) and argument.dtype.fields and argument.size == 1:
            wrong = None if parameter == f"V:{argument.nbytes}" else f"{argument.nbytes} bytes for {parameter}"
        elif not isinstance(argument, np.generic):
            wrong = f"{type(argument).__name__} for a scalar"
        else:
            wrong = None if argument.dtype.str[1:] == parameter[:2] else f"{argument.dtype} for {parameter}"
        if wrong:
            raise TypeError(f"{self.name}: argument {i}: {wrong}")
        return argument

    def _run(self, grid: tuple[int, ...], block: tuple[int, ...], arguments: list[Any]) -> None:
        library, three = self.module.library, ctypes.c_uint * 3
        library.emu_configure(three(*grid), three(*block), ORDERS.index(self.module.order), self.module.seed)
        arena = _Arena(self._memories(arguments)) if self.module.checked else None
        if arena:
            arena.watch(library)
        holders, pointers = [], (ctypes.c_void_p * max(len(arguments), 1))()
        for i, argument in enumerate(arguments):
            holders.append(self._holder(argument, arena))
            pointers[i] = ctypes.addressof(holders[-1])
        self._launch(pointers)
        if arena:
            arena.copy_back()
        first = ctypes.POINTER(_Report)()
        count = library.emu_reports(ctypes.byref(first))
        if count:
            texts = [(KINDS[first[i].kind], self._text(first[i], arguments, arena, block)) for i in range(count)]
            raise KernelError(self.name, texts)

    def _memories(self, arguments: list[Any]) -> list[Memory]:
        found = []
        for argument in arguments:
            if not isinstance(argument, np.ndarray):
                continue
            if argument.dtype.fields:
                for _, address in _addresses(argument):
                    found.append(Memory(*self._allocation(address), 2))
            elif argument.nbytes:
                low = argument.ctypes.data
                found.append(Memory(low, low + argument.nbytes, min(2, argument.itemsize.bit_length() - 1)))
        return found

    def _allocation(self, address: int) -> tuple[int, int]:
        if self.module.allocation is None:
            raise TypeError(f"{self.name}: a structure with addresses needs a module that knows the allocations")
        return self.module.allocation(address)

    def _holder(self, argument: Any, arena: "_Arena | None") -> Any:
        moved = arena.moved if arena else int
        if argument is None:
            return ctypes.c_void_p(None)
        if isinstance(argument, np.ndarray) and not argument.dtype.fields:
            return ctypes.c_void_p(moved(argument.ctypes.data) if argument.nbytes else None)
        data = bytearray(argument.tobytes())
        if isinstance(argument, np.ndarray):
            for offset, address in _addresses(argument):
                data[offset : offset + 8] = moved(address).to_bytes(8, "little")
        return (ctypes.c_char * len(data)).from_buffer(data)

    def _text(self, report: _Report, arguments: list[Any], arena: "_Arena | None", block: tuple[int, ...]) -> str:
        def thread(number: int) -> tuple[int, int, int]:
            return number % block[0], number // block[0] % block[1], number // (block[0] * block[1])

        text: str = f"{report.text.decode()}: block {report.block} thread {thread(report.thread)}"
        if report.code:
            text += f" at {self._source_line(report.code)}"
        elif report.line:
            text += f" at line {report.line}"
        if report.address and arena:
            text += self._argument_near(report, arguments, arena)
        if KINDS[report.kind] == "race":
            text += f"; other access: block {report.other_block} thread {thread(report.other_thread)}"
            text += f" at {self._source_line(report.other_code)}"
        return text

    def _argument_near(self, report: _Report, arguments: list[Any], arena: "_Arena") -> str:
        best = None
        for i, argument in enumerate(arguments):
            if isinstance(argument, np.ndarray) and not argument.dtype.fields and argument.nbytes:
                offset = report.address - arena.moved(argument.ctypes.data)
                distance = max(-offset, offset - argument.nbytes + 1, 0)
                if distance < GAP and (best is None or distance < best[0]):
                    best = distance, f", argument {i} element {offset // argument.itemsize} of {argument.size}"
        return best[1] if best else ", shared memory or a structure's array"

    def _source_line(self, code: int) -> str:
        offset = code - 1 - self.module.library.emu_image()
        lines = run(["addr2line", "-e", str(self.module.library_path), "-s", hex(offset)])
        return lines.splitlines()[0].split(" ")[0]


class _Arena:
    """Copies of a launch's arrays, far apart, and the way back."""

    def __init__(self, memories: list[Memory]) -> None:
        self.memories: list[Memory] = []
        for low, high, shift in sorted(memories):
            if self.memories and low < self.memories[-1].high:
                last = self.memories[-1]
                self.memories[-1] = Memory(last.low, max(high, last.high), min(shift, last.shift))
            else:
                self.memories.append(Memory(low, high, shift))
        self._map = mmap.mmap(-1, max(1, sum(m.high - m.low + 2 * GAP for m in self.memories)))
        place = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._places = []
        for memory in self.memories:
            place = -(-(place + GAP) // 512) * 512
            self._places.append(place)
            ctypes.memmove(place, memory.low, memory.high - memory.low)
            place += memory.high - memory.low

    def moved(self, address: int) -> int:
        """Return where the byte at ``address`` has been copied to."""
        for memory, place in zip(self.memories, self._places, strict=True):
            if memory.low <= address < memory.high:
                return place + address - memory.low
        raise ValueError(f"address {address:#x} lies in no array of the launch")

    def watch(self, library: ctypes.CDLL) -> None:
        count = len(self.memories)
        ends = [place + m.high - m.low for m, place in zip(self.memories, self._places, strict=True)]
        longs = ctypes.c_ulong * max(count, 1)
        shifts = (ctypes.c_int * max(count, 1))(*(m.shift for m in self.memories))
        library.emu_regions(count, longs(*self._places), longs(*ends), shifts)

    def copy_back(self) -> None:
        for memory, place in zip(self.memories, self._places, strict=True):
            ctypes.memmove(memory.low, place, memory.high - memory.low)


def _wrong_array(argument: Any, constant: bool, code: str) -> str | None:
    """Return what is wrong with an argument for a pointer, or None."""
    if argument is None:
        return None
    if not isinstance(argument, np.ndarray):
        return f"{type(argument).__name__} for a pointer"
    if code != "V" and argument.dtype.str[1:] != code:
        return f"{argument.dtype} array for a {code} pointer"
    if not argument.flags.c_contiguous:
        return "the array is not C-contiguous"
    if not constant and not argument.flags.writeable:
        return "a read-only array for a pointer that is not const"
    return None


def _addresses(structure: np.ndarray) -> list[tuple[int, int]]:
    """Return (offset, value) of every unsigned 8-byte field that is not 0: those hold addresses."""
    found: list[tuple[int, int]] = []

    def visit(dtype: np.dtype[Any], offset: int) -> None:
        if dtype.subdtype:
            base, shape = dtype.subdtype
            for i in range(int(np.prod(shape))):
                visit(base, offset + i * base.itemsize)
        elif dtype.fields:
            for inner, start, *_ in dtype.fields.values():
                visit(inner, offset + start)
        elif dtype == np.uintp:
            value = int.from_bytes(data[offset : offset + 8], "little")
            if value:
                found.append((offset, value))

    data = structure.tobytes()
    visit(structure.dtype, 0)
    return found
