"""Update rules, penalties and minibatches on CuPy arrays: many arrays in one launch, nothing read back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cupy
import numpy as np

from gconv._typing import Array
from gconv.backends.base import Arrays, StepControl
from gconv.backends.compositions import Compositions
from gconv.backends.cuda_module import launch
from gconv.backends.gpu_conv import BLOCK, ready
from gconv.backends.gpu_graph import GraphRecorder
from gconv.backends.gpu_plan import GATHER_BLOCKS, blocks_for
from gconv.backends.update_rules import UpdateRule

__all__ = ["GpuTraining"]

# The structures of kernels/cuda/tensors.cuh, optim.cu and penalty.cu.
MAX_TENSORS, MAX_STATES, CHUNK = 16, 2, 4096
SIZES: list[Any] = [("size", np.int64, MAX_TENSORS), ("first_chunk", np.int64, MAX_TENSORS)]
SIZES += [("count", np.int64), ("chunks", np.int64)]
TENSORS = np.dtype(
    [(name, np.uintp, MAX_TENSORS) for name in ("out", "w", "gradient")]
    + [(name, np.uintp, (MAX_STATES, MAX_TENSORS)) for name in ("state", "new_state")]
    + SIZES
)
COPIES = np.dtype([(name, np.uintp, MAX_TENSORS) for name in ("out", "value")] + SIZES)
CONTROL = np.dtype(
    [(name, np.uintp) for name in ("table", "row", "stopped")]
    + [(name, np.int64) for name in ("part", "parts")]
    + [("scalars", np.float64, 4), ("constants", np.float64, 8)]
)


class GpuTraining(Compositions):
    """The part of GpuBackend that a training step needs around its layers."""

    def update(
        self,
        rule: UpdateRule,
        ws: Arrays,
        dws: Arrays,
        states: Sequence[Arrays],
        scalars: Sequence[float],
        constants: Sequence[float],
        outs: Arrays,
        new_states: Sequence[Arrays],
        control: StepControl | None = None,
    ) -> None:
        """Update 16 parameters in one launch."""
        if rule.kernel is None:
            super().update(rule, ws, dws, states, scalars, constants, outs, new_states, control)
            return
        numbers = _numbers(scalars, constants, control)
        with _contiguous(outs, *new_states) as written:
            read = [[ready(array) for array in arrays] for arrays in (ws, dws, *states)]
            for tensors, chunks in _tensors(written[0], read[0], read[1], read[2:], written[1:]):
                launch("optim", rule.kernel, ws[0].dtype, (min(chunks, GATHER_BLOCKS),), BLOCK, tensors, numbers)

    def l2_penalty(self, loss: Array, weights: Arrays, grads: Arrays, reg: float) -> Array:
        """Add reg * W to all gradients and sum the squares in one launch, and add them up in another."""
        dtype = weights[0].dtype
        loss, total = cupy.asarray(loss, dtype), cupy.empty((), dtype)
        parts = []
        with _contiguous(grads) as (written,):
            for tensors, chunks in _tensors(written, [ready(w) for w in weights], written):
                blocks = min(chunks, GATHER_BLOCKS)
                parts.append(cupy.empty(blocks, dtype))
                launch("penalty", "l2_penalty", dtype, (blocks,), BLOCK, tensors, parts[-1], float(reg))
        for part in parts:
            launch("penalty", "add_penalty", dtype, (1,), BLOCK, loss, part, total, part.size, 0.5 * float(reg))
            loss, total = total, cupy.empty((), dtype)
        return loss

    def clip_gradients(self, grads: Arrays, max_norm: float) -> list[Array]:
        """Sum the squares of all gradients, then scale them: two launches for 16 arrays, and nothing is waited for."""
        read, outs = [ready(g) for g in grads], [cupy.empty(g.shape, g.dtype) for g in grads]
        dtype, batches = grads[0].dtype, list(_tensors(outs, read, read))
        counts = [min(chunks, GATHER_BLOCKS) for _, chunks in batches]
        parts, first = cupy.empty((sum(counts), 3), dtype), 0
        for (tensors, _), blocks in zip(batches, counts, strict=True):
            launch("penalty", "sum_squares", dtype, (blocks,), BLOCK, tensors, parts[first : first + blocks])
            first += blocks
        limit = float(max_norm) if max_norm <= float(np.finfo(dtype).max) else math.inf
        for (tensors, _), blocks in zip(batches, counts, strict=True):
            launch("penalty", "clip", dtype, (blocks,), BLOCK, tensors, parts, len(parts), limit)
        return outs

    def gather_rows(self, x: Array, indices: Array) -> Array:
        """Copy rows in words of up to 8 bytes; an index outside gives zeros."""
        return _gather(x, cupy.asarray(indices, np.int64), None)

    def augment(self, x: Array, draws: Array, cutout: int) -> Array:
        """Cut, mirror and clear in one pass."""
        return _augment(x, cupy.asarray(draws, np.int32), None, cutout)

    def gather_step_rows(self, x: Array, table: Array, row: Array) -> Array:
        """Copy rows as ``gather_rows`` does."""
        return _gather(x, table, row)

    def augment_step(self, x: Array, table: Array, row: Array, cutout: int) -> Array:
        """Cut, mirror and clear in one pass."""
        return _augment(x, table, row, cutout)

    def record_loss(self, loss: Array, losses: Array, row: Array, stopped: Array) -> None:
        """Wait for nothing."""
        launch("penalty", "record_loss", loss.dtype, (1,), (1,), loss, losses, row, stopped)

    def next_step(self, row: Array) -> None:
        """Wait for nothing."""
        # The entry point has a REAL's name, and no REAL.
        launch("penalty", "next_step", np.dtype(np.float32), (1,), (1,), row)

    def assign(self, outs: Arrays, values: Arrays, stopped: Array) -> None:
        """Copy 16 arrays in one launch; what has no whole words of 4 bytes in one of its own."""
        with _contiguous(outs) as (written,):
            pairs = [(out, ready(cupy.asarray(value, out.dtype))) for out, value in zip(written, values, strict=True)]
            # Neither entry point has a REAL, but its name.
            named = np.dtype(np.float32)
            for copies, chunks in _copies([pair for pair in pairs if _has_words(*pair)]):
                launch("penalty", "assign", named, (min(chunks, GATHER_BLOCKS),), BLOCK, copies, stopped)
            for out, value in (pair for pair in pairs if not _has_words(*pair)):
                to, source = (array.reshape(-1).view(np.uint8) for array in (out, value))
                launch("penalty", "assign_bytes", named, (blocks_for(to.size),), BLOCK, to, source, to.size, stopped)

    def upload(self, target: Array, values: Array) -> None:
        """Copy by way of pinned memory, which the device reads when it is the stream's turn."""
        target[...] = cupy.asarray(values, target.dtype)

    def graph_recorder(self) -> Any:
        """Return a GraphRecorder."""
        return GraphRecorder()


