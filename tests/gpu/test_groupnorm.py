"""groupnorm.cu: layer normalisation (one group) and groups of channels, rows shorter and longer than a block."""

import pytest
from conftest import assert_close
from oracles import loops

SHAPES = [((3, 6, 1), 1), ((2, 6, 5), 3), ((1, 4, 200), 2), ((40, 2, 1), 2), ((5, 70, 1), 1), ((2, 4, 33), 4)]


@pytest.mark.parametrize(("shape", "groups"), SHAPES, ids=str)
def test_forward_and_gradients(gpu, put, index_width, rng, shape, groups):
    x, c = rng.standard_normal(shape) + 2, shape[1]
    gamma, beta, dout = rng.standard_normal(c), rng.standard_normal(c), rng.standard_normal(shape)
    out, mean, var = gpu.groupnorm_forward(*put(x, gamma, beta), groups, 1e-3)
    expected, expected_mean, expected_var = loops.groupnorm_forward(x, gamma, beta, groups, 1e-3)
    terms = 20 * x.size
    assert_close(mean, expected_mean, terms, "mean")
    assert_close(var, expected_var, terms, "var")
    assert_close(out, expected, terms, "out")
    grads = gpu.groupnorm_backward(*put(dout, x, gamma, expected_mean, expected_var), groups, 1e-3)
    theirs = loops.groupnorm_backward(dout, x, gamma, expected_mean, expected_var, groups, 1e-3)
    for name, a, b in zip(("dx", "dgamma", "dbeta"), grads, theirs, strict=True):
        assert_close(a, b, 100 * terms, name)


def test_more_rows_than_blocks(gpu, put, monkeypatch, rng):
    from gconv.backends import gpu_norm

    monkeypatch.setattr(gpu_norm, "GATHER_BLOCKS", 2)
    x = rng.standard_normal((5, 4, 3))
    out, mean, var = gpu.groupnorm_forward(*put(x, [1.0, 2, 3, 4], [0.0] * 4), 2, 1e-3)
    dx, _, _ = gpu.groupnorm_backward(*put(x, x, [1.0, 2, 3, 4]), mean, var, 2, 1e-3)
    import numpy as np

    gamma = np.array([1.0, 2, 3, 4])
    expected, m, v = loops.groupnorm_forward(x, gamma, np.zeros(4), 2, 1e-3)
    assert_close(out, expected, 500)
    assert_close(dx, loops.groupnorm_backward(x, x, gamma, m, v, 2, 1e-3)[0], 5000)
