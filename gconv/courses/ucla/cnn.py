"""The convolutional network; a star import brings the layers too, as in the course."""

from __future__ import annotations

from typing import Any

from gconv.classifiers import cnn as _cnn
from gconv.courses.ucla import conv_layer_utils as _conv_layer_utils
from gconv.courses.ucla import layer_utils as _layer_utils
from gconv.courses.ucla.conv_layer_utils import *  # noqa: F403
from gconv.courses.ucla.layer_utils import *  # noqa: F403

__all__ = ["ThreeLayerConvNet"]
__all__ += sorted({*_layer_utils.__all__, *_conv_layer_utils.__all__})


class ThreeLayerConvNet(_cnn.ThreeLayerConvNet):
    """gconv.classifiers.cnn's, with one keyword more.

    Parameters
    ----------
    use_batchnorm : bool
        False. The course leaves it to its students what True does.
    *args, **options
        As in gconv.classifiers.cnn.

    Raises
    ------
    ValueError, TypeError
        If use_batchnorm is True, and as there.
    """

    def __init__(self, *args: Any, use_batchnorm: bool = False, **options: Any) -> None:
        if use_batchnorm:
            raise ValueError("ThreeLayerConvNet: use_batchnorm must be False, this network has none; got True")
        super().__init__(*args, **options)
