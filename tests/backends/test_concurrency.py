"""Threads and processes: concurrent calls, the thread count, forked children."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import gconv
from gconv.backends.cpu import kernels
from gconv.classifiers import ThreeLayerConvNet
from gconv.data_utils import make_synthetic_data
from gconv.layer_utils import conv_relu_pool_backward, conv_relu_pool_forward
from gconv.solver import Solver
from gconv.training.augmentation import Augment

CONV, POOL = {"stride": 1, "pad": 1}, {"pool_height": 3, "pool_width": 2, "stride": 2}


def work(seed):
    """Large enough that every kernel uses several threads."""
    rng = np.random.default_rng(seed)
    dtype = (np.float32, np.float64)[seed % 2]
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((24 + seed % 3, 3, 33, 31), (16, 3, 3, 3), (16,)))
    out, cache = conv_relu_pool_forward(x, w, b, CONV, POOL)
    return out, *conv_relu_pool_backward(out, cache)


def assert_the_same_in_16_threads(work, count):
    serial = [work(seed) for seed in range(count)]
    with ThreadPoolExecutor(16) as pool:
        concurrent = list(pool.map(work, range(count)))
    for one, other in zip(serial, concurrent, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_64_concurrent_calls_from_16_threads_give_the_serial_results():
    assert_the_same_in_16_threads(work, 64)


def train(seed):
    """A whole training, with a checkpoint, on its own model."""
    with tempfile.TemporaryDirectory() as folder, gconv.use_backend("cpu"):
        model = ThreeLayerConvNet((3, 8, 8), 4, 3, 8, 4, weight_scale=1e-1, rng=seed)
        data = make_synthetic_data(64, 16, seed=seed)
        options = {"update_rule": "adam", "num_epochs": 3, "batch_size": 16, "verbose": False, "seed": seed}
        Solver(model, data, checkpoint_name=f"{folder}/run", augment=Augment(crop=1), **options).train()
        return [w.copy() for w in model.params.values()]


def test_16_trainings_at_once_end_as_one_by_one():
    assert_the_same_in_16_threads(train, 16)


def test_threads_with_backends_of_their_own():
    def on(name):
        with gconv.use_backend(name):
            return [(gconv.get_backend().name, gconv.get_backend(np.ones(1)).name) for _ in range(2000)]

    names = ["cpu", "naive"] * 8
    with ThreadPoolExecutor(16) as pool:
        for name, found in zip(names, pool.map(on, names), strict=True):
            assert set(found) == {(name, name)}


def results_with(monkeypatch, counts):
    results = []
    for threads in counts:
        monkeypatch.setattr("gconv.backends.threads._num_threads", threads)
        results.append(work(7))
    return results


def test_the_bits_do_not_depend_on_the_threads(monkeypatch):
    first, *others = results_with(monkeypatch, (1, 2, 5))
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(kernels is None, reason="BLAS promises equal bits for one number of threads only")
def test_set_num_threads_limits_numpy_too_and_changes_no_bit():
    before, results = gconv.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            gconv.set_num_threads(threads)
            assert all(pool["num_threads"] <= threads for pool in threadpool_info() if pool["user_api"] == "blas")
            results.append(work(7))
    finally:
        gconv.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_does_not_hang():
    program = """
import os, sys, warnings
import numpy as np
from gconv.fast_layers import max_pool_forward_fast
warnings.simplefilter("ignore")
x, pool = np.ones((16, 8, 64, 64)), {"pool_height": 2, "pool_width": 2, "stride": 2}
max_pool_forward_fast(x, pool)
child = os.fork()
if child == 0:
    max_pool_forward_fast(x, pool)
    os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-I", "-c", program], timeout=60, check=False).returncode == 7


LOADER = """
import multiprocessing, sys, threading, warnings
import numpy as np
import gconv
from gconv.layer_utils import conv_relu_pool_forward
warnings.simplefilter("ignore")
CONV, POOL = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}

def prepared(seed):
    x = np.random.default_rng(seed).standard_normal((32, 3, 32, 32)).astype(np.float32)
    w, b = np.ones((8, 3, 3, 3), np.float32), np.zeros(8, np.float32)
    return conv_relu_pool_forward(x, w, b, CONV, POOL)[0].sum(axis=(1, 2, 3))

if __name__ == "__main__":
    expected = [prepared(seed) for seed in range(24)]  # the threads are live when the processes start
    stop = threading.Event()
    def busy():
        while not stop.is_set():
            prepared(0)
    # Without kernels the products are OpenBLAS's, whose lock a forked child may wait for: not while it is at work.
    others = [threading.Thread(target=busy) for _ in range(2 if sys.argv[3] == "True" else 0)]
    for other in others:
        other.start()
    for _ in range(int(sys.argv[2])):
        with multiprocessing.get_context(sys.argv[1]).Pool(3) as pool:
            found = pool.map(prepared, range(24))
        assert all(np.array_equal(a, b) for a, b in zip(found, expected))
    stop.set()
    for other in others:
        other.join()
    print("done")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_loader_of_several_processes(tmp_path, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    (tmp_path / "loader.py").write_text(LOADER)
    command = [sys.executable, "-I", str(tmp_path / "loader.py"), method, "20" if method == "fork" else "1"]
    command.append(str(kernels is not None))
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.skipif(kernels is None or not hasattr(os, "fork"), reason="no kernels, or no fork")
@pytest.mark.parametrize("used", [False, True], ids=["before the first layer", "after it"])
def test_what_a_forked_child_may_use(used):
    program = f"""
import os, sys, warnings
import numpy as np
import gconv
from gconv.fast_layers import max_pool_forward_fast
warnings.simplefilter("ignore", DeprecationWarning)
x, pool = np.ones((16, 8, 64, 64)), {{"pool_height": 2, "pool_width": 2, "stride": 2}}
gconv.set_num_threads(2)
gconv.get_backend(x)
if {used}:
    max_pool_forward_fast(x, pool)
child = os.fork()
if child == 0:
    threads = gconv.get_num_threads()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gconv.set_num_threads(2)
    max_pool_forward_fast(x, pool)
    warned = any("stay on one thread" in str(w.message) for w in caught)
    os._exit(threads * 10 + warned)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    code = subprocess.run([sys.executable, "-I", "-c", program], timeout=60, check=False).returncode
    assert code == (11 if used and kernels.openmp_version() else 20)
