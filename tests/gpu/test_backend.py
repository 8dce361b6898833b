"""The gpu backend as a CuPy user meets it: what is refused, a full device, layouts, warm-up."""

from functools import cache
from inspect import unwrap
from typing import NamedTuple

import numpy as np
import pytest
from conftest import assert_close
from oracles import conv, loops

import gconv
from gconv.fast_layers import conv_backward_fast, conv_forward_fast, max_pool_forward_fast
from gconv.layers import affine_forward, conv_forward_naive, max_pool_forward_naive, softmax_loss

CONV = {"stride": 1, "pad": 1}


@pytest.fixture(scope="module", autouse=True)
def every_kernel_ran():
    """This file belongs to no .cu file."""


def test_mixed_arrays_are_refused(gpu):
    x, w, b = np.ones((2, 3, 6, 5)), np.ones((4, 3, 3, 3)), np.ones(4)
    with pytest.raises(TypeError, match="x, w, b must be arrays of one module; got x of cupy, w of numpy, b of cupy"):
        conv_forward_fast(gpu.asarray(x), w, gpu.asarray(b), CONV)
    with pytest.raises(TypeError, match="must be arrays of one module"):
        softmax_loss(gpu.asarray(np.ones((2, 3))), np.zeros(2, int))


def test_arrays_decide_whatever_is_selected(gpu):
    x = np.ones((2, 3))
    with gconv.use_backend("cpu"):
        out, _ = affine_forward(gpu.asarray(x), gpu.asarray(x.T.copy()), gpu.asarray(np.zeros(2)))
    assert type(out) is gpu.xp.ndarray
    out, _ = affine_forward(x, x.T, np.zeros(2))
    assert type(out) is np.ndarray


@pytest.mark.parametrize("layer", [conv_forward_naive, max_pool_forward_naive])
def test_the_loops_take_numpy_arrays_alone(gpu, layer):
    x, w, b = (gpu.asarray(a) for a in (np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), np.ones(1)))
    arguments = (
        (x, w, b, CONV) if layer is conv_forward_naive else (x, {"pool_height": 2, "pool_width": 2, "stride": 2})
    )
    with pytest.raises(TypeError, match="must be NumPy arrays, the loops run on the CPU; got CuPy arrays"):
        layer(*arguments)


def test_a_full_device_is_a_memory_error_that_names_its_cause(gpu, request):
    arrays = np.ones((5, 3, 20, 20)), np.ones((40, 3, 3, 3)), np.ones(40)
    x, w, b = (gpu.asarray(a) for a in arrays)
    if request.config.getoption("--gpu-on-cpu"):
        from cuda_on_cpu import cupy_host

        full = cupy_host.full_device(100_000)
    else:
        full = _limited(gpu.xp.get_default_memory_pool())
    dout = gpu.asarray(np.ones((5, 40, 20, 20)))
    wanted = (
        r"conv_forward_fast: no memory for arguments \(5, 3, 20, 20\) float64, .*; the batch has 5\. "
        r"Out of memory allocating [\d,]+ bytes.*free_all_blocks"
    )
    with full, pytest.raises(MemoryError, match=wanted):
        conv_forward_fast(x, w, b, CONV)
    out, cache = conv_forward_fast(x, w, b, CONV)
    assert conv_backward_fast(dout, cache)[0].shape == x.shape
    assert_close(out, loops.conv_forward(*arrays, conv(x, w, 1, 1)), 27)


class _limited:
    def __init__(self, pool):
        self._pool = pool

    def __enter__(self):
        self._pool.free_all_blocks()
        self._pool.set_limit(size=max(self._pool.used_bytes(), 1))

    def __exit__(self, *_):
        self._pool.set_limit(size=0)


def test_results_stay_on_the_device_and_caches_are_small(gpu):
    x, w, b = (gpu.asarray(a) for a in (np.ones((2, 3, 8, 8)), np.ones((4, 3, 3, 3)), np.ones(4)))
    out, cache = conv_forward_fast(x, w, b, CONV)
    assert cache[0] is x
    pooled, (argmax, _) = max_pool_forward_fast(out, {"pool_height": 2, "pool_width": 2, "stride": 2})
    assert pooled.shape == (2, 4, 4, 4)
    assert argmax.dtype == np.uint8


def test_wide_indices_are_taken_from_the_sizes(gpu, monkeypatch):
    from gconv.backends import cuda_module

    seen = []

    def kernel(file, operation, dtype, wide):
        return lambda grid, block, arguments: seen.append((wide, arguments))

    class Numbers(NamedTuple):
        first: int
        second: int

    monkeypatch.setattr(cuda_module, "kernel", kernel)
    small = gpu.xp.empty(3)
    cuda_module.launch("f", "o", small.dtype, (1,), (1,), small, 3, 0.5)
    cuda_module.launch("f", "o", small.dtype, (1,), (1,), small, 1 << 28, None)
    cuda_module.launch("f", "o", small.dtype, (1,), (1,), small, Numbers(1, 2))
    cuda_module.launch("f", "o", small.dtype, (1,), (1,), small, Numbers(1, 1 << 28))
    monkeypatch.setattr(cuda_module, "_WIDE_ARRAY", 3)
    cuda_module.launch("f", "o", small.dtype, (1,), (1,), small, 3)
    assert [wide for wide, _ in seen] == [False, True, False, True, True]
    assert [type(a) for a in seen[0][1][1:]] == [np.int32, np.float64]
    assert type(seen[1][1][1]) is type(seen[4][1][1]) is np.int64
    # a structure has the width too
    assert seen[2][1][1].tobytes() == np.array([1, 2], np.int32).tobytes()
    assert seen[3][1][1].tobytes() == np.array([1, 1 << 28], np.int64).tobytes()


def test_warmup(gpu, monkeypatch):
    from gconv.backends import gpu as module

    files = []

    class Compiled:
        def compile(self):
            files.append(self.asked)

    def kernel_module(*asked):
        compiled = Compiled()
        compiled.asked = asked
        return compiled

    monkeypatch.setattr(module, "kernel_module", kernel_module)
    gconv.warmup("float64")
    assert ("conv", "float64", False) in files
    assert len(files) == len(module.source_files()) >= 10
    with pytest.raises(ValueError, match="warmup: dtypes must be float32 or float64; got 'int8'"):
        gconv.warmup("int8")


def test_splits_fit_into_the_workspace():
    from gconv.backends.gpu_plan import SPLIT_BYTES, plan_product

    for rows, columns, depth in ((32, 148, 10**6), (1, 1, 10**7), (513, 4609, 10**5), (10, 10, 1), (3, 5, 0)):
        plan = plan_product(rows, columns, depth, 4, splits=True)
        assert plan.splits == 1 or plan.splits * rows * columns * 4 <= SPLIT_BYTES
        assert plan.chunk * plan.splits >= depth
        assert plan.chunk % plan.tile.depth == 0
        assert (plan.splits - 1) * plan.chunk < max(depth, 1)


def test_a_kernel_is_not_loaded_while_a_graph_is_captured(gpu, monkeypatch):
    from gconv.backends import cuda_module

    row = gpu.xp.zeros((), np.int64)
    monkeypatch.setattr(cuda_module, "kernel", cache(unwrap(cuda_module.kernel)))  # nothing has run
    recorder = gpu.graph_recorder()
    with pytest.raises(RuntimeError, match=r"launch: kernel next_step_f32 of penalty.cu must run once before a graph"):
        recorder.record(lambda: gpu.next_step(row))
    gpu.next_step(row)
    recorder.record(lambda: gpu.next_step(row)).launch()
    gpu.synchronize()
    assert int(row) == 2
