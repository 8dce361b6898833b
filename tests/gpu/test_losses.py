"""losses.cu: few and many classes, extreme scores, labels that do not exist."""

import numpy as np
import pytest
from conftest import assert_close
from oracles import loops


@pytest.fixture(params=["softmax_loss", "svm_loss"])
def name(request):
    return request.param


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (7, 10), (70, 32), (3, 33), (3, 70), (2, 300), (300, 2)], ids=str)
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


@pytest.mark.parametrize("classes", [3, 50])
@pytest.mark.parametrize("label", [-1, 50, 2**40])
def test_a_label_that_does_not_exist_is_no_number(gpu, put, name, label, classes):
    loss, dx = getattr(gpu, name)(*put(np.zeros((2, classes))), gpu.asarray(np.array([0, label])))
    assert np.isnan(float(loss))
    dx = gpu.to_numpy(dx)
    assert np.isnan(dx[1]).all()
    assert np.isfinite(dx[0]).all()


@pytest.mark.parametrize("classes", [3, 60])
def test_nan_scores_reach_the_loss(gpu, put, name, classes):
    scores = np.zeros((1, classes))
    scores[0, 1] = np.nan
    loss, _ = getattr(gpu, name)(*put(scores), gpu.asarray(np.array([0])))
    assert np.isnan(float(loss))


def test_more_samples_than_blocks(gpu, put, monkeypatch, rng, name):
    from gconv.backends import gpu_norm, gpu_plan

    monkeypatch.setattr(gpu_norm, "GATHER_BLOCKS", 2)
    monkeypatch.setattr(gpu_plan, "GATHER_BLOCKS", 2)
    for shape in ((7, 40), (200, 3)):
        x, y = rng.standard_normal(shape), rng.integers(shape[1], size=shape[0])
        loss, dx = getattr(gpu, name)(*put(x), gpu.asarray(y))
        expected, expected_dx = getattr(loops, name)(x, y)
        assert_close(loss, expected, 100)
        assert_close(dx, expected_dx, 20)
