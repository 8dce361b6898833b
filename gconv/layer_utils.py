"""Sandwiches: layers that are often used together, as one forward and one backward function.

Arguments are those of the layers in the sandwich, in the order arrays first, then parameter dictionaries.
A backward function takes ``input_grad=False`` to skip the gradient of ``x`` (dx is then None), which the
first layer of a model has no use for. ``b`` may be None, for no bias: db is then None too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gconv._arguments import prepare, prepare_layer
from gconv._caches import ARRAY, BIAS, PARAM, check_cache, opened
from gconv._checks import check_shape
from gconv._memory import names_memory_errors
from gconv._typing import Array
from gconv.fast_layers import (
    conv_activation,
    conv_backward_fast,
    conv_forward_fast,
    max_pool_backward_fast,
    max_pool_forward_fast,
)
from gconv.geometry import ConvGeometry, PoolGeometry, conv_param_geometry, pool_param_geometry
from gconv.layers import (
    affine_backward,
    affine_forward,
    batchnorm_backward_alt,
    leaky_relu_backward,
    leaky_relu_forward,
    relu_backward,
    spatial_batchnorm_backward,
)
from gconv.layers.affine import affine_activation
from gconv.layers.batchnorm import BatchnormCache, batchnorm_activation

__all__ = [
    "affine_bn_relu_backward",
    "affine_bn_relu_forward",
    "affine_leaky_relu_backward",
    "affine_leaky_relu_forward",
    "affine_relu_backward",
    "affine_relu_forward",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_bn_relu_pool_backward",
    "conv_bn_relu_pool_forward",
    "conv_leaky_relu_backward",
    "conv_leaky_relu_forward",
    "conv_leaky_relu_pool_backward",
    "conv_leaky_relu_pool_forward",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
]

Gradients = tuple[Array | None, ...]
# What is in the caches of the layers that a sandwich is made of.
AFFINE, CONV, LEAKY, POOL = (ARRAY, ARRAY, BIAS), (ARRAY, ARRAY, BIAS, PARAM), (ARRAY, PARAM), (ARRAY, PoolGeometry)


class ConvReluPoolCache(NamedTuple):
    """What conv_relu_pool_backward needs: the pooled output stands in for the convolution's."""

    x: Array
    w: Array
    out: Array
    argmax: Array
    conv: ConvGeometry
    pool: PoolGeometry
    has_bias: bool


@names_memory_errors
def affine_relu_forward(x: Array, w: Array, b: Array | None) -> tuple[Array, Any]:
    """Compute relu(x w + b).

    Parameters
    ----------
    x : array, shape (N, d_1, ..., d_k)
    w : array, shape (D, M)
    b : array, shape (M,)

    Returns
    -------
    out : array, shape (N, M)
    cache : tuple
    """
    out = affine_activation("affine_relu_forward", x, w, b, activation="relu")
    # The output is positive exactly where the affine layer's was.
    return out, ((x, w, b), out)


@names_memory_errors
def affine_relu_backward(dout: Array, cache: Any, input_grad: bool = True) -> Gradients:
    """Return (dx, dw, db) of affine_relu_forward for dout (N, M)."""
    affine_cache, relu_cache = opened("affine_relu_backward", cache, AFFINE, ARRAY)
    return affine_backward(relu_backward(dout, relu_cache), affine_cache, input_grad)


@names_memory_errors
def affine_leaky_relu_forward(x: Array, w: Array, b: Array | None, lrelu_param: dict[str, Any]) -> tuple[Array, Any]:
    """Compute leaky_relu(x w + b).

    Parameters
    ----------
    x : array, shape (N, d_1, ..., d_k)
    w : array, shape (D, M)
    b : array, shape (M,)
    lrelu_param : dict
        As in gconv.layers.leaky_relu_forward.

    Returns
    -------
    out : array, shape (N, M)
    cache : tuple
    """
    affine, affine_cache = affine_forward(x, w, b)
    out, relu_cache = leaky_relu_forward(affine, lrelu_param)
    return out, (affine_cache, relu_cache)


@names_memory_errors
def affine_leaky_relu_backward(dout: Array, cache: Any, input_grad: bool = True) -> Gradients:
    """Return (dx, dw, db) of affine_leaky_relu_forward for dout (N, M)."""
    affine_cache, relu_cache = opened("affine_leaky_relu_backward", cache, AFFINE, LEAKY)
    return affine_backward(leaky_relu_backward(dout, relu_cache), affine_cache, input_grad)


