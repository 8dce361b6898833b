"""Threads and processes: concurrent calls, the thread count, forked children."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import gconv
from gconv.backends.cpu import kernels
from gconv.layer_utils import conv_relu_pool_backward, conv_relu_pool_forward

CONV, POOL = {"stride": 1, "pad": 1}, {"pool_height": 3, "pool_width": 2, "stride": 2}


def work(seed):
    """Large enough that every kernel uses several threads."""
    rng = np.random.default_rng(seed)
    dtype = (np.float32, np.float64)[seed % 2]
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((24 + seed % 3, 3, 33, 31), (16, 3, 3, 3), (16,)))
    out, cache = conv_relu_pool_forward(x, w, b, CONV, POOL)
    return out, *conv_relu_pool_backward(out, cache)


def test_64_concurrent_calls_from_8_threads_give_the_serial_results():
    serial = [work(seed) for seed in range(64)]
    with ThreadPoolExecutor(8) as pool:
        concurrent = list(pool.map(work, range(64)))
    for one, other in zip(serial, concurrent, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def results_with(monkeypatch, counts):
    results = []
    for threads in counts:
        monkeypatch.setattr("gconv.threads._num_threads", threads)
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
