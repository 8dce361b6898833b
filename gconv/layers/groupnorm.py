"""Layer normalisation (Ba et al., 2016) and spatial group normalisation (Wu and He, 2018)."""

from __future__ import annotations

from typing import Any, NamedTuple

from gconv._arguments import prepare
from gconv._caches import check_cache
from gconv._checks import check_ndim, check_shape, positive_int
from gconv._memory import names_memory_errors
from gconv._typing import Array
from gconv.layers.norm_param import norm_epsilon

__all__ = ["layernorm_backward", "layernorm_forward", "spatial_groupnorm_backward", "spatial_groupnorm_forward"]


class GroupnormCache(NamedTuple):
    """What a backward pass needs; mean and var are (N, G)."""

    x: Array
    gamma: Array
    mean: Array
    var: Array
    groups: int
    eps: float


@names_memory_errors
def layernorm_forward(x: Array, gamma: Array, beta: Array, ln_param: dict[str, Any]) -> tuple[Array, GroupnormCache]:
    """Compute out = gamma (x - mean) / sqrt(var + eps) + beta with mean and variance of each sample.

    Training and testing do not differ, and no running average is kept.

    Parameters
    ----------
    x : array, shape (N, D)
    gamma, beta : array, shape (D,)
    ln_param : dict
        ``eps``: 1e-5, above 0. Batch normalisation's other keys may be there too, and have no effect.

    Returns
    -------
    out : array, shape (N, D)
    cache : GroupnormCache

    Raises
    ------
    ValueError
        If the shapes do not match, eps is not above 0 and finite, or a key is unknown.

    Examples
    --------
    >>> out, _ = layernorm_forward(np.random.randn(4, 50) + 7, np.ones(50), np.zeros(50), {})
    >>> bool(np.allclose(out.mean(axis=1), 0))
    True
    """
    func = "layernorm_forward"
    _, xs, gammas, betas = prepare(func, x=x, gamma=gamma, beta=beta)
    check_ndim(func, "x", xs, 2, "(N, D)")
    features = (xs.shape[1],)
    return _forward(func, x, gamma, beta, 1, ln_param, "ln_param", features, (xs, gammas, betas))


@names_memory_errors
def layernorm_backward(dout: Array, cache: GroupnormCache) -> tuple[Array, Array, Array]:
    """Compute the gradients of layer normalisation.

    Parameters
    ----------
    dout : array, shape (N, D)
    cache : GroupnormCache
        From layernorm_forward.

    Returns
    -------
    dx : array, shape (N, D)
    dgamma, dbeta : array, shape (D,)
    """
    return _backward("layernorm_backward", dout, cache)


@names_memory_errors
def spatial_groupnorm_forward(
    x: Array, gamma: Array, beta: Array, G: int, gn_param: dict[str, Any]
) -> tuple[Array, GroupnormCache]:
    """Normalise each of G groups of channels of each sample, then scale and shift channel by channel.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    gamma, beta : array, shape (1, C, 1, 1) or (C,)
    G : int
        How many groups; divides C.
    gn_param : dict
        ``eps``: 1e-5, above 0. Batch normalisation's other keys may be there too, and have no effect.

    Returns
    -------
    out : array, shape (N, C, H, W)
    cache : GroupnormCache

    Raises
    ------
    ValueError
        If the shapes do not match, G does not divide C, eps is not above 0 and finite, or a key is unknown.
    """
    func = "spatial_groupnorm_forward"
    _, xs, gammas, betas = prepare(func, x=x, gamma=gamma, beta=beta)
    check_ndim(func, "x", xs, 4, "(N, C, H, W)")
    channels = xs.shape[1]
    groups = positive_int(func, "G", G)
    if channels % groups:
        raise ValueError(f"{func}: G must divide the {channels} channels of x; got {G}")
    expected = (1, channels, 1, 1) if gammas.ndim == 4 else (channels,)
    return _forward(func, x, gamma, beta, groups, gn_param, "gn_param", expected, (xs, gammas, betas))


@names_memory_errors
def spatial_groupnorm_backward(dout: Array, cache: GroupnormCache) -> tuple[Array, Array, Array]:
    """Compute the gradients of spatial group normalisation.

    Parameters
    ----------
    dout : array, shape (N, C, H, W)
    cache : GroupnormCache
        From spatial_groupnorm_forward.

    Returns
    -------
    dx : array, shape (N, C, H, W)
    dgamma, dbeta : array, shape of gamma
    """
    return _backward("spatial_groupnorm_backward", dout, cache)


def _forward(
    func: str,
    x: Array,
    gamma: Array,
    beta: Array,
    groups: int,
    options: dict[str, Any],
    options_name: str,
    expected: tuple[int, ...],
    cast: tuple[Array, Array, Array],
) -> tuple[Array, GroupnormCache]:
    xs, gammas, betas = cast
    backend = prepare(func, x=xs)[0]
    check_shape(func, "gamma", gammas, expected, f"to match x {tuple(xs.shape)}")
    check_shape(func, "beta", betas, expected, f"to match x {tuple(xs.shape)}")
    eps = norm_epsilon(func, options_name, options, xs.dtype)
    n, c = xs.shape[:2]
    if not xs.size:
        empty = backend.xp.zeros((n, groups), xs.dtype)
        return xs.copy(), GroupnormCache(x, gamma, empty, empty, groups, eps)
    flat = xs.reshape(n, c, -1)
    out, mean, var = backend.groupnorm_forward(flat, gammas.reshape(-1), betas.reshape(-1), groups, eps)
    return out.reshape(xs.shape), GroupnormCache(x, gamma, mean, var, groups, eps)


def _backward(func: str, dout: Array, cache: GroupnormCache) -> tuple[Array, Array, Array]:
    check_cache(func, cache, GroupnormCache)
    backend, dout, x, gamma, mean, var = prepare(
        func, dout=dout, x=cache.x, gamma=cache.gamma, mean=cache.mean, var=cache.var
    )
    check_shape(func, "dout", dout, x.shape, "of the input")
    if not x.size:
        return dout.copy(), backend.xp.zeros(gamma.shape, gamma.dtype), backend.xp.zeros(gamma.shape, gamma.dtype)
    n, c = x.shape[:2]
    dx, dgamma, dbeta = backend.groupnorm_backward(
        dout.reshape(n, c, -1), x.reshape(n, c, -1), gamma.reshape(-1), mean, var, cache.groups, cache.eps
    )
    return dx.reshape(x.shape), dgamma.reshape(gamma.shape), dbeta.reshape(gamma.shape)
