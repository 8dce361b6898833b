"""dropout.cu."""

import numpy as np
import pytest


@pytest.mark.parametrize("shape", [(), (7,), (3, 5), (300, 2)], ids=str)
def test_the_mask_is_the_one_drawn_on_the_host(gpu, put, index_width, rng, dtype, shape):
    x, keep = rng.standard_normal(shape).astype(dtype), np.asarray(rng.random(shape) < 0.6)
    out, mask = gpu.dropout_forward(*put(x), keep, 0.6)
    expected = (keep / 0.6).astype(dtype)
    np.testing.assert_array_equal(gpu.to_numpy(mask), expected)
    np.testing.assert_array_equal(gpu.to_numpy(out), x * expected)
