"""The models, those of CS231n 2017."""

from gconv.courses.aliases import same_modules

__all__ = ["cnn", "fc_net", "neural_net"]

same_modules(__name__, ("cnn", "fc_net", "neural_net"), "gconv.courses.cs231n_2017.classifiers")
