"""``gconv info``: what this machine offers, and what is missing."""

from __future__ import annotations

import platform

import click

from gconv import __version__
from gconv.backends import NAMES, BackendUnavailableError, get_backend, unavailable_reason
from gconv.backends.cpu import kernels
from gconv.backends.gpu_diagnosis import describe_gpu
from gconv.backends.threads import get_num_threads
from gconv.datasets.cifar10_files import find_cifar10
from gconv.results.environment import package_version

__all__ = ["info"]

PACKAGES = (
    "numpy",
    "safetensors",
    "matplotlib",
    "pooch",
    "tqdm",
    "scikit-learn",
    "torch",
    "cupy-cuda12x",
    "cupy-cuda13x",
)


@click.command()
def info() -> None:
    """Show versions, backends and why one is missing, SIMD, OpenMP, threads, and the data found."""
    rows = {
        "gconv": __version__,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": ", ".join(f"{name} {package_version(name)}" for name in PACKAGES),
        **{f"backend {name}": unavailable_reason(name) or _ready(name) for name in NAMES},
        "default backend": _default(),
        "kernels": "compiled" if kernels else "missing: NumPy alone; install a C++ compiler, then gconv again",
        "SIMD": _simd(),
        "OpenMP": _openmp(),
        "threads": f"{get_num_threads()} (OMP_NUM_THREADS or gconv.set_num_threads changes it)",
        "digits": "found" if package_version("scikit-learn") != "missing" else "missing: pip install 'gconv[demo]'",
        "CIFAR-10": _cifar10(),
    }
    for name, value in rows.items():
        click.echo(f"{name:16} {value}")


def _default() -> str:
    try:
        return get_backend().name
    except (BackendUnavailableError, ValueError) as error:
        return f"none: {error}"


def _ready(backend: str) -> str:
    return f"ready: {describe_gpu()}" if backend == "gpu" else "ready"


def _simd() -> str:
    if not kernels:
        return "not used"
    return f"{kernels.simd_level()}, of {', '.join(kernels.simd_levels())} (GCONV_SIMD chooses)"


def _openmp() -> str:
    if not kernels:
        return "not used"
    date = kernels.openmp_version()
    return f"{date}, {kernels.team_size(get_num_threads())} threads in a team" if date else "missing in the build"


def _cifar10() -> str:
    try:
        return str(find_cifar10(download=False))
    except FileNotFoundError as error:
        return f"{error}; `gconv train --data cifar10` downloads it (170 MB)"
