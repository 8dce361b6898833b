"""The course's im2col functions: their layout, the adjoint property, rectangular windows."""

import numpy as np
import pytest

from gconv.im2col import col2im_indices, get_im2col_indices, im2col_indices

CASES = [
    ((2, 3, 5, 6), 3, 3, 1, 1),
    ((1, 2, 7, 4), 3, 2, 0, 2),
    ((3, 1, 4, 4), 2, 4, (2, 0), (1, 3)),
    ((0, 2, 4, 4), 3, 3, 1, 1),
]


@pytest.mark.parametrize(("shape", "hh", "ww", "pad", "stride"), CASES)
def test_columns_are_what_the_indices_select(backend, rng, shape, hh, ww, pad, stride):
    x = rng.standard_normal(shape)
    vertical, horizontal = (pad, pad) if isinstance(pad, int) else pad
    padded = np.pad(x, ((0, 0), (0, 0), (vertical, vertical), (horizontal, horizontal)))
    k, i, j = get_im2col_indices(shape, hh, ww, pad, stride)
    expected = padded[:, k, i, j].transpose(1, 2, 0).reshape(shape[1] * hh * ww, i.shape[1] * shape[0])
    cols = im2col_indices(backend.asarray(x), hh, ww, pad, stride)
    np.testing.assert_array_equal(backend.to_numpy(cols), expected)


@pytest.mark.parametrize(("shape", "hh", "ww", "pad", "stride"), CASES)
def test_col2im_is_the_adjoint(backend, rng, shape, hh, ww, pad, stride):
    x = backend.asarray(rng.standard_normal(shape))
    cols = im2col_indices(x, hh, ww, pad, stride)
    y = backend.asarray(rng.standard_normal(cols.shape))
    back = col2im_indices(y, shape, hh, ww, pad, stride)
    assert back.shape == shape
    np.testing.assert_allclose(float((cols * y).sum()), float((x * back).sum()), rtol=1e-12, atol=1e-12)


def test_defaults_are_the_course_s(backend):
    assert im2col_indices(backend.asarray(np.zeros((1, 1, 4, 4))), 3, 3).shape == (9, 16)
    assert col2im_indices(backend.asarray(np.zeros((9, 16))), (1, 1, 4, 4)).shape == (1, 1, 4, 4)


def test_wrong_columns_are_refused(backend):
    with pytest.raises(ValueError, match=r"col2im_indices: cols must have shape \(9, 16\)"):
        col2im_indices(backend.asarray(np.zeros((9, 15))), (1, 1, 4, 4))
    with pytest.raises(ValueError, match="must fit into the padded image 3x3"):
        im2col_indices(backend.asarray(np.zeros((1, 1, 3, 3))), 5, 2, padding=0)
