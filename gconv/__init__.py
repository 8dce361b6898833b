"""Convolutional-network layers, their gradients and a training loop, with the interface of CS231n.

Importing this package loads NumPy and nothing else that is installed separately; what needs more
(the Solver's checkpoints, the data sets, the plots) loads it on first use.
"""

import importlib.util
import sys
from pathlib import Path

__version__ = "0.1.0"


def _adopt_kernels_beside_the_package() -> None:
    """Make ``gconv.kernels`` importable in a source checkout.

    There kernels/ stands beside the package, and `setup.py build_ext --inplace` leaves the compiled module in
    it; an installed package has it inside.
    """
    package = Path(__file__).resolve().parent
    init = package.parent / "kernels" / "__init__.py"
    if (package / "kernels").is_dir() or not init.is_file():
        return
    spec = importlib.util.spec_from_file_location("gconv.kernels", init, submodule_search_locations=[str(init.parent)])
    if spec is not None and spec.loader is not None:
        sys.modules["gconv.kernels"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["gconv.kernels"])


_adopt_kernels_beside_the_package()

from gconv import fast_layers, gradient_check, im2col, layer_utils, layers, optim
from gconv.backends import BackendUnavailableError, available_backends, get_backend, use_backend, warmup
from gconv.backends.exchange import from_dlpack
from gconv.backends.threads import get_num_threads, set_num_threads

__all__ = [
    "BackendUnavailableError",
    "__version__",
    "available_backends",
    "fast_layers",
    "from_dlpack",
    "get_backend",
    "get_num_threads",
    "gradient_check",
    "im2col",
    "layer_utils",
    "layers",
    "optim",
    "set_num_threads",
    "use_backend",
    "warmup",
]
