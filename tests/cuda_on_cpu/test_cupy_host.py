"""CuPy on host memory refuses what a GPU refuses, and shares, copies and records as it does."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def cp(request):
    if not request.config.getoption("--gpu-on-cpu"):
        pytest.skip("needs --gpu-on-cpu")
    return pytest.importorskip("cupy")


def test_nothing_is_moved_silently(cp):
    x, on_host = cp.zeros((2, 3)), np.zeros((2, 3))
    for mixed in (
        lambda: x + on_host,
        lambda: on_host + x,
        lambda: np.asarray(x),
        lambda: np.sum(x),
        lambda: cp.exp(on_host),
        lambda: x.__setitem__(0, on_host[0]),
        lambda: x.__iadd__(on_host),
    ):
        with pytest.raises(TypeError, match=r"Unsupported type|Implicit conversion|no cupy\.ndarray"):
            mixed()


def test_what_is_not_emulated_fails(cp):
    x = cp.ones((2, 2))
    for call in (lambda: cp.tanh(x), lambda: cp.einsum("ij->i", x), lambda: cp.cumsum(x)):
        with pytest.raises(Exception, match=r"cuda|Cuda|CUDA|driver|_astype"):
            call()
    with pytest.raises(NotImplementedError):
        cp.ElementwiseKernel("T x", "T y", "y = x", "k")


def test_layouts_are_cupy_s(cp):
    x = cp.asarray(np.arange(24.0).reshape(2, 3, 4))
    assert x[1:].data.ptr == x.data.ptr + x.strides[0]
    assert (x.transpose(0, 2, 1) * 2).flags.c_contiguous is False
    assert x[:, ::2].strides == (96, 64, 8)
    assert not (cp.empty(3) == 0).any()
    assert isinstance(x.sum(), cp.ndarray)


def test_a_graph_records_and_replays(cp):
    x, out, stream = cp.zeros(3), cp.zeros(3), cp.cuda.Stream(non_blocking=True)
    pool = cp.cuda.MemoryPool()
    with cp.cuda.using_allocator(pool.malloc), stream:
        stream.begin_capture()
        y = x + 1
        out[...] = y * 2
        with pytest.raises(RuntimeError, match="stream capture"):
            x.get()
        with pytest.raises(RuntimeError, match="stream capture"):
            cp.matmul(x, x)
        graph = stream.end_capture()
    assert out.get().tolist() == [0, 0, 0]
    x.fill(4)
    graph.launch()
    assert out.get().tolist() == [10, 10, 10]


def test_a_pool_hands_freed_memory_out_again(cp):
    pool = cp.cuda.MemoryPool()
    with cp.cuda.using_allocator(pool.malloc):
        first = cp.empty(5)
        address = first.data.ptr
        second = cp.empty(5)
        assert second.data.ptr != address
        del first
        assert cp.empty(5).data.ptr == address
