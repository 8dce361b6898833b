"""CS231n of 2016: that of 2017, but for the penalty of assignment 1's network. TUM's course of 2018 is made from it."""

from gconv.courses.aliases import COMMON, same_modules

SAME = ("layer_utils", "layers", "optim", "solver", *COMMON)

__all__ = ["classifiers", *SAME]

same_modules(__name__, SAME, "gconv.courses.cs231n_2017")
