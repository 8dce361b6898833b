"""The fully connected networks; a star import brings the layers too, as in the course."""

from __future__ import annotations

from typing import Any

import numpy as np

from gconv._checks import real_number, refuse_unknown
from gconv.classifiers import fc_net as _fc_net
from gconv.courses.ucla import layer_utils as _layer_utils
from gconv.courses.ucla.layer_utils import *  # noqa: F403

__all__ = ["FullyConnectedNet", "TwoLayerNet"]
__all__ += _layer_utils.__all__

# What the course that this one is made from knows.
NAMES = ("normalization", "dropout_keep_ratio", "hidden_dim", "dtype", "rng")
ELSEWHERE = dict.fromkeys(NAMES, "of the class in gconv.classifiers.fc_net")


class TwoLayerNet(_fc_net.TwoLayerNet):
    """gconv.classifiers.fc_net's, with the hidden layer's size under another name.

    Parameters
    ----------
    input_dim, num_classes, weight_scale, reg, loss_options
        As there.
    hidden_dims : int
        Its hidden_dim.
    dropout : float
        0 or 1: the course's network takes it and has no dropout either.

    Raises
    ------
    ValueError, TypeError
        For another dropout, and as there.
    """

    def __init__(
        self,
        input_dim: int = 3 * 32 * 32,
        hidden_dims: int = 100,
        num_classes: int = 10,
        dropout: float = 1,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        *,
        loss_options: dict[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown("TwoLayerNet", unknown, ELSEWHERE)
        if dropout not in (0, 1):
            raise ValueError(f"TwoLayerNet: dropout must be 0 or 1, this network has none; got {dropout}")
        super().__init__(input_dim, hidden_dims, num_classes, weight_scale, reg, loss_options=loss_options)


class FullyConnectedNet(_fc_net.FullyConnectedNet):
    """gconv.classifiers.fc_net's, with the keywords of this course.

    Parameters
    ----------
    hidden_dims, input_dim, num_classes, reg, weight_scale, dtype, seed, rng, loss_options
        As there.
    dropout : float
        Probability to *keep* a value, as in this course since 2020; 0 and 1 mean no dropout. Before it was the
        probability of dropping, as in ``gconv.courses.cs231n_2017``.
    use_batchnorm : bool
        Normalise each hidden layer over the batch.

    Raises
    ------
    ValueError, TypeError
        As there.
    """

    def __init__(
        self,
        hidden_dims: list[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout: float = 1,
        use_batchnorm: bool = False,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: Any = np.float32,
        seed: int | None = None,
        *,
        rng: int | np.random.Generator | None = None,
        loss_options: dict[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown("FullyConnectedNet", unknown, ELSEWHERE)
        keep = real_number("FullyConnectedNet", "dropout", dropout, 0, 1) or 1.0
        normalization = "batchnorm" if use_batchnorm else None
        numbers = (reg, weight_scale, dtype, seed)
        super().__init__(
            hidden_dims, input_dim, num_classes, keep, normalization, *numbers, rng=rng, loss_options=loss_options
        )
        self.use_batchnorm = bool(use_batchnorm)
