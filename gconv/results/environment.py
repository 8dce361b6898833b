"""What a result was computed with: versions, processor, backend."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gconv.backends import get_backend
from gconv.backends.cpu import kernels
from gconv.backends.gpu_diagnosis import describe_gpu
from gconv.backends.threads import get_num_threads

__all__ = ["environment", "package_version", "processor"]


def environment() -> dict[str, str]:
    """Return names and values of what the default backend runs on."""
    found = {
        "gconv": package_version("gconv"),
        "NumPy": package_version("numpy"),
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "Processor": f"{processor()}, {os.cpu_count()} cores, {get_num_threads()} threads used",
        "Backend": get_backend().name,
        "CPU kernels": f"{kernels.simd_level()}" if kernels else "not compiled: NumPy alone",
    }
    if get_backend().name == "gpu":
        found["GPU"] = describe_gpu()
    return found


def package_version(package: str) -> str:
    """Return a package's version, or "missing"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def processor() -> str:
    """Return the processor's name, as well as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
