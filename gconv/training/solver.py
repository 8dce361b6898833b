"""The course's Solver, over the parts of this package: the one way in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gconv._arguments import backend_of
from gconv._checks import refuse_unknown
from gconv._typing import Array
from gconv.training.augmentation import Augment
from gconv.training.batches import Batches, hold_out
from gconv.training.checkpoints import options_of
from gconv.training.draws import Draws
from gconv.training.evaluation import accuracy, predict, probabilities
from gconv.training.forwarding import forwards
from gconv.training.hooks import Hooks
from gconv.training.loop import Loop
from gconv.training.model import check_model, model_backend
from gconv.training.optimizer import Group, Optimizer
from gconv.training.run import Run
from gconv.training.settings import ELSEWHERE, Settings

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Solver"]


@forwards(
    run="model draws optim_configs iteration epoch seconds stopped failure loss_history train_acc_history "
    "val_acc_history eval_iterations learning_rate_history best_val_acc best_params best_buffers",
    batches="X_train y_train X_val y_val",
    settings="update_rule optim_config lr_decay batch_size num_epochs num_train_samples num_val_samples sampling "
    "augment graph eval_every print_every verbose progress checkpoint_name",
    draws="rng",
)
class Solver:
    """Trains a model on a data set by stochastic gradient descent.

    On a GPU the data set is moved to the device once, in the dtype it has, and a step waits for nothing: losses are
    read together when one is printed or an accuracy checked. A step happens whole or not at all: after an interruption,
    or an exception from the model or a callback, ``train`` goes on as if there had been none, and so does a checkpoint.

    Parameters
    ----------
    model : object
        Has ``params``, a dictionary of float32 or float64 arrays, and ``loss(X, y=None)``: scores (N, C) without ``y``,
        else (loss, grads), a gradient of each parameter's shape and dtype. Optionally ``buffers``, a dictionary of
        arrays that are state but no parameters, and ``config``, a description for the checkpoints.
    data : dict, optional
        ``X_train``, ``y_train``, ``X_val``, ``y_val``; samples along the first axis, integer labels. Else from ``fit``.
    update_rule, optim_config : str, dict
        sgd, sgd_momentum, nesterov_momentum, rmsprop, adam or adamw, and its numbers: ``{"learning_rate": 1e-3}``.
    groups : sequence of (selector, dict)
        Numbers of those parameters that a pattern of names, or a function of (name, array), selects:
        ``[("b*", {"learning_rate": 1e-2}), ("W1", {"frozen": True})]``. The last group wins; a schedule multiplies
        each group's own rate; frozen parameters stay as they are, and need no gradient.
    lr_decay : float
        The learning rate is multiplied with it after each epoch.
    batch_size, num_epochs : int
        An epoch is max(1, N // batch_size) iterations.
    num_train_samples, num_val_samples : int or None
        How many samples, drawn anew each time, an accuracy check looks at; None for all.
    checkpoint_name : str, optional
        Writes ``NAME_epoch_3.safetensors`` after each epoch; may hold folders.
    print_every, verbose, progress : int, bool, bool
        Iterations between two printed losses; False prints nothing; a bar on a terminal or in a notebook.
    seed : int or numpy.random.Generator, optional
        Draws minibatches and samples. None draws from NumPy's global state: ``np.random.choice(N, batch_size)``.
    sampling : {"replacement", "shuffle"}
        "replacement" draws each minibatch from all samples, as the course does; "shuffle" deals out a permutation per
        epoch, the rest that fills no minibatch left out.
    eval_every : int, optional
        Check and print the accuracy every so many iterations as well.
    callbacks : sequence of objects
        Those of gconv.training.callbacks, and any object with a method of its Callback. They get the Solver's ``run``.
    augment : gconv.training.augmentation.Augment, optional
        Random changes of the images of each minibatch: mirrored, shifted, a square cleared.
    graph : {"auto", True, False}
        On a GPU, capture a step as a CUDA graph and replay it, with the same results to the bit. "auto" does so for the
        models of this package that draw no random numbers in a step; True for any, whose ``loss`` then runs only once.

    Attributes
    ----------
    run : gconv.training.run.Run
        All that a training changes. What the Run lists is the Solver's too: ``loss_history``, ``best_params``, ...

    Raises
    ------
    ValueError, TypeError
        For unknown keywords and names, missing data, lengths that do not match, values out of range or of a wrong type.

    Examples
    --------
    >>> from gconv.classifiers import TwoLayerNet
    >>> from gconv.data_utils import make_synthetic_data
    >>> model = TwoLayerNet(input_dim=3 * 8 * 8, hidden_dim=20, num_classes=4, weight_scale=1e-2, rng=0)
    >>> solver = Solver(model, make_synthetic_data(), update_rule="adam", num_epochs=5, verbose=False, seed=0)
    >>> solver.train()
    >>> solver.best_val_acc > 0.9
    True
    """

    if TYPE_CHECKING:  # the decorator's

        def __getattr__(self, name: str) -> Any: ...

    def __init__(
        self,
        model: Any,
        data: dict[str, Array] | None = None,
        *,
        update_rule: str = "sgd",
        optim_config: dict[str, Any] | None = None,
        groups: Sequence[Group] = (),
        lr_decay: float = 1.0,
        batch_size: int = 100,
        num_epochs: int = 10,
        num_train_samples: int | None = 1000,
        num_val_samples: int | None = None,
        checkpoint_name: str | None = None,
        print_every: int = 10,
        verbose: bool = True,
        seed: int | np.random.Generator | None = None,
        sampling: str = "replacement",
        eval_every: int | None = None,
        progress: bool = False,
        callbacks: Sequence[Any] = (),
        augment: Augment | None = None,
        graph: bool | str = "auto",
        **unknown: Any,
    ) -> None:
        refuse_unknown("Solver", unknown, ELSEWHERE)
        check_model(model)
        self.settings = Settings(
            update_rule, optim_config, lr_decay, batch_size, num_epochs, num_train_samples, num_val_samples,
            checkpoint_name, print_every, verbose, sampling, eval_every, progress, augment, graph,
        )  # fmt: skip
        self.callbacks = tuple(callbacks)
        self.hooks = Hooks(self.callbacks, self.lr_decay)
        self.optimizer = Optimizer(update_rule, self.optim_config, groups, model.params, self.hooks.schedule)
        rng = None if seed is None else np.random.default_rng(seed)
        self.run = Run(model, Draws(rng, self.batch_size, sampling, augment), self.optimizer.configs())
        self.batches: Batches | None = None
        if data is not None:
            self.set_data(data)

    def set_data(self, data: dict[str, Array]) -> None:
        """Train on another data set from here on, which begins an epoch; the old one stays where this one is none."""
        if self.run.training:
            raise RuntimeError("Solver.set_data: must be called between trainings; one is under way")
        batches = Batches(data, self.augment)
        self.run.begin_epoch()  # first: interrupted between the two, it is an epoch of the old data
        self.batches = batches

    @property
    def iterations_per_epoch(self) -> int:
        """How many minibatches make an epoch: max(1, N // batch_size)."""
        return max(len(self.X_train) // int(self.batch_size), 1)

    def _loop(self, func: str) -> Loop:
        """Return the loop over the data, after telling the run what a checkpoint says of them."""
        if self.batches is None:
            raise ValueError(f"{func}: data must be given to the Solver, or to fit; got none")
        run, parts = self.run, (self.batches, self.optimizer, self.hooks, self.settings)
        run.iterations_per_epoch, run.num_epochs = self.iterations_per_epoch, self.num_epochs
        run.options = options_of(run, *parts)
        return Loop(run, *parts)

    def train(self, num_epochs: int | None = None) -> None:
        """Train, then leave the parameters that did best on the validation data in ``model.params``.

        Training goes on from the last parameters, not from the best ones. A checkpoint that can't be written is a
        RuntimeWarning: the ones before it stay, and training goes on.

        Parameters
        ----------
        num_epochs : int, optional
            How many epochs more. None goes on until the Solver's ``num_epochs`` have been done in all.

        Raises
        ------
        FloatingPointError
            If a loss or a parameter is not finite; what led there is undone, ``model.params`` gave a finite loss.
        ValueError, TypeError
            If the model is not as described above; if a callback needs validation data, and there are none.
        FileExistsError, BlockingIOError
            If there are checkpoints of another run of that name; if another training of that name is under way.
        MemoryError
            If there is no memory; the message names the layer and the batch size.
        """
        self._loop("Solver.train").train(num_epochs)

    def stop(self, reason: str) -> None:
        """End the training after the iteration at hand; ``train`` may go on later."""
        self.run.stop(reason)

    def resume(self, path: str | os.PathLike[str] | None = None) -> None:
        """Go on from a checkpoint, as if there had been no interruption, to the Solver's ``num_epochs``.

        Without a path it is the newest whole one of ``checkpoint_name``, damaged ones passed over with a warning; where
        there is none the training starts at the beginning, and says so.

        Raises
        ------
        CheckpointError, ValueError
            If the file is damaged, or no checkpoint; if it is of another model or of other training options. Nothing
            has been changed then.
        """
        self._loop("Solver.resume").resume(path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint to go on from with ``resume(path)``, whole or not at all; OSError leaves the old file."""
        self._loop("Solver.save").run.save(path)

    def check_accuracy(self, X: Array, y: Array, num_samples: int | None = None, batch_size: int = 100) -> float:
        """Return the share of samples whose highest score is their label's, in [0, 1]; NaN without samples.

        ``num_samples`` draws so many, with replacement, where there are more; the model gets ``batch_size`` at a time.
        """
        return accuracy(self.model, X, y, num_samples, batch_size, self.draws, self.batches)

    def fit(self, X: Array, y: Array, X_val: Any = None, y_val: Any = None, validation_fraction: float = 0.1) -> Self:
        """Train for ``num_epochs`` on these samples, from the weights that the model had before the first ``fit``.

        Without ``X_val`` and ``y_val`` to validate on, a fraction in [0, 1) of the samples is drawn and set aside.
        """
        self.set_data(hold_out("Solver.fit", X, y, X_val, y_val, validation_fraction, self.draws))
        if not hasattr(self, "_initial"):
            self._initial = (*self.run.copies(), hasattr(self.model, "buffers"))
        self.run.begin_anew(*self._initial, self.optimizer.configs())
        self.train()
        return self

    def predict(self, X: Array) -> Array:
        """Return the class of each sample's highest score, int64 (N,), in the array module of X."""
        return backend_of("Solver.predict", X=X).asarray(predict(self.model, X))

    def predict_proba(self, X: Array) -> Array:
        """Return the softmax of each sample's scores, (N, num_classes), in the array module of X."""
        return backend_of("Solver.predict_proba", X=X).asarray(probabilities(self.model, X))

    def score(self, X: Array, y: Array) -> float:
        """Return the share of samples that are predicted right; NaN without samples."""
        return self.check_accuracy(model_backend(self.model).asarray(X), y)
