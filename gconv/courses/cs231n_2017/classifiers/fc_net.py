"""gconv.classifiers.fc_net, with the keywords and the layers of that time."""

from __future__ import annotations

from typing import Any

import numpy as np

from gconv._checks import real_number, refuse_unknown
from gconv.classifiers import fc_net as _fc_net
from gconv.classifiers.fc_net import *  # noqa: F403
from gconv.courses.cs231n_2017 import layers as _layers
from gconv.courses.cs231n_2017.layers import *  # noqa: F403

__all__ = list(_fc_net.__all__)

# What later years know.
ELSEWHERE = dict.fromkeys(("normalization", "dropout_keep_ratio"), "of the class in gconv.classifiers.fc_net")


class FullyConnectedNet(_fc_net.FullyConnectedNet):  # type: ignore[no-redef]
    """{affine - [batch normalization] - relu - [dropout]} x (L - 1) - affine - softmax.

    Parameters
    ----------
    hidden_dims, input_dim, num_classes, reg, weight_scale, dtype, seed, rng, loss_options
        As in gconv.classifiers.fc_net.
    dropout : float
        Probability to *drop* a value, in [0, 1); 0 means no dropout.
    use_batchnorm : bool
        Normalise each hidden layer over the batch.

    Attributes
    ----------
    params, bn_params
        As there.
    dropout_param : dict
        ``p`` is the probability to drop a value.

    Raises
    ------
    ValueError, TypeError
        As there.
    """

    dropout_forward = staticmethod(_layers.dropout_forward)

    def __init__(
        self,
        hidden_dims: list[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout: float = 0,
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
        share = real_number("FullyConnectedNet", "dropout", dropout, 0, 1)
        if share == 1:
            raise ValueError(
                f"FullyConnectedNet: dropout must be below 1, it is the share that is dropped; got {dropout}"
            )
        normalization = "batchnorm" if use_batchnorm else None
        numbers = (reg, weight_scale, dtype, seed)
        super().__init__(
            hidden_dims, input_dim, num_classes, 1 - share, normalization, *numbers, rng=rng, loss_options=loss_options
        )
        self.use_batchnorm = bool(use_batchnorm)
        if self.use_dropout:
            self.dropout_param["p"] = share
