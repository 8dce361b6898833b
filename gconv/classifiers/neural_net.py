"""The two-layer network of assignment 1, which trains itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gconv._arguments import backend_of
from gconv._checks import integer, positive_int, real_number, refuse_unknown
from gconv._typing import Array
from gconv.classifiers.parameters import Weights, add_l2
from gconv.classifiers.samples import check_samples, share_right
from gconv.classifiers.saving import SavedParameters
from gconv.layer_utils import affine_relu_backward, affine_relu_forward
from gconv.layers import affine_backward, affine_forward, softmax_loss
from gconv.optim import sgd

__all__ = ["TwoLayerNet"]

# What other classes, other years and other loops know.
SIZES = ("input_dim", "hidden_dim", "num_classes", "weight_scale", "reg", "dtype", "rng", "loss_options")
ELSEWHERE = {
    **dict.fromkeys(SIZES, "of the class in gconv.classifiers.fc_net"),
    "hidden_dims": "of the class in gconv.courses.ucla.fc_net",
}
OF_SOLVER = ("update_rule", "optim_config", "lr_decay", "num_epochs", "print_every")
OF_2015 = ("momentum", "update", "sample_batches", "acc_frequency")
TRAIN_ELSEWHERE = {
    **dict.fromkeys(OF_SOLVER, "of the Solver in gconv.solver"),
    **dict.fromkeys(OF_2015, "of ClassifierTrainer.train in gconv.courses.cs231n_2015.classifier_trainer"),
}


def two_layer_loss(X: Array, params: Mapping[str, Array], y: Array | None, reg: float, l2_factor: float) -> Any:
    """Compute what TwoLayerNet.loss returns, of any such parameters.

    Parameters
    ----------
    X : array, shape (N, D)
    params : dict
        W1 (D, H), b1 (H,), W2 (H, C), b2 (C,).
    y : integer array, shape (N,), or None
    reg, l2_factor : float
        The penalty is l2_factor * reg * (the sum of squares of W1 and W2).
    """
    hidden, hidden_cache = affine_relu_forward(X, params["W1"], params["b1"])
    scores, affine_cache = affine_forward(hidden, params["W2"], params["b2"])
    if y is None:
        return scores
    loss, dscores = softmax_loss(scores, y)
    grads: dict[str, Array] = {}
    dhidden, grads["W2"], grads["b2"] = affine_backward(dscores, affine_cache)
    _, grads["W1"], grads["b1"] = affine_relu_backward(dhidden, hidden_cache, input_grad=False)
    weights = {name: params[name] for name in ("W1", "W2")}
    return add_l2(loss, grads, weights, 2 * l2_factor * reg), grads


class TwoLayerNet(SavedParameters):
    """affine - relu - affine - softmax, with a training loop of its own.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        D, H and C.
    std : float
        Standard deviation of the initial weights, drawn from NumPy's global state in the order W1, W2; biases start
        at 0.

    Attributes
    ----------
    params : dict
        W1 (D, H), b1 (H,), W2 (H, C), b2 (C,), float64, on the backend that was the default at construction.
    l2_factor : float
        Of the penalty; 1, as since 2017. Until 2016 it was 0.5: ``gconv.courses.cs231n_2016`` has that.

    Raises
    ------
    ValueError, TypeError
        For unknown keywords; if a size is no positive integer, or std no number of at least 0.

    Examples
    --------
    >>> net = TwoLayerNet(4, 10, 3, std=1e-1)
    >>> net.loss(np.zeros((5, 4))).shape
    (5, 3)
    """

    l2_factor = 1.0

    def __init__(
        self,
        input_size: int | None = None,
        hidden_size: int | None = None,
        output_size: int | None = None,
        std: float = 1e-4,
        **unknown: Any,
    ) -> None:
        func = "TwoLayerNet"
        # The sizes are required, and None that this error comes before Python's own of a missing argument.
        refuse_unknown(func, unknown, ELSEWHERE)
        inputs, hidden = positive_int(func, "input_size", input_size), positive_int(func, "hidden_size", hidden_size)
        classes = positive_int(func, "output_size", output_size)
        weights = Weights(real_number(func, "std", std, 0), np.dtype(np.float64))
        self.params: dict[str, Array] = {
            "W1": weights.normal(inputs, hidden),
            "b1": weights.zeros(hidden),
            "W2": weights.normal(hidden, classes),
            "b2": weights.zeros(classes),
        }

    def loss(self, X: Array, y: Array | None = None, reg: float = 0.0) -> Any:
        """Compute scores, or loss and gradients.

        Parameters
        ----------
        X : array, shape (N, D)
        y : integer array, shape (N,), optional
            Labels.
        reg : float
            L2 strength: ``l2_factor * reg`` times the sum of squares of W1 and W2 is added to the loss.

        Returns
        -------
        scores : array, shape (N, C)
            Without ``y``.
        loss, grads : scalar, dict
            With ``y``; grads has the keys of ``params``.
        """
        return two_layer_loss(X, self.params, y, real_number("TwoLayerNet.loss", "reg", reg, 0), self.l2_factor)

    def train(
        self,
        X: Array,
        y: Array,
        X_val: Array,
        y_val: Array,
        learning_rate: float = 1e-3,
        learning_rate_decay: float = 0.95,
        reg: float = 5e-6,
        num_iters: int = 100,
        batch_size: int = 200,
        verbose: bool = False,
        **unknown: Any,
    ) -> dict[str, list[float]]:
        """Do stochastic gradient descent.

        Parameters
        ----------
        X, X_val : array, shape (N, D)
            Samples to train on, and to validate on.
        y, y_val : integer array, shape (N,)
            Labels.
        learning_rate, learning_rate_decay : float
            The rate is multiplied with the decay after each epoch, max(1, N // batch_size) iterations.
        reg : float
            As for ``loss``.
        num_iters, batch_size : int
            Each minibatch is drawn with ``np.random.choice(N, batch_size)``.
        verbose : bool
            Print the loss every 100 iterations.

        Returns
        -------
        dict
            ``loss_history``: of each iteration; ``train_acc_history`` and ``val_acc_history``: of each epoch's first
            iteration, on its minibatch and on all validation samples.

        Raises
        ------
        ValueError, TypeError
            For unknown keywords; if a number is out of range or of a wrong type, there are no samples, to train or to
            validate on, or not a label for each; for samples and labels that are no arrays, or of two modules.
        """
        func = f"{type(self).__name__}.train"
        refuse_unknown(func, unknown, TRAIN_ELSEWHERE)
        backend = check_samples(func, X, y, X_val, y_val)
        rate = real_number(func, "learning_rate", learning_rate, 0)
        decay = real_number(func, "learning_rate_decay", learning_rate_decay, 0)
        iterations = integer(func, "num_iters", num_iters, 0)
        size, samples = positive_int(func, "batch_size", batch_size), len(X)
        statistics: dict[str, list[float]] = {"loss_history": [], "train_acc_history": [], "val_acc_history": []}
        per_epoch = max(samples // size, 1)
        for iteration in range(iterations):
            chosen = backend.asarray(np.random.choice(samples, size))
            X_batch, y_batch = X[chosen], y[chosen]
            loss, grads = self.loss(X_batch, y_batch, reg=reg)
            statistics["loss_history"].append(float(loss))
            numbers = {"learning_rate": rate}
            self.params.update({name: sgd(w, grads[name], dict(numbers))[0] for name, w in self.params.items()})
            if verbose and iteration % 100 == 0:
                print(f"iteration {iteration} / {iterations}: loss {float(loss):f}")
            if iteration % per_epoch == 0:
                statistics["train_acc_history"].append(share_right(self.loss(X_batch), y_batch))
                statistics["val_acc_history"].append(share_right(self.loss(X_val), y_val))
                rate *= decay
        return statistics

    def predict(self, X: Array) -> Array:
        """Return the class of the highest score of each sample of X (N, D): int64 (N,)."""
        return backend_of("TwoLayerNet.predict", X=X).xp.argmax(self.loss(X), axis=1)
