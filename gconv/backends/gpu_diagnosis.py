"""What stands between this machine and the gpu backend, and the command that mends it."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.metadata import distributions
from typing import Any

from gconv.backends.base import BackendUnavailableError

__all__ = ["check_gpu", "describe_gpu"]

USE_THE_CPU = "or use the CPU: set GCONV_BACKEND=cpu or call gconv.use_backend('cpu')"


def check_gpu() -> None:
    """Raise BackendUnavailableError, with the cause and what mends it, unless kernels can run on a device."""
    problem = _problem()
    if problem is not None:
        raise BackendUnavailableError(f"the gpu backend can't run: {problem}; {USE_THE_CPU}")


def describe_gpu() -> str:
    """Return the device, the versions and the compiler's cache in one line; for a machine where check_gpu passes."""
    cupy = _import_cupy()
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(cupy.cuda.Device().id)
    name, major, minor = properties["name"].decode(), properties["major"], properties["minor"]
    free, total = runtime.memGetInfo()
    driver, toolkit = _version(runtime.driverGetVersion()), _version(runtime.runtimeGetVersion())
    cache = os.environ.get("CUPY_CACHE_DIR", "~/.cupy/kernel_cache")
    return (
        f"{name} (sm_{major}{minor}), {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, driver for CUDA {driver}, "
        f"CuPy {cupy.__version__} with CUDA {toolkit}, kernels cached in {cache}"
    )


def _problem() -> str | None:
    """Return what is wrong, the first cause of all; None where a device answers and NVRTC compiles for it."""
    installed = sorted(
        name
        for name in {str(d.metadata["Name"]).lower() for d in distributions() if d.metadata["Name"]}
        if name == "cupy" or name.startswith("cupy-cuda")
    )
    try:
        cupy = _import_cupy()
    except ImportError as error:
        if not installed:
            return (
                "CuPy is not installed: pip install 'gconv[cuda13]' for a driver of version 580 or later, "
                "'gconv[cuda12]' for an older one"
            )
        again = installed[0]
        return f"{again} is installed but can't be imported ({error}): pip install --force-reinstall {again}"
    if len(installed) > 1:
        return (
            f"{', '.join(installed)} are installed together and overwrite each other: "
            f"pip uninstall {' '.join(installed)}, then install one"
        )
    return _device_problem(cupy) or _compiler_problem(cupy)


def _import_cupy() -> Any:
    import cupy

    return cupy


def _device_problem(cupy: Any) -> str | None:
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        return _driver_problem(runtime, str(error))
    if count == 0:
        return _no_device()
    return None


def _driver_problem(runtime: Any, error: str) -> str:
    if "NoDevice" in error:
        return _no_device()
    built = _version(runtime.runtimeGetVersion())
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        return (
            f"there is no NVIDIA driver ({library} is missing): install one (Debian: apt-get install nvidia-driver; "
            "in a container: docker run --gpus all)"
        )
    driver = runtime.driverGetVersion()
    if driver // 1000 < int(built.split(".")[0]):
        return (
            f"the driver is too old: it runs CUDA {_version(driver)}, and CuPy was built for CUDA {built}: update the "
            f"driver, or pip uninstall cupy-cuda{built.split('.')[0]}x && pip install 'gconv[cuda{driver // 1000}]'"
        )
    return f"CUDA does not start ({error}): see whether nvidia-smi works"


def _no_device() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return f"no device is visible: CUDA_VISIBLE_DEVICES is {visible!r}; unset it"
    return "the driver finds no device: see whether nvidia-smi lists one (in a container: docker run --gpus all)"


def _compiler_problem(cupy: Any) -> str | None:
    try:
        cupy.cuda.nvrtc.getVersion()
    except (AttributeError, ImportError, RuntimeError, OSError) as error:
        major = cupy.cuda.runtime.runtimeGetVersion() // 1000
        return f"NVRTC, which compiles the kernels, is missing ({error}): pip install -U 'cupy-cuda{major}x[ctk]'"
    return None


def _version(number: int) -> str:
    """Return CUDA's 13020 as 13.2."""
    return f"{number // 1000}.{number % 1000 // 10}"
