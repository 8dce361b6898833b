"""Reading CIFAR-10's batch files, which are pickles, without unpickling: their tokens are read, and nothing is called.

A pickle is a program. Of its instructions only those are followed here that put dictionaries, lists, tuples, strings,
numbers and arrays of bytes together; any other one, and any name but the four that such an array is written with,
ends the reading with an error.
"""

from __future__ import annotations

import os
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from gconv._typing import Array

__all__ = ["read_batch"]

PIXELS = 3 * 32 * 32
LARGEST_FILE = 64 << 20  # the real ones have 31 MB
MOST_TOKENS = 1_000_000  # the real ones have 40,000; each may make an object of some 100 bytes

# What an array is written with, in NumPy's spelling before 2.0 and since.
RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
NDARRAY, DTYPE = "numpy ndarray", "numpy dtype"

VALUES = {
    *("BININT", "BININT1", "BININT2", "SHORT_BINSTRING", "BINSTRING"),
    *("SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class BatchFileError(ValueError):
    """The file is no batch of CIFAR-10, or is damaged; the message names it."""


class _Name(str):
    """A name that may be called, were this an unpickler; a class of its own, so that no string passes for one."""


class _Bytes:
    """Stands for the dtype of bytes."""


class _ByteArray:
    """Stands for an array of bytes: at first without content, ``array`` then has it."""

    array: Array | None = None

    def fill(self, state: Any) -> None:
        """Take over what NumPy writes of an array: version, shape, dtype, column-major or not, bytes."""
        version, shape, dtype, column_major, content = state
        if version != 1 or not isinstance(dtype, _Bytes) or column_major:
            raise ValueError("an array must be of bytes, row by row, in version 1 of NumPy's format")
        if isinstance(content, str):
            content = content.encode("latin1")
        self.array = np.frombuffer(content, np.uint8).reshape(shape)


def _objects(content: bytes) -> Any:
    """Return what the pickle holds."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if count == MOST_TOKENS:
            raise ValueError(f"it must have at most {MOST_TOKENS} instructions")
        name = opcode.name
        if name in VALUES:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name == "MARK":
            marks.append(len(stack))
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in ("APPEND", "APPENDS"):
            items = since_mark() if name == "APPENDS" else [stack.pop()]
            _a(list, stack[-1]).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            _a(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            argument = argument or " ".join((stack.pop(-2), stack.pop()))
            if argument not in (*RECONSTRUCT, NDARRAY, DTYPE):
                raise ValueError(f"the name {argument} is not allowed in it")
            stack.append(_Name(argument))
        elif name == "REDUCE":
            stack.append(_made(arguments=stack.pop(), maker=stack.pop()))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], _ByteArray):
                stack[-1].fill(state)
            else:
                _a(_Bytes, stack[-1])  # byte order and the like, of which bytes have none
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"the instruction {name} is not allowed in it")
    raise ValueError("it must end with STOP")


def _a(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a {kind.__name__} must stand there; got {type(value).__name__}")
    return value


def _made(arguments: Any, maker: Any) -> Any:
    """Return what stands for the result of a call of ``maker``."""
    _a(_Name, maker)
    if maker in RECONSTRUCT:
        kind, shape, _ = arguments
        if kind != NDARRAY or shape != (0,):
            raise ValueError("an array must start as an empty numpy.ndarray")
        return _ByteArray()
    if maker != DTYPE or arguments[0] not in ("u1", "|u1", b"u1"):
        raise ValueError(f"arrays must be of bytes; got {maker} of {arguments!r:.80}")
    return _Bytes()


def read_batch(path: str | os.PathLike[str]) -> tuple[Array, Array]:
    """Read one batch file.

    Parameters
    ----------
    path : path

    Returns
    -------
    images : uint8 array, shape (N, 3, 32, 32)
        Read-only.
    labels : int64 array, shape (N,)

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no batch of CIFAR-10, is damaged or too large, or holds anything but bytes, lists and strings.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"load_CIFAR_batch: filename must be a batch file of CIFAR-10; there is none at {path}")
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise BatchFileError(f"load_CIFAR_batch: {path} must have at most {LARGEST_FILE} bytes, and has more")
    try:
        batch = _objects(content)
    # What is damaged raises nearly anything: instructions meet wrong types and lengths.
    except Exception as error:
        raise BatchFileError(f"load_CIFAR_batch: {path} is damaged or no batch file: {error}") from error
    if not isinstance(batch, dict):
        raise BatchFileError(f"load_CIFAR_batch: {path} must hold a dictionary; got {type(batch).__name__}")
    # Written anew by Python 3 the keys may be bytes.
    data, labels = (batch.get(key, batch.get(key.encode())) for key in ("data", "labels"))
    data = data.array if isinstance(data, _ByteArray) else None
    if data is None or data.ndim != 2 or data.shape[1] != PIXELS:
        raise BatchFileError(f"load_CIFAR_batch: {path} must hold 'data' of shape (N, {PIXELS})")
    whole = isinstance(labels, list) and len(labels) == len(data)
    if not whole or not all(type(label) is int and 0 <= label < 10 for label in labels or ()):
        raise BatchFileError(f"load_CIFAR_batch: {path} must hold 'labels', {len(data)} integers in [0, 10)")
    return data.reshape(-1, 3, 32, 32), np.array(labels, dtype=np.int64)
