"""Sandwiches of convolutional layers; a star import brings the layers too, as in the course."""

from gconv import fast_layers as _fast_layers
from gconv.courses.ucla import conv_layers as _conv_layers
from gconv.courses.ucla.conv_layers import *  # noqa: F403
from gconv.fast_layers import *  # noqa: F403
from gconv.layer_utils import (
    conv_bn_relu_backward,
    conv_bn_relu_forward,
    conv_bn_relu_pool_backward,
    conv_bn_relu_pool_forward,
    conv_relu_backward,
    conv_relu_forward,
    conv_relu_pool_backward,
    conv_relu_pool_forward,
)

__all__ = [
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_bn_relu_pool_backward",
    "conv_bn_relu_pool_forward",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
]
__all__ += _conv_layers.__all__
__all__ += _fast_layers.__all__