@names_memory_errors
def affine_bn_relu_forward(
    x: Array, w: Array, b: Array | None, gamma: Array, beta: Array, bn_param: dict[str, Any]
) -> tuple[Array, Any]:
    """Compute relu(batchnorm(x w + b)).

    Parameters
    ----------
    x : array, shape (N, d_1, ..., d_k)
    w : array, shape (D, M)
    b, gamma, beta : array, shape (M,)
    bn_param : dict
        As in gconv.layers.batchnorm_forward.

    Returns
    -------
    out : array, shape (N, M)
    cache : tuple
    """
    affine, affine_cache = affine_forward(x, w, b)
    out, bn_cache = batchnorm_activation("batchnorm_forward", affine, gamma, beta, bn_param, activation="relu")
    return out, (affine_cache, bn_cache)


@names_memory_errors
def affine_bn_relu_backward(dout: Array, cache: Any, input_grad: bool = True) -> Gradients:
    """Return (dx, dw, db, dgamma, dbeta) of affine_bn_relu_forward for dout (N, M)."""
    affine_cache, bn_cache = opened("affine_bn_relu_backward", cache, AFFINE, BatchnormCache)
    daffine, dgamma, dbeta = batchnorm_backward_alt(dout, bn_cache)
    return *affine_backward(daffine, affine_cache, input_grad), dgamma, dbeta


@names_memory_errors
def conv_relu_forward(x: Array, w: Array, b: Array | None, conv_param: dict[str, Any]) -> tuple[Array, Any]:
    """Compute relu(conv(x)).

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    w : array, shape (F, C, HH, WW)
    b : array, shape (F,)
    conv_param : dict
        As in gconv.fast_layers.conv_forward_fast.

    Returns
    -------
    out : array, shape (N, F, H', W')
    cache : tuple
    """
    out, conv_cache = conv_activation("conv_relu_forward", x, w, b, conv_param, activation="relu")
    # The output is positive exactly where the convolution's was.
    return out, (conv_cache, out)


@names_memory_errors
def conv_relu_backward(dout: Array, cache: Any, input_grad: bool = True) -> Gradients:
    """Return (dx, dw, db) of conv_relu_forward for dout (N, F, H', W')."""
    conv_cache, relu_cache = opened("conv_relu_backward", cache, CONV, ARRAY)
    return conv_backward_fast(relu_backward(dout, relu_cache), conv_cache, input_grad)


@names_memory_errors
def conv_leaky_relu_forward(
    x: Array, w: Array, b: Array | None, conv_param: dict[str, Any], lrelu_param: dict[str, Any]
) -> tuple[Array, Any]:
    """Compute leaky_relu(conv(x)).

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    w : array, shape (F, C, HH, WW)
    b : array, shape (F,)
    conv_param, lrelu_param : dict
        As in conv_forward_fast and gconv.layers.leaky_relu_forward.

    Returns
    -------
    out : array, shape (N, F, H', W')
    cache : tuple
    """
    conv, conv_cache = conv_forward_fast(x, w, b, conv_param)
    out, relu_cache = leaky_relu_forward(conv, lrelu_param)
    return out, (conv_cache, relu_cache)


@names_memory_errors
def conv_leaky_relu_backward(dout: Array, cache: Any, input_grad: bool = True) -> Gradients:
    """Return (dx, dw, db) of conv_leaky_relu_forward for dout (N, F, H', W')."""
    conv_cache, relu_cache = opened("conv_leaky_relu_backward", cache, CONV, LEAKY)
    return conv_backward_fast(leaky_relu_backward(dout, relu_cache), conv_cache, input_grad)


@names_memory_errors
def conv_bn_relu_forward(
    x: Array,
    w: Array,
    b: Array | None,
    gamma: Array,
    beta: Array,
    conv_param: dict[str, Any],
    bn_param: dict[str, Any],
) -> tuple[Array, Any]:
    """Compute relu(spatial_batchnorm(conv(x))).

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    w : array, shape (F, C, HH, WW)
    b, gamma, beta : array, shape (F,)
    conv_param, bn_param : dict
        As in conv_forward_fast and spatial_batchnorm_forward.

    Returns
    -------
    out : array, shape (N, F, H', W')
    cache : tuple
    """
    conv, conv_cache = conv_forward_fast(x, w, b, conv_param)
    out, bn_cache = batchnorm_activation("spatial_batchnorm_forward", conv, gamma, beta, bn_param, activation="relu")
    return out, (conv_cache, bn_cache)


@names_memory_errors
def conv_bn_relu_backward(dout: Array, cache: Any, input_grad: bool = True) -> Gradients:
    """Return (dx, dw, db, dgamma, dbeta) of conv_bn_relu_forward for dout (N, F, H', W')."""
    conv_cache, bn_cache = opened("conv_bn_relu_backward", cache, CONV, BatchnormCache)
    dconv, dgamma, dbeta = spatial_batchnorm_backward(dout, bn_cache)
    return *conv_backward_fast(dconv, conv_cache, input_grad), dgamma, dbeta


