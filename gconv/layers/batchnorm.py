"""Batch normalisation (Ioffe and Szegedy, 2015) of vectors and of images."""

from __future__ import annotations

from typing import Any, NamedTuple

from gconv._arguments import prepare
from gconv._caches import check_cache
from gconv._checks import check_ndim, check_shape, one_of, param, real_number
from gconv._memory import names_memory_errors
from gconv._typing import Array
from gconv.backends.sums import sum_channels, sum_rows
from gconv.layers.norm_param import norm_epsilon

__all__ = [
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
]


class BatchnormCache(NamedTuple):
    """What a backward pass needs: mean and var are the ones that were used, (C,), out what an activation returned."""

    x: Array
    gamma: Array
    mean: Array
    var: Array
    eps: float
    mode: str
    activation: str | None = None
    out: Array | None = None


@names_memory_errors
def batchnorm_forward(x: Array, gamma: Array, beta: Array, bn_param: dict[str, Any]) -> tuple[Array, BatchnormCache]:
    """Compute out = gamma (x - mean) / sqrt(var + eps) + beta, feature by feature.

    In train mode mean and (biased) variance are the minibatch's, and the running averages in ``bn_param``
    move: running = momentum * running + (1 - momentum) * sample. In test mode they are the running averages.

    Parameters
    ----------
    x : array, shape (N, D)
    gamma, beta : array, shape (D,)
    bn_param : dict
        ``mode``: "train" or "test", required. ``eps``: 1e-5, above 0. ``momentum``: 0.9. ``running_mean``,
        ``running_var``: arrays (D,), zeros at first; train mode stores new ones here.

    Returns
    -------
    out : array, shape (N, D)
    cache : BatchnormCache

    Raises
    ------
    ValueError
        If shapes do not match, ``mode`` is missing or unknown, eps is not above 0 and finite, momentum not in
        [0, 1], or a key is unknown.
    TypeError
        If an argument is no real array, none is floating, or NumPy and CuPy arrays are mixed.

    Examples
    --------
    >>> x = np.random.randn(200, 3) * 5 + 12
    >>> out, _ = batchnorm_forward(x, np.ones(3), np.zeros(3), {"mode": "train"})
    >>> bool(np.allclose(out.mean(axis=0), 0)), bool(np.allclose(out.std(axis=0), 1))
    (True, True)
    """
    return batchnorm_activation("batchnorm_forward", x, gamma, beta, bn_param)


@names_memory_errors
def spatial_batchnorm_forward(
    x: Array, gamma: Array, beta: Array, bn_param: dict[str, Any]
) -> tuple[Array, BatchnormCache]:
    """Compute batch normalisation channel by channel, over the samples and all pixels.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    gamma, beta : array, shape (C,)
    bn_param : dict
        As in batchnorm_forward, with running averages of shape (C,).

    Returns
    -------
    out : array, shape (N, C, H, W)
    cache : BatchnormCache
    """
    return batchnorm_activation("spatial_batchnorm_forward", x, gamma, beta, bn_param)


@names_memory_errors
def batchnorm_backward(dout: Array, cache: BatchnormCache) -> tuple[Array, Array, Array]:
    """Compute the gradients of batch normalisation step by step, backwards through its computational graph.

    The derivation to read; batchnorm_backward_alt computes the same from the simplified formula, faster.

    Parameters
    ----------
    dout : array, shape (N, D)
    cache : BatchnormCache
        From batchnorm_forward.

    Returns
    -------
    dx : array, shape (N, D)
    dgamma, dbeta : array, shape (D,)
    """
    func = "batchnorm_backward"
    backend, dout, x, gamma, mean, var = _backward_arguments(func, dout, cache)
    xp, n = backend.xp, max(x.shape[0], 1)
    centred = x - mean  # (N, D)
    std = xp.sqrt(var + cache.eps)  # (D,)
    x_hat = centred / std
    dbeta, dgamma = sum_rows(xp, dout), sum_rows(xp, dout * x_hat)
    dx_hat = dout * gamma
    if cache.mode == "test":
        return dx_hat / std, dgamma, dbeta
    dcentred = dx_hat / std  # the branch past the variance
    dstd = -sum_rows(xp, dx_hat * centred) / (std * std)
    dvar = dstd / (2 * std)
    dcentred += dvar * 2 * centred / n
    dmean = -sum_rows(xp, dcentred)
    return dcentred + dmean / n, dgamma, dbeta


