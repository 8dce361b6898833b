"""Berkeley's CS182/282A (``deeplearning``): CS231n of 2017, with a Solver that writes its histories."""

from gconv.courses.aliases import COMMON, same_modules

SAME = ("layer_utils", "layers", "optim", *COMMON)

__all__ = ["classifiers", "solver", *SAME]

same_modules(__name__, SAME, "gconv.courses.cs231n_2017")