def _gather(x: Array, indices: Array, row: Array | None) -> Array:
    out = cupy.empty((indices.shape[-1], *x.shape[1:]), x.dtype)
    if not out.size:
        return out
    row_bytes = out.nbytes // len(out)
    x = ready(x)
    word = next(size for size in (8, 4, 2, 1) if row_bytes % size == 0 and x.data.ptr % size == 0)
    source, target = (a.reshape(len(a), -1).view(f"u{word}") for a in (x, out))
    arrays, sizes = (source, ready(indices), row, target), (len(out), row_bytes // word, len(x))
    # The entry point has a REAL's name, and no REAL.
    launch("batch", f"gather_rows_{word}", np.dtype(np.float32), (blocks_for(target.size),), BLOCK, *arrays, *sizes)
    return out


def _augment(x: Array, draws: Array, row: Array | None, cutout: int) -> Array:
    out = cupy.empty(x.shape, x.dtype)
    if out.size:
        source, target = (a.view(f"u{x.dtype.itemsize}") for a in (ready(x), out))
        arrays, name = (source, ready(draws), row, target), f"augment_{x.dtype.itemsize}"
        launch("batch", name, np.dtype(np.float32), (blocks_for(out.size),), BLOCK, *arrays, *x.shape, cutout)
    return out


def _numbers(scalars: Sequence[float], constants: Sequence[float], control: StepControl | None) -> Any:
    """Return the structure Control of optim.cu."""
    numbers = np.zeros(1, CONTROL)
    numbers["scalars"][0, : len(scalars)] = scalars
    numbers["constants"][0, : len(constants)] = constants
    if control is None:
        return numbers
    numbers["stopped"] = control.stopped.data.ptr
    if control.table is not None and control.row is not None:
        numbers["table"], numbers["row"] = control.table.data.ptr, control.row.data.ptr
        numbers["part"], numbers["parts"] = control.part, control.table.shape[1]
    return numbers


@contextmanager
def _contiguous(*written: Arrays) -> Iterator[list[list[Array]]]:
    """Give contiguous arrays to write to, and copy back what was written to those that stand for others."""
    copies = [[ready(array) for array in arrays] for arrays in written]
    yield copies
    for arrays, contiguous in zip(written, copies, strict=True):
        for array, copy in zip(arrays, contiguous, strict=True):
            if copy is not array:
                array[...] = copy


def _tensors(
    outs: Arrays, ws: Arrays, dws: Arrays, states: Sequence[Arrays] = (), new_states: Sequence[Arrays] = ()
) -> Iterator[tuple[Any, int]]:
    """Yield the structure Tensors of up to MAX_TENSORS arrays for one launch, and its number of chunks."""
    for batch in _batches([i for i, w in enumerate(ws) if w.size]):
        tensors = np.zeros(1, TENSORS)
        for name, arrays in zip(("out", "w", "gradient"), (outs, ws, dws), strict=True):
            tensors[name][0, : len(batch)] = [arrays[i].data.ptr for i in batch]
        for name, rows in (("state", states), ("new_state", new_states)):
            for place, arrays in enumerate(rows):
                tensors[name][0, place, : len(batch)] = [arrays[i].data.ptr for i in batch]
        yield tensors, _set_sizes(tensors, [ws[i].size for i in batch])


def _copies(pairs: list[tuple[Array, Array]]) -> Iterator[tuple[Any, int]]:
    """Yield the structure Copies of up to MAX_TENSORS pairs (out, value) for one launch, and its number of chunks."""
    for batch in _batches([pair for pair in pairs if pair[0].size]):
        copies = np.zeros(1, COPIES)
        for name, arrays in zip(("out", "value"), zip(*batch, strict=True), strict=True):
            copies[name][0, : len(batch)] = [array.data.ptr for array in arrays]
        yield copies, _set_sizes(copies, [out.nbytes // 4 for out, _ in batch])


def _has_words(out: Array, value: Array) -> bool:
    return all(number % 4 == 0 for number in (out.nbytes, out.data.ptr, value.data.ptr))


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    return (items[begin : begin + MAX_TENSORS] for begin in range(0, len(items), MAX_TENSORS))


def _set_sizes(structure: Any, sizes: list[int]) -> int:
    """Fill in the structure Sizes, and return the number of chunks."""
    chunks = 0
    for item, size in enumerate(sizes):
        structure["size"][0, item], structure["first_chunk"][0, item] = size, chunks
        chunks += -(-size // CHUNK)
    structure["count"], structure["chunks"] = len(sizes), chunks
    return chunks