@names_memory_errors
def batchnorm_backward_alt(dout: Array, cache: BatchnormCache) -> tuple[Array, Array, Array]:
    """Compute the gradients of batch normalisation from the simplified formula.

    dx = gamma / std * (dout - mean(dout) - x_hat * mean(dout * x_hat)); in test mode gamma / std * dout.

    Parameters
    ----------
    dout : array, shape (N, D)
    cache : BatchnormCache
        From batchnorm_forward.

    Returns
    -------
    dx : array, shape (N, D)
    dgamma, dbeta : array, shape (D,)
    """
    return _backward("batchnorm_backward_alt", dout, cache)


@names_memory_errors
def spatial_batchnorm_backward(dout: Array, cache: BatchnormCache) -> tuple[Array, Array, Array]:
    """Compute the gradients of spatial batch normalisation.

    Parameters
    ----------
    dout : array, shape (N, C, H, W)
    cache : BatchnormCache
        From spatial_batchnorm_forward.

    Returns
    -------
    dx : array, shape (N, C, H, W)
    dgamma, dbeta : array, shape (C,)
    """
    return _backward("spatial_batchnorm_backward", dout, cache)


_AXES = {"batchnorm_forward": "(N, D)", "spatial_batchnorm_forward": "(N, C, H, W)"}


def batchnorm_activation(
    func: str, x: Array, gamma: Array, beta: Array, bn_param: dict[str, Any], activation: str | None = None
) -> tuple[Array, BatchnormCache]:
    """Return what ``func``, one of this module's, returns, with an activation after it if one is named."""
    backend, xs, gammas, betas = prepare(func, x=x, gamma=gamma, beta=beta)
    check_ndim(func, "x", xs, _AXES[func].count(",") + 1, _AXES[func])
    channels = (xs.shape[1],)
    check_shape(func, "gamma", gammas, channels, f"to match x {tuple(xs.shape)}")
    check_shape(func, "beta", betas, channels, f"to match x {tuple(xs.shape)}")
    mode = one_of(func, "bn_param['mode']", param(func, "bn_param", bn_param, "mode"), ("train", "test"))
    eps = norm_epsilon(func, "bn_param", bn_param, xs.dtype)
    momentum = real_number(func, "bn_param['momentum']", bn_param.get("momentum", 0.9), 0, 1)
    running = []
    for key in ("running_mean", "running_var"):
        average = bn_param.get(key)
        if average is None:
            average = backend.xp.zeros(channels, xs.dtype)
        _, average = prepare(func, **{f"bn_param[{key!r}]": average})
        check_shape(func, f"bn_param[{key!r}]", average, channels, f"to match x {tuple(xs.shape)}")
        running.append(backend.asarray(average, xs.dtype))
    flat = xs.reshape(xs.shape[0], xs.shape[1], -1 if xs.size else 0)  # (N, C, P)
    if mode == "test" or not xs.size:
        mean, var = running
        out = backend.batchnorm_test(flat, gammas, betas, mean, var, eps, activation)
    else:
        out, mean, var = backend.batchnorm_train(flat, gammas, betas, eps, activation)
        running = [momentum * old + (1 - momentum) * new for old, new in zip(running, (mean, var), strict=True)]
    if mode == "train":
        bn_param["running_mean"], bn_param["running_var"] = running
    out = out.reshape(xs.shape)
    return out, BatchnormCache(x, gamma, mean, var, eps, mode, activation, None if activation is None else out)


def _backward_arguments(func: str, dout: Array, cache: BatchnormCache) -> tuple[Any, ...]:
    check_cache(func, cache, BatchnormCache)
    arrays = prepare(func, dout=dout, x=cache.x, gamma=cache.gamma, mean=cache.mean, var=cache.var)
    check_shape(func, "dout", arrays[1], cache.x.shape, "of the input")
    return arrays


def _backward(func: str, dout: Array, cache: BatchnormCache) -> tuple[Array, Array, Array]:
    backend, dout, x, gamma, mean, var = _backward_arguments(func, dout, cache)
    shape = x.shape
    if cache.out is not None and (cache.mode != "train" or not x.size):
        dout = backend.relu_backward(dout, cache.out)
    dout, x = (a.reshape(shape[0], shape[1], -1 if x.size else 0) for a in (dout, x))
    if cache.mode == "train" and x.size:
        out = cache.out if cache.out is None else cache.out.reshape(x.shape)
        dx, dgamma, dbeta = backend.batchnorm_backward(dout, x, gamma, mean, var, cache.eps, cache.activation, out)
    else:  # mean and variance are constants
        xp = backend.xp
        inv_std = 1 / xp.sqrt(var + cache.eps)
        dx = dout * (gamma * inv_std)[:, None]
        dgamma = sum_channels(xp, dout * (x - mean[:, None])) * inv_std
        dbeta = sum_channels(xp, dout)
    return dx.reshape(shape), dgamma, dbeta
