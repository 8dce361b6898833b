"""The CUDA kernels, one test file a .cu file; on a device, or with --gpu-on-cpu every access checked."""

from functools import wraps
from pathlib import Path

import numpy as np
import pytest

import gconv


def pytest_collection_modifyitems(items):
    if gconv.get_backend().name != "gpu":
        skip = pytest.mark.skip(reason="needs GCONV_BACKEND=gpu, on a device or with --gpu-on-cpu")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def emulator_budget(request):
    """These tests are small, and all of them are to run."""
    if request.config.getoption("--gpu-on-cpu"):
        from cuda_on_cpu import cupy_host

        cupy_host.settings["blocks"] = 1 << 62


@pytest.fixture
def gpu():
    return gconv.get_backend()


@pytest.fixture
def put(gpu, dtype):
    """Move arrays to the device in the dtype under test."""
    return lambda *arrays: tuple(gpu.asarray(np.asarray(a), dtype) for a in arrays)


@pytest.fixture(scope="module")
def ran():
    """The names of the kernels that this module's tests have launched."""
    return set()


@pytest.fixture(autouse=True)
def record_launches(ran, monkeypatch):
    from gconv.backends import cuda_module

    real = cuda_module.kernel

    @wraps(real)
    def kernel(file, operation, dtype, wide):
        ran.add((file, f"{operation}_{cuda_module.SUFFIXES[dtype]}"))
        return real(file, operation, dtype, wide)

    monkeypatch.setattr(cuda_module, "kernel", kernel)


@pytest.fixture(scope="module", autouse=True)
def every_kernel_ran(request, ran):
    """At the end of a file's tests, all of them, each entry point of its .cu file has been launched."""
    yield
    option = request.config.option
    if option.keyword or option.markexpr or any("::" in argument for argument in request.config.args):
        return
    from cuda_on_cpu.build import kernel_names

    from gconv.backends.cuda_module import compile_options, source_text

    file = request.path.stem.removeprefix("test_")
    for dtype in ("float32", "float64"):
        names = kernel_names(source_text(file), list(compile_options(dtype, False)[1:]))
        missing = sorted(name for name in names if (file, name) not in ran)
        assert names, file
        assert not missing, f"never launched: {', '.join(missing)}"


@pytest.fixture(params=[False, True], ids=["32-bit", "64-bit"])
def index_width(request, monkeypatch):
    """Indices as in kernels for small arrays, and as for those of 2^30 elements and more."""
    if request.param:
        from gconv.backends import cuda_module

        monkeypatch.setattr(cuda_module, "_WIDE_ARRAY", 0)


@pytest.fixture
def force(monkeypatch):
    """Make every product use one tile, and split its sum over so many blocks where it can be split."""
    from gconv.backends import gpu_conv, gpu_plan

    def choose(name, splits):
        tile = {"strip": gpu_plan.STRIP, "square": gpu_plan.SQUARE, "large": gpu_plan.LARGE}[name]

        def plan(rows, columns, depth, itemsize, splits_allowed):
            parts = splits if splits_allowed else 1
            chunk = -(-max(-(-depth // parts), 1) // tile.depth) * tile.depth
            tiles = -(-rows // tile.rows) * -(-columns // tile.columns)
            return gpu_plan.Plan(tile, tiles, max(-(-depth // chunk), 1), chunk)

        monkeypatch.setattr(gpu_conv, "plan_product", lambda *args, splits: plan(*args, splits))

    return choose
