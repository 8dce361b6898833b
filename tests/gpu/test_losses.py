"""losses.cu: few and many classes, extreme scores, labels that do not exist."""

import numpy as np
import pytest
from conftest import assert_close
from oracles import loops


@pytest.fixture(params=["softmax_loss", "svm_loss"])
def name(request):
    return request.param


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (7, 10), (3, 70), (2, 300), (300, 2)], ids=str)
def test_against_the_loops(gpu, put, index_width, rng, name, shape):
    x, y = rng.standard_normal(shape) * 3, rng.integers(shape[1], size=shape[0])
    loss, dx = getattr(gpu, name)(*put(x), gpu.asarray(y))
    expected, expected_dx = getattr(loops, name)(x, y)
    assert_close(loss, expected, shape[0] * 20, "loss")
    assert_close(dx, expected_dx, 20, "dx")


@pytest.mark.parametrize("labels", ["uint8", "int32", "int64"])
def test_labels_of_any_integer_dtype(gpu, put, rng, name, labels):
    x, y = rng.standard_normal((4, 3)), np.array([0, 2, 1, 1])
    loss, _ = getattr(gpu, name)(*put(x), gpu.asarray(y.astype(labels)))
    assert_close(loss, getattr(loops, name)(x, y)[0], 100)


def test_probabilities_may_underflow(gpu, put):
    loss, dx = gpu.softmax_loss(*put([[1000.0, 0.0]]), gpu.asarray(np.array([1])))
    assert float(loss) == 1000
    assert gpu.to_numpy(dx).tolist() == [[1, -1]]


@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_a_label_that_does_not_exist_is_no_number(gpu, put, name, label):
    loss, dx = getattr(gpu, name)(*put(np.zeros((2, 3))), gpu.asarray(np.array([0, label])))
    assert np.isnan(float(loss))
    dx = gpu.to_numpy(dx)
    assert np.isnan(dx[1]).all()
    assert np.isfinite(dx[0]).all()


def test_nan_scores_reach_the_loss(gpu, put, name):
    loss, _ = getattr(gpu, name)(*put([[0.0, np.nan, 1.0]]), gpu.asarray(np.array([0])))
    assert np.isnan(float(loss))


def test_more_samples_than_blocks(gpu, put, monkeypatch, rng, name):
    from gconv.backends import gpu_norm

    monkeypatch.setattr(gpu_norm, "GATHER_BLOCKS", 2)
    x, y = rng.standard_normal((7, 40)), rng.integers(40, size=7)
    loss, dx = getattr(gpu, name)(*put(x), gpu.asarray(y))
    expected, expected_dx = getattr(loops, name)(x, y)
    assert_close(loss, expected, 100)
    assert_close(dx, expected_dx, 20)
