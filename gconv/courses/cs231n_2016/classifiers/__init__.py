"""The models of that time."""

from gconv.courses.aliases import same_modules

__all__ = ["cnn", "fc_net", "neural_net"]

same_modules(__name__, ("cnn", "fc_net"), "gconv.courses.cs231n_2017.classifiers")
