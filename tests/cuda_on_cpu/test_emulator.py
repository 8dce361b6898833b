"""The emulator finds one bug of each kind, and says where; right kernels pass it."""

import shutil

import numpy as np
import pytest

from cuda_on_cpu.emulator import KernelError, Module

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

KERNEL = 'extern "C" __global__ void '
SOURCE = f"""
{KERNEL}past_the_end(const float* x, float* y, int n) {{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) y[i] = x[i];
}}
{KERNEL}scatter(const int* to, const float* x, float* y, int n) {{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[to[i]] += x[i];
}}
{KERNEL}shift_in_place(float* x, int n) {{
    const int i = threadIdx.x;
    if (i + 1 < n) x[i] = x[i + 1];
}}
{KERNEL}missing_barrier(const float* x, float* y) {{
    __shared__ float values[64];
    values[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = values[63 - threadIdx.x];
}}
{KERNEL}with_barrier(const float* x, float* y) {{
    __shared__ float values[64];
    values[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = values[63 - threadIdx.x];
}}
{KERNEL}early_return(const float* x, float* y, int n) {{
    __shared__ float values[64];
    if (threadIdx.x >= n) return;
    values[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = values[63 - threadIdx.x];
}}
{KERNEL}divergent(float* y, int n) {{
    if (threadIdx.x < n) {{
        __syncthreads();
    }} else {{
        __syncthreads();
    }}
    y[threadIdx.x] = 1;
}}
{KERNEL}half_a_warp(float* y) {{
    float value = threadIdx.x;
    if (threadIdx.x < 16) value = __shfl_down_sync(0xffffffffu, value, 8);
    y[threadIdx.x] = value;
}}
{KERNEL}outside_the_mask(float* y) {{
    float value = threadIdx.x;
    if (threadIdx.x < 16) value = __shfl_xor_sync(0xffffu, value, 16);
    y[threadIdx.x] = value;
}}
{KERNEL}warp_without_sync(float* y) {{
    __shared__ float values[32];
    values[threadIdx.x] = threadIdx.x;
    y[threadIdx.x] = values[31 - threadIdx.x];
}}
{KERNEL}warp_with_sync(float* y) {{
    __shared__ float values[32];
    values[threadIdx.x] = threadIdx.x;
    __syncwarp();
    y[threadIdx.x] = values[31 - threadIdx.x];
}}
{KERNEL}never_written(float* y) {{
    __shared__ float values[32];
    if (threadIdx.x == 0) values[y[0] > 5 ? 3 : 2] = 1;
    __syncthreads();
    if (threadIdx.x == 1) y[0] = values[3];
}}
{KERNEL}misaligned(const float* x, float* y) {{
    const float4 four = *reinterpret_cast<const float4*>(x + 1);
    y[0] = four.x + four.w;
}}
{KERNEL}null(const float* x, float* y) {{ y[0] = x[0]; }}
{KERNEL}two_blocks(float* y) {{
    if (threadIdx.x == 0) y[0] = blockIdx.x;
}}
{KERNEL}asserts(float* y, int n) {{
    assert(n > 100);
    y[0] = n;
}}
{KERNEL}overflow(float* y, int n) {{
    const int i = (int)threadIdx.x * n;
    if (i < 1) y[threadIdx.x] = 0;
}}
{KERNEL}takes_float(float* y, float a) {{ y[0] = a; }}
struct Named {{ float* y; float a; }};
{KERNEL}takes_structure(const Named named) {{ named.y[1] = named.a; }}
"""
NAMED = np.dtype([("y", np.uintp), ("a", np.float32), ("pad", np.float32)])


@pytest.fixture(scope="module")
def module():
    return Module(SOURCE)


def floats(*shape):
    return np.ones(shape, np.float32)


