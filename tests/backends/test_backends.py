"""Dispatch: arrays decide, the default is set in one of four ways, what is missing says why."""

import inspect
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import gconv
from gconv.backends.base import Backend
from gconv.backends.cpu import CpuBackend
from gconv.backends.naive import NaiveBackend
from gconv.layers import affine_forward


def in_environment(value, program):
    environment = {**os.environ, "GCONV_BACKEND": value}
    return subprocess.run(
        [sys.executable, "-I", "-c", program], env=environment, capture_output=True, text=True, check=False
    )


def test_numpy_arrays_run_on_the_selected_cpu_backend():
    x = np.ones(3)
    with gconv.use_backend("cpu"):
        assert gconv.get_backend(x).name == gconv.get_backend().name == "cpu"
        with gconv.use_backend("naive") as backend:
            assert backend.name == gconv.get_backend(x).name == "naive"
        assert gconv.get_backend(x).name == "cpu"


def test_a_plain_call_selects_until_the_next_one():
    with gconv.use_backend("auto"):
        gconv.use_backend("naive")
        assert gconv.get_backend().name == "naive"
        gconv.use_backend("cpu")
        assert gconv.get_backend().name == "cpu"


@pytest.mark.parametrize(("value", "name"), [("cpu", "cpu"), ("naive", "naive"), ("auto", "cpu"), ("", "cpu")])
def test_the_environment_selects(value, name):
    done = in_environment(value, "import gconv; print(gconv.get_backend().name)")
    assert done.stdout.split() == [name], done.stderr


def test_unknown_and_unavailable_backends():
    with pytest.raises(ValueError, match="use_backend: name must be one of auto, cpu, gpu, naive; got 'tpu'"):
        gconv.use_backend("tpu")
    done = in_environment("tpu", "import gconv; gconv.get_backend()")
    assert (
        "ValueError: the environment variable GCONV_BACKEND must be one of auto, cpu, gpu, naive; got 'tpu'"
        in done.stderr
    )
    if "gpu" not in gconv.available_backends():
        with pytest.raises(gconv.BackendUnavailableError, match=r"the gpu backend can't run: .*GCONV_BACKEND=cpu"):
            gconv.use_backend("gpu")
        assert gconv.get_backend(np.ones(1)).name != "gpu"
    assert issubclass(gconv.BackendUnavailableError, RuntimeError)


def test_asked_for_and_missing_fails_the_test_run(tmp_path):
    if "gpu" in gconv.available_backends():
        pytest.skip("a GPU is here")
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-c", os.devnull, "--rootdir", str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, "GCONV_BACKEND": "gpu"}, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 4
    assert "the backend that GCONV_BACKEND asks for can't be tested" in done.stderr


def test_what_is_no_array():
    for bad in ([1.0], 3.0, "x", None, np.float64(3), np.ma.masked_array([1.0]), np.ones((1, 1)).view(np.matrix)):
        with pytest.raises(TypeError, match="get_backend: arrays must be NumPy or CuPy arrays; got"):
            gconv.get_backend(np.ones(2), bad)


def test_memory_mapped_arrays_are_arrays(tmp_path):
    mapped = np.memmap(tmp_path / "x", np.float64, "w+", shape=(2, 3))
    mapped[...] = 2
    out, _ = affine_forward(mapped, np.ones((3, 1)), np.zeros(1))
    assert out.tolist() == [[6], [6]]


def test_arrays_of_two_modules_are_refused(monkeypatch):
    """A stand-in for CuPy's array: only its type and where it is looked for matter to the dispatch."""
    import types

    class Foreign:
        dtype, shape, ndim = np.dtype(np.float64), (3, 1), 2

    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(ndarray=Foreign))
    with pytest.raises(
        TypeError, match="affine_forward: x, w, b must be arrays of one module; got x of numpy, w of cupy, b of numpy"
    ):
        affine_forward(np.ones((2, 3)), Foreign(), np.ones(1))
    with pytest.raises(TypeError, match="arrays must be of one module; got cupy and numpy"):
        gconv.get_backend(Foreign(), np.ones(1))


def test_a_selection_stays_in_its_thread():
    names = []
    with gconv.use_backend("naive"):
        thread = threading.Thread(target=lambda: names.append(gconv.get_backend(np.ones(1)).name))
        thread.start()
        thread.join()
    expected = os.environ.get("GCONV_BACKEND") or "auto"
    assert names == ["cpu" if expected in ("auto", "gpu") else expected]


@pytest.mark.parametrize("name", ["cpu", "naive", "gpu"])
def test_every_backend_has_the_interface_s_signatures(name):
    if name == "gpu":
        pytest.importorskip("cupy", reason="CuPy is not installed")
        from gconv.backends.gpu import GpuBackend
    backend_class = {"cpu": CpuBackend, "naive": NaiveBackend}[name] if name != "gpu" else GpuBackend
    for method, theirs in inspect.getmembers(Backend, inspect.isfunction):
        ours = inspect.signature(getattr(backend_class, method))
        assert ours == inspect.signature(theirs), f"{backend_class.__name__}.{method}"
    extra = {n for n, _ in inspect.getmembers(backend_class, inspect.isfunction)} - set(dir(Backend)) - {"__init__"}
    assert not {n for n in extra if not n.startswith("_")}


def test_threads():
    before = gconv.get_num_threads()
    try:
        gconv.set_num_threads(3)
        assert gconv.get_num_threads() == 3
        for bad, error in (
            (0, ValueError),
            (-1, ValueError),
            (100_000, ValueError),
            (1.5, TypeError),
            ("2", TypeError),
            (True, TypeError),
        ):
            with pytest.raises(error, match="set_num_threads: num_threads must be"):
                gconv.set_num_threads(bad)
        assert gconv.get_num_threads() == 3
    finally:
        gconv.set_num_threads(before)


@pytest.mark.parametrize(("value", "threads"), [("3", 3), ("5,2", 5), ("many", None), ("0", None)])
def test_omp_num_threads_is_honoured(value, threads):
    done = subprocess.run(
        [sys.executable, "-I", "-c", "import gconv, os; print(gconv.get_num_threads())"],
        env={**os.environ, "OMP_NUM_THREADS": value}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert int(done.stdout) == (threads or cores)
