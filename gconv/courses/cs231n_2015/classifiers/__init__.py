"""Models as pairs of functions: one makes the dictionary of parameters, the other computes loss and gradients."""

__all__ = ["convnet", "neural_net"]
