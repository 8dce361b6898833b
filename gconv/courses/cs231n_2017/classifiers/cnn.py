"""gconv.classifiers.cnn, with the layers of that time."""

from gconv.classifiers import cnn as _cnn
from gconv.classifiers.cnn import *  # noqa: F403
from gconv.courses.cs231n_2017.layers import *  # noqa: F403

__all__ = list(_cnn.__all__)
