"""Update rules, penalties and minibatches on CuPy arrays: many arrays in one launch, nothing read back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cupy
import numpy as np

from gconv._typing import Array
from gconv.backends.base import adam_scalars
from gconv.backends.compositions import Compositions
from gconv.backends.cuda_module import launch
from gconv.backends.gpu_conv import BLOCK, ready
from gconv.backends.gpu_memory import names_memory
from gconv.backends.gpu_plan import GATHER_BLOCKS, blocks_for

__all__ = ["GpuTraining"]

# The structures of kernels/cuda/tensors.cuh and optim.cu.
MAX_TENSORS, CHUNK = 16, 4096
POINTERS, COUNTS = ("out", "w", "gradient", "first", "second"), ("size", "first_chunk")
TENSORS = np.dtype(
    [(name, np.uintp, (MAX_TENSORS,)) for name in POINTERS]
    + [(name, np.int64, (MAX_TENSORS,)) for name in COUNTS]
    + [("count", np.int64), ("chunks", np.int64)]
)
CONTROL = np.dtype([(name, np.uintp) for name in ("table", "step", "stopped")] + [("values", np.float64, (4,))])

Arrays = Sequence[Array]


class _Control(threading.local):
    """Device arrays that a thread's updates read: scalars, their row, the flag that stops all updates."""

    arrays: tuple[Array | None, Array | None, Array | None] = (None, None, None)


class GpuTraining(Compositions):
    """The part of GpuBackend that a training step needs around its layers."""

    def __init__(self) -> None:
        self._control = _Control()

    @contextmanager
    def controlled(self, stopped: Array, table: Array | None = None, step: Array | None = None) -> Iterator[None]:
        """Let the updates inside stop where ``stopped`` is set, and take their scalars from ``table[step]``.

        Parameters
        ----------
        stopped, step : int64 array, shape ()
        table : float64 array, shape (steps, 4)
            As ``sgd_scalars`` or ``adam_scalars`` give them; the scalars given to the step are then not used.
        """
        before, self._control.arrays = self._control.arrays, (table, step, stopped)
        try:
            yield
        finally:
            self._control.arrays = before

    def sgd_step(self, ws: Arrays, dws: Arrays, learning_rate: float, outs: Arrays) -> None:
        """Update all parameters in one launch."""
        self._update("sgd", (learning_rate,), outs, ws, dws)

    def momentum_step(
        self,
        ws: Arrays,
        dws: Arrays,
        velocities: Arrays,
        learning_rate: float,
        momentum: float,
        nesterov: bool,
        outs: Arrays,
    ) -> None:
        """Update all parameters in one launch."""
        rest = float(momentum), int(nesterov)
        self._update("momentum", (learning_rate,), outs, ws, dws, velocities, rest=rest)

    def rmsprop_step(
        self,
        ws: Arrays,
        dws: Arrays,
        caches: Arrays,
        learning_rate: float,
        decay_rate: float,
        epsilon: float,
        outs: Arrays,
    ) -> None:
        """Update all parameters in one launch."""
        rest = float(decay_rate), 1 - float(decay_rate), float(epsilon)
        self._update("rmsprop", (learning_rate,), outs, ws, dws, caches, rest=rest)

    def adam_step(
        self,
        ws: Arrays,
        dws: Arrays,
        ms: Arrays,
        vs: Arrays,
        t: int,
        learning_rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
        outs: Arrays,
    ) -> None:
        """Update all parameters in one launch."""
        scalars = adam_scalars(t, learning_rate, beta1, beta2, weight_decay)
        rest = float(beta1), 1 - float(beta1), float(beta2), 1 - float(beta2), float(epsilon)
        self._update("adam", scalars, outs, ws, dws, ms, vs, rest=rest)

    def _update(
        self,
        operation: str,
        scalars: Sequence[float],
        outs: Arrays,
        ws: Arrays,
        dws: Arrays,
        firsts: Arrays | None = None,
        seconds: Arrays | None = None,
        rest: tuple[Any, ...] = (),
    ) -> None:
        control = np.zeros(1, CONTROL)
        for name, array in zip(("table", "step", "stopped"), self._control.arrays, strict=True):
            control[name] = 0 if array is None else array.data.ptr
        control["values"][0, : len(scalars)] = scalars
        written = [outs, *(arrays for arrays in (firsts, seconds) if arrays is not None)]
        # What is written to must be contiguous; where it is not, a copy is written and copied back.
        copies = [[ready(array) for array in arrays] for arrays in written]
        read = [[ready(array) for array in arrays] for arrays in (ws, dws)]
        for tensors, chunks in _tensors(copies[0], *read, *copies[1:]):
            launch("optim", operation, ws[0].dtype, (min(chunks, GATHER_BLOCKS),), BLOCK, tensors, control, *rest)
        for arrays, contiguous in zip(written, copies, strict=True):
            for array, copy in zip(arrays, contiguous, strict=True):
                if copy is not array:
                    array[...] = copy

    @names_memory
    def l2_penalty(self, loss: Array, weights: Arrays, grads: Arrays, reg: float) -> Array:
        """Add reg * W to all gradients and sum the squares in one launch, and add them up in another."""
        dtype = weights[0].dtype
        loss, total = cupy.asarray(loss, dtype), cupy.empty((), dtype)
        weights, contiguous = [ready(w) for w in weights], [ready(g) for g in grads]
        parts = []
        for tensors, chunks in _tensors(contiguous, weights, contiguous):
            blocks = min(chunks, GATHER_BLOCKS)
            parts.append(cupy.empty(blocks, dtype))
            launch("penalty", "l2_penalty", dtype, (blocks,), BLOCK, tensors, parts[-1], float(reg))
        for array, copy in zip(grads, contiguous, strict=True):
            if copy is not array:
                array[...] = copy
        for part in parts:
            launch("penalty", "add_penalty", dtype, (1,), BLOCK, loss, part, total, part.size, 0.5 * float(reg))
            loss, total = total, cupy.empty((), dtype)
        return loss

    @names_memory
    def clip_gradients(self, grads: Arrays, max_norm: float) -> list[Array]:
        """Sum the squares of all gradients, then scale them: two launches for 16 arrays, and nothing is waited for."""
        read, outs = [ready(g) for g in grads], [cupy.empty(g.shape, g.dtype) for g in grads]
        dtype, batches = grads[0].dtype, list(_tensors(outs, read, read))
        counts = [min(chunks, GATHER_BLOCKS) for _, chunks in batches]
        parts, first = cupy.empty(sum(counts), dtype), 0
        for (tensors, _), blocks in zip(batches, counts, strict=True):
            launch("penalty", "sum_squares", dtype, (blocks,), BLOCK, tensors, parts[first : first + blocks])
            first += blocks
        for (tensors, _), blocks in zip(batches, counts, strict=True):
            launch("penalty", "clip", dtype, (blocks,), BLOCK, tensors, parts, parts.size, float(max_norm))
        return outs

    @names_memory
    def gather_rows(self, x: Array, indices: Array) -> Array:
        """Copy rows in words of up to 8 bytes; an index outside gives zeros."""
        return _gather(x, cupy.asarray(indices, np.int64), None)

    def gather_step_rows(self, x: Array, table: Array, step: Array) -> Array:
        """Return x[table[step]] for an int64 table (steps, M) and a counter () on the device."""
        return _gather(x, table, step)

    @names_memory
    def augment(self, x: Array, draws: Array, cutout: int) -> Array:
        """Cut, mirror and clear in one pass."""
        return _augment(x, cupy.asarray(draws, np.int32), None, cutout)

    def augment_step(self, x: Array, table: Array, step: Array, cutout: int) -> Array:
        """Augment with row ``step``, a counter () on the device, of an int32 table (steps, N, 5)."""
        return _augment(x, table, step, cutout)

    def record_loss(self, loss: Array, losses: Array, step: Array, stopped: Array) -> None:
        """Store a loss () at ``losses[step]``, float64, and set ``stopped`` once one is not finite."""
        launch("penalty", "record_loss", loss.dtype, (1,), (1,), loss, losses, step, stopped)

    def next_step(self, step: Array) -> None:
        """Add 1 to ``step``."""
        launch("penalty", "next_step", np.dtype(np.float32), (1,), (1,), step)


