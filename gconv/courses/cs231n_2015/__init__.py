"""CS231n of 2015, where a model is a dictionary and a function; also Georgia Tech's CS7643 and METU's CENG783."""

from gconv.courses.aliases import COMMON, same_modules

SAME = ("layer_utils", "layers", "optim", *COMMON)

__all__ = ["classifier_trainer", "classifiers", *SAME]

same_modules(__name__, SAME)
