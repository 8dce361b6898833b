"""CuPy arrays and CUDA kernels; imported on first use only."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from gconv._typing import Array
from gconv.backends.cuda_module import kernel_module, source_files
from gconv.backends.gpu_conv import GpuConvolution
from gconv.backends.gpu_norm import GpuNormalisation
from gconv.backends.gpu_training import GpuTraining

__all__ = ["GpuBackend"]


class GpuBackend(GpuConvolution, GpuNormalisation, GpuTraining):
    """CuPy with the kernels of kernels/cuda, on CuPy's current device, stream and allocator."""

    name = "gpu"
    xp = cupy

    def asarray(self, x: Array, dtype: Any = None) -> Array:
        """Return ``x`` as a CuPy array; this is where NumPy arrays are moved to the device."""
        if isinstance(x, np.ndarray) and not x.dtype.isnative:
            x = x.astype(x.dtype.newbyteorder("="))
        return cupy.asarray(x, dtype=dtype)

    def to_numpy(self, x: Array) -> Array:
        """Copy ``x`` to the host, once what computes it has ended."""
        return cupy.asnumpy(x)

    def synchronize(self) -> None:
        """Wait for the current stream."""
        cupy.cuda.get_current_stream().synchronize()

    def warmup(self, dtype: str) -> None:
        """Compile, or load from CuPy's disk cache, every kernel of one dtype."""
        for file in source_files():
            kernel_module(file, dtype, False).compile()
