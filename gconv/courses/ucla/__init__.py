"""UCLA's ECE C147/C247 (``nndl``), with what its notebooks take from ``utils``, or ``cs231n``, beside it."""

from gconv.courses.aliases import COMMON, same_modules

__all__ = [
    "cnn",
    "conv_layer_utils",
    "conv_layers",
    "fc_net",
    "layer_tests",
    "layer_utils",
    "layers",
    "neural_net",
    "optim",
    "solver",
    *COMMON,
]

same_modules(__name__, COMMON)