i4 = np.int32
BUGS = [
    ("past_the_end", "bounds", (2,), (64,), (floats(100), floats(100), i4(100)), "element 100 of 100"),
    ("scatter", "race", (2,), (64,), (np.zeros(100, i4), floats(100), floats(4), i4(100)), "other access"),
    ("shift_in_place", "race", (1,), (64,), (floats(64), i4(64)), "race"),
    ("missing_barrier", "race", (1,), (64,), (floats(64), floats(64)), "race"),
    ("early_return", "uninitialised", (1,), (64,), (floats(64), floats(64), i4(40)), "uninitialised shared"),
    ("divergent", "barrier", (1,), (64,), (floats(64), i4(40)), "different __syncthreads"),
    ("half_a_warp", "barrier", (1,), (32,), (floats(32),), "deadlock: 0 threads at __syncthreads, 16 in a warp"),
    ("outside_the_mask", "warp", (1,), (32,), (floats(32),), "lane outside the mask"),
    ("warp_without_sync", "race", (1,), (32,), (floats(32),), "race"),
    ("never_written", "uninitialised", (1,), (32,), (floats(1),), "uninitialised shared memory"),
    ("misaligned", "undefined", (1,), (1,), (floats(8), floats(1)), "misaligned pointer"),
    ("null", "bounds", (1,), (1,), (None, floats(1)), "read out of bounds"),
    ("two_blocks", "race", (4,), (32,), (floats(1),), "write after write"),
    ("asserts", "trap", (1,), (1,), (floats(1), i4(3)), "assertion failed: n > 100"),
    ("overflow", "undefined", (1,), (4,), (floats(4), i4(2**30)), "signed integer overflow"),
]


@pytest.mark.parametrize(("name", "kind", "grid", "block", "arguments", "text"), BUGS, ids=[b[0] for b in BUGS])
def test_a_bug_is_named(module, name, kind, grid, block, arguments, text):
    with pytest.raises(KernelError) as caught:
        module.get_function(name)(grid, block, arguments)
    assert kind in [found for found, _ in caught.value.reports]
    assert text in str(caught.value)
    if kind in ("race", "bounds"):
        assert "kernels.cpp:" in str(caught.value)


@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
def test_right_kernels_pass_in_every_order(order):
    for seed in range(5):
        module = Module(SOURCE, order=order, seed=seed)
        x, y = np.arange(64, dtype=np.float32), floats(64)
        module.get_function("with_barrier")((1,), (64,), (x, y))
        assert (y == x[::-1]).all()
        module.get_function("warp_with_sync")((1,), (32,), (y,))
        assert (y[:32] == np.arange(31, -1, -1)).all()


def test_the_process_goes_on_after_a_report(module):
    for _ in range(3):
        with pytest.raises(KernelError):
            module.get_function("half_a_warp")((1,), (32,), (floats(32),))
    y = floats(64)
    module.get_function("with_barrier")((1,), (64,), (floats(64), y))
    assert (y == 1).all()


def test_an_uninitialised_variable_does_not_compile():
    source = f"{KERNEL}sum(float* y, int n) {{ float total; for (int i = 0; i < n; ++i) total += 1; y[0] = total; }}"
    with pytest.raises(RuntimeError, match="uninitialized"):
        Module(source)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((floats(1), 1.5), "float for a scalar"),
        ((floats(1), np.float64(1)), "float64 for f4"),
        ((np.ones(1), np.float32(1)), "float64 array for a f4 pointer"),
        ((floats(2, 2).T[:1], np.float32(1)), "not C-contiguous"),
        ((floats(1),), "1 arguments for 2 parameters"),
        ((1, np.float32(1)), "int for a pointer"),
    ],
)
def test_arguments_are_checked(module, arguments, text):
    with pytest.raises(TypeError, match=text):
        module.get_function("takes_float")((1,), (1,), arguments)
    read_only = floats(1)
    read_only.flags.writeable = False
    with pytest.raises(TypeError, match="read-only"):
        module.get_function("takes_float")((1,), (1,), (read_only, np.float32(1)))


def test_addresses_in_structures_are_checked_too():
    y = floats(3)
    named = np.zeros(1, NAMED)
    named["y"], named["a"] = y.ctypes.data, 7
    low = y.ctypes.data
    module = Module(SOURCE, allocation=lambda address: (low, low + y.nbytes))
    module.get_function("takes_structure")((1,), (1,), (named,))
    assert y.tolist() == [1, 7, 1]
    short = Module(SOURCE, allocation=lambda address: (low, low + 4))
    with pytest.raises(KernelError, match="write out of bounds"):
        short.get_function("takes_structure")((1,), (1,), (named,))


def test_impossible_launches(module):
    kernel = module.get_function("two_blocks")
    for grid, block in (((0,), (1,)), ((1,), (2048,)), ((1, 70000), (1,)), ((1,), (1, 1, 65))):
        with pytest.raises(ValueError, match="impossible configuration"):
            kernel(grid, block, (floats(1),))
    with pytest.raises(ValueError, match="no kernel 'none'"):
        module.get_function("none")
