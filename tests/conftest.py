"""Fixtures: the backend under test, the dtype, and one table of tolerances."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

import gconv

# What may differ, and why:
#   data movement (im2col, pooling forward): nothing, every value is a copy
#   float64: 1e-12 of the largest value; sums of up to some 10^4 terms in another order
#   float32: 8 eps sqrt(K) of the largest value for K terms; rounding errors add up like a random walk
EXACT = 0.0
FLOAT64 = 1e-12
FLOAT32_PER_ROOT_TERM = 8 * float(np.finfo(np.float32).eps)


def pytest_addoption(parser):
    parser.addoption(
        "--gpu-on-cpu",
        action="store_true",
        help="run the gpu backend on host memory, its kernels in a checking emulator; needs CuPy, g++ and no device",
    )
    parser.addoption(
        "--emulated-blocks",
        type=int,
        default=1500,
        help="with --gpu-on-cpu: how many thread blocks one test may run before it is skipped as too slow",
    )
    parser.addoption("--kernel-sources", type=Path, help="take the CUDA sources from this folder")


def pytest_configure(config):
    if config.getoption("--gpu-on-cpu"):
        from cuda_on_cpu import cupy_host

        cupy_host.install()
        # Processes that tests start have no device, so they get the CPU.
        os.environ["GCONV_BACKEND"] = "cpu"
        gconv.use_backend("gpu")
    if config.getoption("--kernel-sources"):
        from gconv.backends.cuda_module import SourceFolder

        SourceFolder.path = config.getoption("--kernel-sources")
    try:
        gconv.get_backend()
    except (gconv.BackendUnavailableError, ValueError) as error:
        raise pytest.UsageError(f"the backend that GCONV_BACKEND asks for can't be tested: {error}") from error


def pytest_report_header(config):
    return f"gconv {gconv.__version__} from {Path(gconv.__file__).parent}, backend {gconv.get_backend().name}"


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--gpu-on-cpu"):
        from cuda_on_cpu import cupy_host

        kernels = set(cupy_host.launches)
        terminalreporter.write_line(
            f"host memory: {len(cupy_host.launches)} launches of {len(kernels)} kernels, every memory access checked"
        )


def tolerance(dtype, terms):
    return FLOAT64 if np.dtype(dtype) == np.float64 else FLOAT32_PER_ROOT_TERM * math.sqrt(max(terms, 1))


def assert_close(actual, expected, terms=1, what="result"):
    """Compare with an oracle computed in float64; ``terms`` is how many products each value sums."""
    actual = gconv.get_backend(actual).to_numpy(actual)
    expected = np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    if not actual.size:
        return
    scale = max(float(np.abs(expected).max()), math.sqrt(terms) if terms > 1 else 1e-300)
    error = np.abs(actual.astype(np.float64) - expected)
    worst = np.unravel_index(np.argmax(error), error.shape)
    limit = tolerance(actual.dtype, terms) * scale
    assert error[worst] <= limit, (
        f"{what}: worst at {worst}: {actual[worst]!r}, expected {expected[worst]!r}, error {error[worst]:.3g} > {limit:.3g}"
    )


@pytest.fixture(autouse=True)
def emulator_budget(request):
    """Skip, visibly, what would take minutes in the emulator: on a device it runs."""
    if request.config.getoption("--gpu-on-cpu"):
        from cuda_on_cpu import cupy_host

        cupy_host.settings["blocks"] = request.config.getoption("--emulated-blocks")


@pytest.fixture
def backend():
    """The backend that GCONV_BACKEND names."""
    return gconv.get_backend()


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def rng():
    """The same numbers in every run."""
    return np.random.default_rng(231)


@pytest.fixture
def cifar10_folder():
    """Real CIFAR-10, where GCONV_DATA_DIR says it is."""
    if not os.environ.get("GCONV_DATA_DIR"):
        pytest.skip("GCONV_DATA_DIR is not set: no real CIFAR-10 at hand")
    from gconv.datasets.cifar10_files import find_cifar10

    return find_cifar10(download=False)
