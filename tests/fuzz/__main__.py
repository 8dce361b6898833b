"""Random cases of every layer against the loops in float64: python -m tests.fuzz --minutes 20 --seed 7.

A case draws a layer, shapes at the edges of vectors, strides, pads, windows, memory layouts, dtypes, threads, and now
and then NaN, infinities, sizes of 0 or an argument that must be refused. It runs on the CPU at every instruction set
of this machine, on NumPy alone, and in loops (with --gpu-on-cpu on the gpu backend in host memory too). Small integers,
four cases in ten, must come out equal; elsewhere the tolerances of conftest.py hold. A difference prints a line that
repeats it, and the exit code is then 1.
"""

import contextlib
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import click
import numpy as np

# What is installed is tested, not the source folder that this may be started in.
TESTS = Path(__file__).resolve().parents[1]
sys.path[:] = [str(TESTS), *(place for place in sys.path if Path(place).resolve() != TESTS.parent)]

import conftest

import gconv
from gconv.backends import cpu, get_backend
from gconv.backends.numpy_only import NumpyBackend

from .draws import Draw
from .operations import OPERATIONS


class Ways:
    """The ways to compute a case, by name: a context in which NumPy arrays, or arrays it has moved, are computed so."""

    def __init__(self, gpu):
        self.names = ["NumPy alone", "loops", *(cpu.kernels.simd_levels() if cpu.kernels else ()), *(["gpu"] * gpu)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._numpy = NumpyBackend()

    @contextlib.contextmanager
    def use(self, name):
        """Compute with this one; yields what moves an array to it."""
        if name == "loops":
            with gconv.use_backend("naive"):
                yield np.asarray
        elif name == "gpu":
            with gconv.use_backend("gpu") as backend:
                yield backend.asarray
        elif name == "NumPy alone":
            from gconv import backends

            load, backends._load = backends._load, lambda name: self._numpy
            try:
                yield np.asarray
            finally:
                backends._load = load
        else:
            cpu.kernels.use_simd_level(name)
            with gconv.use_backend("cpu"):
                yield np.asarray


def gradients(number, exact):
    """Make gradients of outputs, the same in every dtype and on every backend."""

    def gradient(out):
        rng = np.random.default_rng(number)
        values = rng.integers(-4, 5, out.shape) if exact else rng.standard_normal(out.shape).astype(np.float32)
        return get_backend(out).asarray(np.asarray(values, dtype=str(out.dtype)))

    return gradient


def outcome(case, arrays, gradient):
    """Return the results as NumPy arrays, or the error."""
    try:
        with np.errstate(all="ignore"):
            results = case.run(arrays, gradient)
    except (ValueError, TypeError) as error:
        return error
    return [get_backend(result).to_numpy(result) for result in results]


def spoil(draw, case):
    """Change an argument so that it must be refused, or may be; what then happens is to be the same everywhere."""
    kind, at = draw.of(("shape", "dtype", "axis", "option")), int(draw.rng.integers(len(case.arrays)))
    array = case.arrays[at]
    if kind == "option" and case.options:
        key = draw.of([*case.options, "unheard_of"])
        case.options[key] = draw.of((0, -1, 1.5, "2", None, (1, 2, 3), 2**31, 10**30, True, {}))
    elif kind == "dtype":
        case.arrays[at] = array.astype(draw.of((np.int64, np.complex128, np.float16, object, bool)))
    elif kind == "axis":
        case.arrays[at] = array[..., None] if draw.chance(2) else array.reshape(-1)
    else:
        case.arrays[at] = np.concatenate([array, array[:1]]) if len(array) else np.ones((1, *array.shape[1:]))


def compare(name, found, expected, case, exact):
    if isinstance(expected, Exception) or isinstance(found, Exception):
        if type(found) is not type(expected) or str(found) != str(expected):
            raise AssertionError(f"{name}: {found!r}, where the loops give {expected!r}")
        return
    for place, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        what = f"{name}, result {place}"
        if name == "gpu" and place == 1 and any(a.dtype.kind == "f" and not np.isfinite(a).all() for a in case.arrays):
            # Kernels of a GPU multiply filters with the zeros around an image's gradient: infinities give NaN there.
            ours, theirs = np.where(np.isnan(ours), 0, ours), np.where(np.isnan(ours), 0, theirs)
        finite = np.isfinite(theirs)
        if ours.shape != theirs.shape:
            raise AssertionError(f"{what}: shape {ours.shape}, expected {theirs.shape}")
        if case.skips_zeros:  # where the loops multiply an infinity with 0, this may be left out, or done elsewhere
            if np.isfinite(ours[np.isinf(theirs)]).any():
                raise AssertionError(f"{what}: finite where it must not be")
            theirs = np.where(finite, theirs, 0)
            ours, finite = np.where(finite, ours, 0), np.ones_like(finite)
        if not np.array_equal(ours[~finite], theirs[~finite], equal_nan=True):
            raise AssertionError(f"{what}: NaN or infinities are elsewhere")
        if exact and not np.array_equal(ours, theirs, equal_nan=True):
            raise AssertionError(f"{what}: integers differ by up to {np.abs(ours - theirs)[finite].max()}")
        conftest.assert_close(ours[finite], theirs[finite], case.terms, what)


EXACT = {"convolution", "first_layer", "conv_relu_pool", "pooling", "columns", "affine", "activation", "dropout"}


def check(seed, number, ways):
    """Draw a case and compare every way with the loops; return the layer's name."""
    draw = Draw(seed, number)
    operation = draw.of(OPERATIONS)
    case = operation(draw)
    spoilt = draw.chance(15)
    if spoilt:
        spoil(draw, case)
    exact = draw.exact and operation.__name__ in EXACT
    gradient = gradients(number, exact)
    before = [array.copy() for array in case.arrays]
    doubles = case.arrays if spoilt else [a.astype(np.float64) if a.dtype.kind == "f" else a for a in case.arrays]
    with ways.use("loops"):
        expected = outcome(case, doubles, gradient)
    gconv.backends.threads._num_threads = draw.of((1, 2, 3))
    cpu.VALUES_FOR_THREADS, cpu.LARGE_BYTES = draw.of(((1 << 17, 1 << 16), (1, 1)))
    for name in ways.names:
        if name == "gpu" and any(a.dtype == object for a in case.arrays):
            continue  # CuPy has no such arrays
        with ways.use(name) as moved:
            found = outcome(case, [moved(a) for a in case.arrays], gradient)
            compare(name, found, expected, case, exact)
    for array, copy in zip(case.arrays, before, strict=True):
        if array.dtype != object and array.tobytes() != copy.tobytes():
            raise AssertionError("an argument was written to")
    return operation.__name__, spoilt and isinstance(expected, Exception)


@click.command()
@click.option("--minutes", default=20.0, show_default=True)
@click.option("--cases", default=10**9, help="End after so many, too.")
@click.option("--seed", default=0, show_default=True)
@click.option("--case", "only", type=int, help="Repeat this one.")
@click.option("--gpu-on-cpu", is_flag=True, help="The gpu backend on host memory too; needs CuPy and g++.")
def main(minutes, cases, seed, only, gpu_on_cpu):
    """Compare random cases of every layer with the loops."""
    if gpu_on_cpu:
        from cuda_on_cpu import cupy_host

        cupy_host.install()
    ways = Ways(gpu_on_cpu)
    click.echo(f"gconv from {Path(gconv.__file__).parent}; ways: {', '.join(ways.names)}")
    if only is not None:
        check(seed, only, ways)
        click.echo("no difference")
        return
    counts, refused, failures, start = Counter(), 0, 0, time.monotonic()
    number = 0
    while number < cases and time.monotonic() - start < 60 * minutes:
        try:
            name, was_refused = check(seed, number, ways)
        except Exception as error:
            failures += 1
            last = traceback.extract_tb(error.__traceback__)[-1]
            click.echo(
                f"python -m tests.fuzz --seed {seed} --case {number}{' --gpu-on-cpu' * gpu_on_cpu}  # "
                f"{type(error).__name__}: {str(error).splitlines()[0]} ({Path(last.filename).name}:{last.lineno})"
            )
        else:
            counts[name] += 1
            refused += was_refused
        number += 1
    for name, count in sorted(counts.items()):
        click.echo(f"{count:8} {name}")
    click.echo(f"{number} cases, {refused} of them refused alike, {failures} differences, seed {seed}")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
