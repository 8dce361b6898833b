"""CS231n of 2017, where ``use_batchnorm`` is a keyword and ``p`` the probability to drop a value.

The course of 2016 is ``gconv.courses.cs231n_2016``; Berkeley's and TUM's courses of 2018 share this meaning.
"""

from gconv.courses.aliases import COMMON, same_modules

SAME = ("layer_utils", "optim", "solver", *COMMON)

__all__ = ["classifiers", "layers", *SAME]

same_modules(__name__, SAME)
