"""Convolutional-network layers, their gradients and a training loop, with the interface of CS231n.

Importing this package loads NumPy and nothing else that is installed separately; what needs more
(the Solver's checkpoints, the data sets, the plots) loads it on first use.
"""

from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
if not (_HERE / "kernels").is_dir() and (_HERE.parent / "kernels" / "cpu").is_dir():
    # A source checkout keeps kernels/ beside the package, where `setup.py build_ext --inplace` leaves
    # the compiled module; an installed package has it inside.
    __path__.append(str(_HERE.parent))

from gconv import fast_layers, gradient_check, im2col, layer_utils, layers, optim
from gconv.backends import BackendUnavailableError, available_backends, get_backend, use_backend
from gconv.threads import get_num_threads, set_num_threads

__all__ = [
    "BackendUnavailableError",
    "__version__",
    "available_backends",
    "fast_layers",
    "get_backend",
    "get_num_threads",
    "gradient_check",
    "im2col",
    "layer_utils",
    "layers",
    "optim",
    "set_num_threads",
    "use_backend",
]
