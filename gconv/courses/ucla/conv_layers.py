"""The layers of convolutional networks; a star import brings those of layers too, as in the course."""

from gconv.courses.ucla import layers as _layers
from gconv.courses.ucla.layers import *  # noqa: F403
from gconv.layers import (
    conv_backward_naive,
    conv_forward_naive,
    max_pool_backward_naive,
    max_pool_forward_naive,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
)

__all__ = [
    "conv_backward_naive",
    "conv_forward_naive",
    "max_pool_backward_naive",
    "max_pool_forward_naive",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
]
__all__ += _layers.__all__
