"""Arrays of other libraries, without copying them: the DLPack protocol."""

from __future__ import annotations

from typing import Any

import numpy as np

from gconv._typing import Array
from gconv.backends import backend_of_kind

__all__ = ["from_dlpack"]

# Of dlpack.h.
CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13


def from_dlpack(x: Any) -> Array:
    """Return a NumPy or CuPy array that shares the memory of another library's tensor.

    The way back is the other library's own, as ``torch.from_dlpack(array)``: NumPy and CuPy arrays have the protocol.

    Parameters
    ----------
    x : object with ``__dlpack__``
        A tensor of PyTorch, JAX, TensorFlow, ... A change of it is seen in the result, and the other way round; NumPy
        before 2.1 makes the result read-only.

    Returns
    -------
    numpy.ndarray or cupy.ndarray
        The latter for memory of a CUDA device.

    Raises
    ------
    TypeError
        For an object without the protocol, on another kind of device, or of a dtype that the array module lacks; for
        a PyTorch tensor that requires a gradient, of which ``x.detach()`` can be shared.
    BackendUnavailableError
        For memory of a CUDA device where the gpu backend can't run.

    References
    ----------
    https://data-apis.org/array-api/latest/design_topics/data_interchange.html

    Examples
    --------
    >>> a = np.arange(3.0)
    >>> shared = from_dlpack(a)
    >>> a[0] = 7
    >>> shared
    array([7., 1., 2.])
    """
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise TypeError(f"from_dlpack: x must have the method __dlpack__; got {type(x).__name__}")
    device = int(x.__dlpack_device__()[0])
    if device in (CPU, CUDA_HOST):
        xp: Any = np
    elif device in (CUDA, CUDA_MANAGED):
        xp = backend_of_kind("cupy").xp
    else:
        rule = "must be in memory of the CPU or of a CUDA device"
        raise TypeError(f"from_dlpack: x {rule}; got DLPack's device {device}")
    try:
        return xp.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        # A reason of the library that x is of.
        raise TypeError(f"from_dlpack: x must be a tensor whose memory can be shared; got {error}") from error
