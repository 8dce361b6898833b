"""Random cases, and what independent implementations say about them."""

from dataclasses import dataclass

import numpy as np

from gconv.backends.naive import NaiveBackend
from gconv.geometry import conv_geometry, conv_param_geometry, pool_geometry, pool_param_geometry

loops = NaiveBackend()


def conv(x, w, stride=1, pad=0, **options):
    """Return the geometry of a convolution of these arrays."""
    return conv_geometry("test", x.shape, w.shape, stride, pad, **options)


def pool(x, window, stride):
    """Return the geometry of a pooling of this array."""
    return pool_geometry("test", x.shape, window, stride)


def windows(shape, field, stride, pad):
    """Return the geometry of the windows in images of this shape: that of one filter."""
    return conv_geometry("test", shape, (1, shape[1], *field), stride, pad)


@dataclass
class Case:
    """One random convolution with pooling: arrays in odd layouts, and the parameters."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray
    conv_param: dict
    pool_param: dict


def layout(rng, array):
    """Return equal values in another memory layout."""
    kind = rng.integers(6)
    if kind == 1:
        return np.asfortranarray(array)
    if kind == 2:
        return array[..., ::-1].copy()[..., ::-1]
    if kind == 3 and array.ndim == 4:
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if kind == 4:
        return np.repeat(array, 2, axis=-1)[..., ::2]
    if kind == 5:
        array = array.copy()
        array.flags.writeable = False
    return array


def pair(rng, low, high):
    """Return an int, or a (vertical, horizontal) pair."""
    values = [int(v) for v in rng.integers(low, high + 1, 2)]
    return values[0] if rng.integers(2) else tuple(values)


def random_case(rng, dtype):
    while True:
        n, c, f = (int(v) for v in (rng.integers(0, 4), rng.integers(1, 5), rng.integers(1, 5)))
        h, w = (int(v) for v in rng.integers(1, 12, 2))
        hh, ww = (int(v) for v in rng.integers(1, 6, 2))
        conv_param = {"stride": pair(rng, 1, 3), "pad": pair(rng, 0, 3)}
        pool_param = {
            "pool_height": int(rng.integers(1, 4)),
            "pool_width": int(rng.integers(1, 4)),
            "stride": pair(rng, 1, 3),
        }
        arrays = [rng.standard_normal(shape).astype(dtype) for shape in ((n, c, h, w), (f, c, hh, ww), (f,))]
        x, weights, b = (layout(rng, a) for a in arrays)
        try:
            geometry = conv_param_geometry("random_case", x, weights, conv_param, b)
            pool_param_geometry("random_case", geometry.out, pool_param)
        except ValueError:
            continue  # the filter or the window does not fit
        return Case(x, weights, b, conv_param, pool_param)


def in_float64(*arrays):
    return tuple(np.asarray(a, dtype=np.float64) for a in arrays)


def naive_conv(case, dout=None):
    """Return out, or (dx, dw, db), of the loops in float64."""
    x, w, b = in_float64(case.x, case.w, case.b)
    geometry = conv_param_geometry("oracle", x, w, case.conv_param, b)
    if dout is None:
        return loops.conv_forward(x, w, b, geometry)
    return loops.conv_backward(*in_float64(dout), x, w, geometry)


def naive_pool(x, pool_param, dout=None):
    """Return out, or dx, of the loops."""
    geometry = pool_param_geometry("oracle", x.shape, pool_param)
    out, argmax = loops.max_pool_forward(x, geometry)
    return out if dout is None else loops.max_pool_backward(dout, argmax, geometry)


def torch_conv_relu_pool(torch, case, relu_pool=True):
    """Return (out, x, w, b) as PyTorch tensors that require gradients, in float64."""
    functional = torch.nn.functional
    x, w, b = (torch.tensor(a.copy(), requires_grad=True) for a in in_float64(case.x, case.w, case.b))
    out = functional.conv2d(x, w, b, stride=case.conv_param["stride"], padding=case.conv_param["pad"])
    if relu_pool:
        window = (case.pool_param["pool_height"], case.pool_param["pool_width"])
        out = functional.max_pool2d(functional.relu(out), window, stride=case.pool_param["stride"])
    return out, x, w, b