def _gather(x: Array, indices: Array, step: Array | None) -> Array:
    out = cupy.empty((indices.shape[-1], *x.shape[1:]), x.dtype)
    if not out.size:
        return out
    row_bytes = out.nbytes // len(out)
    x = ready(x)
    word = next(size for size in (8, 4, 2, 1) if row_bytes % size == 0 and x.data.ptr % size == 0)
    source, target = (a.reshape(len(a), -1).view(f"u{word}") for a in (x, out))
    arrays, sizes = (source, ready(indices), step, target), (len(out), row_bytes // word, len(x))
    # The entry point has a REAL's name, and no REAL.
    launch("batch", f"gather_rows_{word}", np.dtype(np.float32), (blocks_for(target.size),), BLOCK, *arrays, *sizes)
    return out


def _augment(x: Array, draws: Array, step: Array | None, cutout: int) -> Array:
    out = cupy.empty(x.shape, x.dtype)
    if out.size:
        source, target = (a.view(f"u{x.dtype.itemsize}") for a in (ready(x), out))
        arrays, name = (source, ready(draws), step, target), f"augment_{x.dtype.itemsize}"
        launch("batch", name, np.dtype(np.float32), (blocks_for(out.size),), BLOCK, *arrays, *x.shape, cutout)
    return out


def _tensors(
    outs: Arrays, ws: Arrays, dws: Arrays, firsts: Arrays | None = None, seconds: Arrays | None = None
) -> Iterator[tuple[Any, int]]:
    """Yield the structure of up to MAX_TENSORS arrays for one launch, and its number of chunks."""
    nothing = [None] * len(ws)
    rows = [row for row in zip(outs, ws, dws, firsts or nothing, seconds or nothing, strict=True) if row[1].size]
    for begin in range(0, len(rows), MAX_TENSORS):
        tensors, chunks = np.zeros(1, TENSORS), 0
        batch = rows[begin : begin + MAX_TENSORS]
        for item, row in enumerate(batch):
            for name, array in zip(POINTERS, row, strict=True):
                tensors[name][0, item] = 0 if array is None else array.data.ptr
            tensors["size"][0, item], tensors["first_chunk"][0, item] = row[1].size, chunks
            chunks += -(-row[1].size // CHUNK)
        tensors["count"], tensors["chunks"] = len(batch), chunks
        yield tensors, chunks
