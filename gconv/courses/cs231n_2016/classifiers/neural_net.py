"""The two-layer network of assignment 1."""

from gconv.classifiers import neural_net as _neural_net

__all__ = ["TwoLayerNet"]


class TwoLayerNet(_neural_net.TwoLayerNet):
    """gconv.classifiers.neural_net's, with half its penalty: 0.5 * reg * the sum of squares."""

    l2_factor = 0.5
