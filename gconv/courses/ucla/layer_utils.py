"""Sandwiches of fully connected layers; a star import brings the layers too, as in the course."""

from gconv.courses.ucla import layers as _layers
from gconv.courses.ucla.layers import *  # noqa: F403
from gconv.layer_utils import (
    affine_bn_relu_backward,
    affine_bn_relu_forward,
    affine_relu_backward,
    affine_relu_forward,
)

__all__ = [
    "affine_bn_relu_backward",
    "affine_bn_relu_forward",
    "affine_relu_backward",
    "affine_relu_forward",
]
__all__ += _layers.__all__