@names_memory_errors
def conv_relu_pool_forward(
    x: Array, w: Array, b: Array | None, conv_param: dict[str, Any], pool_param: dict[str, Any]
) -> tuple[Array, ConvReluPoolCache]:
    """Compute max_pool(relu(conv(x))) in one operation; the convolution's output is not kept.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    w : array, shape (F, C, HH, WW)
    b : array, shape (F,)
    conv_param, pool_param : dict
        As in conv_forward_fast and max_pool_forward_fast.

    Returns
    -------
    out : array, shape (N, F, H'', W'')
    cache : ConvReluPoolCache
    """
    func = "conv_relu_pool_forward"
    backend, xs, ws, bs = prepare_layer(func, x, w, b)
    conv = conv_param_geometry(func, xs, ws, conv_param, bs)
    pool = pool_param_geometry(func, conv.out, pool_param)
    out, argmax = backend.conv_relu_pool_forward(xs, ws, bs, conv, pool)
    return out, ConvReluPoolCache(x, w, out, argmax, conv, pool, b is not None)


@names_memory_errors
def conv_relu_pool_backward(dout: Array, cache: ConvReluPoolCache, input_grad: bool = True) -> Gradients:
    """Return (dx, dw, db) of conv_relu_pool_forward for dout (N, F, H'', W'')."""
    func = "conv_relu_pool_backward"
    check_cache(func, cache, ConvReluPoolCache)
    conv, pool = cache.conv, cache.pool
    backend, dout, x, w, out = prepare(func, dout=dout, x=cache.x, w=cache.w, out=cache.out)
    check_shape(func, "dout", dout, pool.out, "of the output")
    dx, dw, db = backend.conv_relu_pool_backward(dout, out, cache.argmax, x, w, conv, pool, input_grad)
    return dx, dw, db if cache.has_bias else None


@names_memory_errors
def conv_leaky_relu_pool_forward(
    x: Array,
    w: Array,
    b: Array | None,
    conv_param: dict[str, Any],
    pool_param: dict[str, Any],
    lrelu_param: dict[str, Any],
) -> tuple[Array, Any]:
    """Compute max_pool(leaky_relu(conv(x))).

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    w : array, shape (F, C, HH, WW)
    b : array, shape (F,)
    conv_param, pool_param, lrelu_param : dict
        As in conv_forward_fast, max_pool_forward_fast and gconv.layers.leaky_relu_forward.

    Returns
    -------
    out : array, shape (N, F, H'', W'')
    cache : tuple
    """
    activation, cache = conv_leaky_relu_forward(x, w, b, conv_param, lrelu_param)
    out, pool_cache = max_pool_forward_fast(activation, pool_param)
    return out, (cache, pool_cache)


@names_memory_errors
def conv_leaky_relu_pool_backward(dout: Array, cache: Any, input_grad: bool = True) -> Gradients:
    """Return (dx, dw, db) of conv_leaky_relu_pool_forward for dout (N, F, H'', W'')."""
    conv_cache, pool_cache = opened("conv_leaky_relu_pool_backward", cache, (CONV, LEAKY), POOL)
    return conv_leaky_relu_backward(max_pool_backward_fast(dout, pool_cache), conv_cache, input_grad)


@names_memory_errors
def conv_bn_relu_pool_forward(
    x: Array,
    w: Array,
    b: Array | None,
    gamma: Array,
    beta: Array,
    conv_param: dict[str, Any],
    bn_param: dict[str, Any],
    pool_param: dict[str, Any],
) -> tuple[Array, Any]:
    """Compute max_pool(relu(spatial_batchnorm(conv(x)))).

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    w : array, shape (F, C, HH, WW)
    b, gamma, beta : array, shape (F,)
    conv_param, bn_param, pool_param : dict
        As in conv_forward_fast, spatial_batchnorm_forward and max_pool_forward_fast.

    Returns
    -------
    out : array, shape (N, F, H'', W'')
    cache : tuple
    """
    activation, cache = conv_bn_relu_forward(x, w, b, gamma, beta, conv_param, bn_param)
    out, pool_cache = max_pool_forward_fast(activation, pool_param)
    return out, (cache, pool_cache)


@names_memory_errors
def conv_bn_relu_pool_backward(dout: Array, cache: Any, input_grad: bool = True) -> Gradients:
    """Return (dx, dw, db, dgamma, dbeta) of conv_bn_relu_pool_forward for dout (N, F, H'', W'')."""
    conv_cache, pool_cache = opened("conv_bn_relu_pool_backward", cache, (CONV, BatchnormCache), POOL)
    return conv_bn_relu_backward(max_pool_backward_fast(dout, pool_cache), conv_cache, input_grad)
