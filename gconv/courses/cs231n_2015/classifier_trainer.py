"""The training loop of that year, for a dictionary of parameters and a function of its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gconv import optim
from gconv._checks import one_of, positive_int, real_number, refuse_unknown
from gconv._typing import Array
from gconv.backends import get_backend
from gconv.classifiers.samples import check_samples, share_right

__all__ = ["ClassifierTrainer"]

Model = dict[str, Array]

# What the loops of later years know.
OF_SOLVER = ("update_rule", "optim_config", "lr_decay", "print_every")
ELSEWHERE = {
    **dict.fromkeys(OF_SOLVER, "of the Solver in gconv.solver"),
    "num_iters": "of TwoLayerNet.train in gconv.classifiers.neural_net",
}


class ClassifierTrainer:
    """Trains by stochastic gradient descent; keeps the update rule's state from one ``train`` to the next.

    Attributes
    ----------
    configs : dict
        Of each parameter, the state of its update rule.
    """

    def __init__(self) -> None:
        self.configs: dict[str, dict[str, Any]] = {}

    def train(
        self,
        X: Array,
        y: Array,
        X_val: Array,
        y_val: Array,
        model: Model,
        loss_function: Callable[..., Any],
        reg: float = 0.0,
        learning_rate: float = 1e-2,
        momentum: float = 0,
        learning_rate_decay: float = 0.95,
        update: str = "momentum",
        sample_batches: bool = True,
        num_epochs: int = 30,
        batch_size: int = 100,
        acc_frequency: int | None = None,
        verbose: bool = False,
        **unknown: Any,
    ) -> tuple[Model, list[float], list[float], list[float]]:
        """Train ``model``, whose arrays are replaced by the new ones, and print how it ended.

        Parameters
        ----------
        X, X_val : array, shape (N, d_1, ..., d_k)
            Samples to train on, and to validate on.
        y, y_val : integer array, shape (N,)
            Labels.
        model : dict
            Parameters by name.
        loss_function : callable
            ``loss_function(X, model)`` returns scores, ``loss_function(X, model, y, reg)`` (loss, grads).
        reg : float
            Handed to it.
        learning_rate, learning_rate_decay : float
            The rate is multiplied with the decay after each epoch.
        momentum : float
            Of the update "momentum".
        update : {"momentum", "sgd", "rmsprop"}
        sample_batches : bool
            Draw each minibatch with ``np.random.choice(N, batch_size)``; False takes all samples in each iteration,
            which is then an epoch.
        num_epochs, batch_size : int
        acc_frequency : int, optional
            Check the accuracy every so many iterations as well.
        verbose : bool
            Print a line at each check.

        Returns
        -------
        best_model : dict
            The parameters that did best on the validation samples.
        loss_history, train_acc_history, val_acc_history : list of float
            Of each iteration; of each check, on at most 1,000 training samples and on all validation samples.

        Raises
        ------
        ValueError, TypeError
            For unknown keywords; if a number is out of range or of a wrong type, the update unknown, there are no
            samples, to train or to validate on, or not a label for each; for samples and labels that are no arrays, or
            of two modules.
        """
        func = "ClassifierTrainer.train"
        refuse_unknown(func, unknown, ELSEWHERE)
        rule = RULES[one_of(func, "update", update, tuple(RULES))]
        rate, decay = (
            real_number(func, "learning_rate", learning_rate, 0),
            real_number(func, "learning_rate_decay", learning_rate_decay, 0),
        )
        numbers = {"momentum": real_number(func, "momentum", momentum, 0, 1)} if update == "momentum" else {}
        backend = check_samples(func, X, y, X_val, y_val)
        samples, size = len(X), positive_int(func, "batch_size", batch_size)
        epochs = positive_int(func, "num_epochs", num_epochs)
        every = None if acc_frequency is None else positive_int(func, "acc_frequency", acc_frequency)
        per_epoch = max(samples // size, 1) if sample_batches else 1
        loss_history: list[float] = []
        train_acc_history: list[float] = []
        val_acc_history: list[float] = []
        best_model, best_accuracy, epoch = dict(model), 0.0, 0
        for iteration in range(epochs * per_epoch):
            batch = backend.asarray(np.random.choice(samples, size)) if sample_batches else slice(None)
            loss, grads = loss_function(X[batch], model, y[batch], reg)
            loss_history.append(float(loss))
            new = {}
            for name, w in model.items():
                config = {**self.configs.get(name, {}), **numbers, "learning_rate": rate}
                new[name], self.configs[name] = rule(w, grads[name], config)
            model.update(new)
            epoch_ends = (iteration + 1) % per_epoch == 0
            if epoch_ends and iteration > 0:
                rate *= decay
                epoch += 1
            if epoch_ends or iteration == 0 or (every is not None and iteration % every == 0):
                chosen = backend.asarray(np.random.choice(samples, 1000)) if samples > 1000 else slice(None)
                train_acc_history.append(share_right(loss_function(X[chosen], model), y[chosen]))
                val_acc_history.append(share_right(loss_function(X_val, model), y_val))
                if val_acc_history[-1] > best_accuracy:
                    # The arrays themselves: a step makes new ones and leaves these as they are.
                    best_model, best_accuracy = dict(model), val_acc_history[-1]
                if verbose:
                    print(
                        f"Finished epoch {epoch} / {epochs}: cost {loss_history[-1]:f}, train: "
                        f"{train_acc_history[-1]:f}, val {val_acc_history[-1]:f}, lr {rate:e}"
                    )
        print(f"finished optimization. best validation accuracy: {best_accuracy:f}")
        return best_model, loss_history, train_acc_history, val_acc_history


def _rmsprop(w: Array, dw: Array, config: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
    """Do RMSProp as of that year, its epsilon under the root: gconv.optim's has it beside, as later years do."""
    xp = get_backend(w, dw).xp
    cache = 0.99 * config.get("cache", 0.0) + 0.01 * dw * dw
    return w - config["learning_rate"] * dw / xp.sqrt(cache + 1e-8), {**config, "cache": cache}


RULES: dict[str, Callable[..., tuple[Array, dict[str, Any]]]] = {
    "sgd": optim.sgd,
    "momentum": optim.sgd_momentum,
    "rmsprop": _rmsprop,
}
