"""The training loop: minibatches, update rules, accuracy checks, checkpoints."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gconv._arguments import backend_of
from gconv._typing import Array
from gconv.backends import Backend, array_kind
from gconv.checkpoint import (
    CheckpointError,
    checkpoint_path,
    list_checkpoints,
    load_checkpoint,
    remove_unfinished,
    save_checkpoint,
)
from gconv.optim import HYPERPARAMETERS, UPDATE_RULES
from gconv.progress import Progress
from gconv.shapes import check_shape, one_of, positive_int, real_number
from gconv.solver_arguments import optional_count, samples
from gconv.solver_state import capture, restore
from gconv.solver_steps import HostSteps, Steps, TwoArrays, model_backend

__all__ = ["Solver"]


class Solver:
    """Trains a model on a data set by stochastic gradient descent.

    With the model's parameters on a GPU the data set is moved there once, in the dtype it has, and a step waits
    for nothing: losses are read together when one is printed or an accuracy checked.

    Parameters
    ----------
    model : object
        Has ``params``, a dictionary of arrays, and ``loss(X, y=None)``: scores (N, C) without ``y``, else
        (loss, grads). Optionally ``buffers``, a dictionary of arrays that are state but no parameters, and
        ``config``, a description for the checkpoints.
    data : dict
        ``X_train``, ``y_train``, ``X_val``, ``y_val``; samples along the first axis, integer labels.
    update_rule : str
        A rule of gconv.optim: sgd, sgd_momentum, nesterov_momentum, rmsprop, adam, adamw.
    optim_config : dict
        Hyper-parameters of the rule, as ``{"learning_rate": 1e-3}``.
    lr_decay : float
        The learning rate is multiplied with it after each epoch.
    batch_size : int
        May exceed the number of samples.
    num_epochs : int
        An epoch is max(1, N // batch_size) iterations.
    num_train_samples, num_val_samples : int or None
        How many samples, drawn anew each time, an accuracy check looks at; None for all.
    checkpoint_name : str, optional
        Writes ``NAME_epoch_3.safetensors`` after each epoch; may hold folders.
    print_every : int
        Iterations between two printed losses.
    verbose : bool
        False prints nothing.
    seed : int or numpy.random.Generator, optional
        Draws minibatches and samples. None draws from NumPy's global state: ``np.random.choice(N, batch_size)``.
    sampling : {"replacement", "shuffle"}
        "replacement" draws each minibatch from all samples, as the course does; "shuffle" deals out a
        permutation per epoch, the rest that fills no minibatch left out.
    eval_every : int, optional
        Check and print the accuracy every so many iterations as well.
    progress : bool
        Show a bar on a terminal or in a notebook; never in a file.
    callbacks : sequence of objects
        ``callback.on_eval(solver)``, where there is such a method, is called after each accuracy check.
    graph : {"auto", True, False}
        On a GPU, capture a step as a CUDA graph and replay it, with the same results to the bit. "auto" does so for
        the models of this package that draw no random numbers in a step; True for any model, whose ``loss`` is then
        run as Python code only while it is captured.

    Attributes
    ----------
    loss_history : list of float
        One loss an iteration; on a GPU, up to the last one that was read.
    train_acc_history, val_acc_history : list of float
        One accuracy a check; ``eval_iterations`` has how many iterations had been done at each.
    best_val_acc, best_params : float, dict
        The best validation accuracy so far and a copy of the parameters that reached it.
    epoch, iteration : int
        How many have been completed.
    optim_configs : dict
        The update rule's configuration for each parameter.

    Raises
    ------
    ValueError
        For unknown keywords and update rules, missing data, lengths that do not match, numbers out of range.
    TypeError
        For values of a wrong type.

    Examples
    --------
    >>> from gconv.classifiers import TwoLayerNet
    >>> from gconv.data_utils import make_synthetic_data
    >>> model = TwoLayerNet(input_dim=3 * 8 * 8, hidden_dim=20, num_classes=4, weight_scale=1e-2)
    >>> solver = Solver(model, make_synthetic_data(), update_rule="adam", num_epochs=2, verbose=False, seed=0)
    >>> solver.train()
    >>> solver.best_val_acc > 0.9
    True
    """

    def __init__(
        self,
        model: Any,
        data: dict[str, Array],
        *,
        update_rule: str = "sgd",
        optim_config: dict[str, Any] | None = None,
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
        graph: bool | str = "auto",
        **unknown: Any,
    ) -> None:
        if unknown:
            raise ValueError(f"Solver: keywords must be the documented ones; got {', '.join(sorted(unknown))}")
        if not isinstance(update_rule, str) or update_rule not in UPDATE_RULES:
            raise ValueError(f"Solver: update_rule must be one of {', '.join(UPDATE_RULES)}; got {update_rule!r}")
        if optim_config is not None and not isinstance(optim_config, dict):
            raise TypeError(f"Solver: optim_config must be a dictionary; got {type(optim_config).__name__}")
        misspelt = sorted(set(optim_config or {}) - {*HYPERPARAMETERS})
        if misspelt:
            raise ValueError(
                f"Solver: optim_config must have keys among {', '.join(HYPERPARAMETERS)}; got {', '.join(misspelt)}"
            )
        if not isinstance(getattr(model, "params", None), dict) or not callable(getattr(model, "loss", None)):
            raise TypeError(
                f"Solver: model must have a dictionary params and a method loss; got {type(model).__name__}"
            )
        self.model = model
        self.X_train, self.y_train = samples(data, "X_train", "y_train")
        self.X_val, self.y_val = samples(data, "X_val", "y_val")
        if not len(self.X_train):
            raise ValueError("Solver: data['X_train'] must hold at least one sample; got none")
        self.update_rule = update_rule
        self.optim_config = dict(optim_config or {})
        self.lr_decay = real_number("Solver", "lr_decay", lr_decay, 0)
        self.batch_size = positive_int("Solver", "batch_size", batch_size)
        self.num_epochs = positive_int("Solver", "num_epochs", num_epochs, minimum=0)
        self.num_train_samples = optional_count("num_train_samples", num_train_samples)
        self.num_val_samples = optional_count("num_val_samples", num_val_samples)
        self.checkpoint_name = checkpoint_name
        self.print_every = positive_int("Solver", "print_every", print_every)
        self.verbose = verbose
        self.sampling = one_of("Solver", "sampling", sampling, ("replacement", "shuffle"))
        self.eval_every = optional_count("eval_every", eval_every)
        self.progress = progress
        self.callbacks = tuple(callbacks)
        self.graph = one_of("Solver", "graph", graph, ("auto", True, False))
        self._print: Callable[[str], None] = print
        self.rng = None if seed is None else np.random.default_rng(seed)
        self._reset()

    def _reset(self) -> None:
        self.epoch = self.iteration = 0
        self.best_val_acc = 0.0
        self.best_params: dict[str, Array] = {}
        self.loss_history: list[float] = []
        self.train_acc_history: list[float] = []
        self.val_acc_history: list[float] = []
        self.eval_iterations: list[int] = []
        self.optim_configs = {name: dict(self.optim_config) for name in self.model.params}
        self.best_buffers: dict[str, Array] = {}
        self._order: Array | None = None
        self._drawn: list[Array] = []  # minibatches drawn ahead when a training was interrupted
        self._total = 0
        self._arrays = TwoArrays()
        self._on_device: dict[int, Array] = {}
        self._last: dict[str, Array] = {}
        self._last_buffers: dict[str, Array] = {}
        self._installed: dict[str, Array] = {}

    @property
    def iterations_per_epoch(self) -> int:
        """How many minibatches make an epoch: max(1, N // batch_size)."""
        return max(len(self.X_train) // self.batch_size, 1)

    def train(self, num_epochs: int | None = None) -> None:
        """Train, then leave the parameters that did best on the validation data in ``model.params``.

        Parameters
        ----------
        num_epochs : int, optional
            How many epochs more. None goes on until the Solver's ``num_epochs`` have been done in all.
            Training goes on from the last parameters, not from the best ones.

        Raises
        ------
        FloatingPointError
            If a loss is not finite; ``model.params`` are then the last ones with a finite loss.
        FileExistsError
            If a new run would mix with the checkpoints of another one of that name.
        """
        epochs = self.num_epochs if num_epochs is None else positive_int("Solver.train", "num_epochs", num_epochs)
        total = (epochs if num_epochs is None else self.epoch + epochs) * self.iterations_per_epoch
        if self.iteration == 0 and self.checkpoint_name is not None:
            self._refuse_foreign_checkpoints()
        if self.iteration >= total:
            self._install_best()
            self._say(f"{self.epoch} of {self.num_epochs} epochs have been done; train(1) does one more")
            return
        self._reinstall_last()
        self._total = total
        try:
            with Progress(self.progress, self.iteration, total) as bar:
                self._print = bar.print
                steps = self._steps()
                try:
                    while self.iteration < total:
                        self._iterate(steps)
                        bar.advance(self.iteration, self.loss_history, self.val_acc_history)
                finally:
                    steps.close()
        finally:
            self._print = print
            self._install_best()

    def _steps(self) -> Steps:
        backend = model_backend(self.model)
        if backend.name == "gpu":
            from gconv.solver_device import DeviceSteps

            return DeviceSteps(self, backend)
        if self.graph is True:
            raise ValueError("Solver: graph must be False or 'auto' where the parameters are no CuPy arrays; got True")
        return HostSteps(self)

    def _resident(self, array: Array) -> Array:
        """Return the data set's array on the model's backend, moved there once."""
        backend = model_backend(self.model)
        if id(array) not in self._on_device:
            self._on_device[id(array)] = backend.asarray(array)
        return self._on_device[id(array)]

    def resume(self, path: str | Path | None = None) -> None:
        """Go on from a checkpoint, as if there had been no interruption, to the Solver's ``num_epochs``.

        Parameters
        ----------
        path : path, optional
            None takes the newest whole one of ``checkpoint_name``, passing over damaged ones with a warning;
            where there is none the training starts at the beginning, and says so.

        Raises
        ------
        CheckpointError
            If the file at ``path`` is damaged, or no checkpoint.
        ValueError
            If the checkpoint is of another model or of other training options.
        """
        if path is not None:
            restore(self, path, *load_checkpoint(path))
        else:
            self._resume_newest()
        self.train()

    def _resume_newest(self) -> None:
        if self.checkpoint_name is None:
            raise ValueError("Solver.resume: path must be given where the Solver has no checkpoint_name; got None")
        remove_unfinished(self.checkpoint_name)
        for candidate in list_checkpoints(self.checkpoint_name):
            try:
                loaded = load_checkpoint(candidate)
            except CheckpointError as error:
                warnings.warn(f"Solver.resume: passing over a checkpoint: {error}", RuntimeWarning, stacklevel=3)
                continue
            restore(self, candidate, *loaded)
            self._say(f"Going on from {candidate}")
            return
        self._say(f"No checkpoint named {self.checkpoint_name} yet; starting at the beginning")

    def check_accuracy(self, X: Array, y: Array, num_samples: int | None = None, batch_size: int = 100) -> float:
        """Return the share of samples whose highest score is their label's.

        Parameters
        ----------
        X, y : array
            Samples along the first axis, and labels.
        num_samples : int, optional
            Draw so many samples, with replacement, where there are more.
        batch_size : int
            Samples a call of the model.

        Returns
        -------
        float
            In [0, 1]; NaN without samples.
        """
        batch_size = positive_int("check_accuracy", "batch_size", batch_size)
        backend_of("check_accuracy", X=X)
        check_shape("check_accuracy", "y", y, (len(X),), "to match X")
        chosen = None
        if num_samples is not None and len(X) > positive_int("check_accuracy", "num_samples", num_samples):
            chosen = self._choice(len(X), num_samples)
        if not len(X):
            return math.nan
        backend = model_backend(self.model)
        if X is self.X_train or X is self.X_val:
            X, y = self._resident(X), self._resident(y)
        count = len(X) if chosen is None else len(chosen)
        correct = 0
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size) if chosen is None else chosen[start : start + batch_size]
            images, labels = (backend.asarray(_samples(backend, array, part)) for array in (X, y))
            correct = correct + (self.model.loss(images).argmax(axis=1) == labels).sum()
        return int(correct) / count

    def _say(self, text: str) -> None:
        if self.verbose:
            self._print(text)

    def _choice(self, n: int, size: int) -> Array:
        chooser: Callable[..., Array] = np.random.choice if self.rng is None else self.rng.choice
        return chooser(n, size)

    def _minibatch(self, iteration: int) -> Array:
        """Return the indices of the minibatch of an iteration; to be called for each one in turn."""
        if self._drawn:
            return self._drawn.pop(0)
        n = len(self.X_train)
        if self.sampling == "replacement":
            return self._choice(n, self.batch_size)
        position = iteration % self.iterations_per_epoch
        if position == 0 or self._order is None:
            self._order = np.random.permutation(n) if self.rng is None else self.rng.permutation(n)
        return self._order[position * self.batch_size : (position + 1) * self.batch_size]

    def _checks_after(self, iteration: int) -> bool:
        """Return whether the accuracy is checked when so many iterations have been done."""
        epoch_end = iteration % self.iterations_per_epoch == 0
        return iteration == 1 or epoch_end or bool(self.eval_every and iteration % self.eval_every == 0)

    def _until_check(self) -> int:
        """Return how many iterations there are up to the next accuracy check, or the end."""
        count = 1
        while not self._checks_after(self.iteration + count) and self.iteration + count < self._total:
            count += 1
        return count

    def _iterate(self, steps: Steps) -> None:
        steps.run()
        self.iteration += 1
        say = self.verbose and (self.iteration - 1) % self.print_every == 0
        check = self._checks_after(self.iteration)
        if say or check or self.iteration == self._total:
            steps.settle()
        if say:
            self._say(f"(Iteration {self.iteration} / {self._total}) loss: {self.loss_history[-1]:f}")
        epoch_end = self.iteration % self.iterations_per_epoch == 0
        if epoch_end:
            self.epoch += 1
            for config in self.optim_configs.values():
                config["learning_rate"] *= self.lr_decay
        if check:
            self._evaluate(self._total // self.iterations_per_epoch)
        if epoch_end and self.checkpoint_name is not None:
            save_checkpoint(checkpoint_path(self.checkpoint_name, self.epoch), *capture(self))

    def _evaluate(self, num_epochs: int) -> None:
        train_acc = self.check_accuracy(self.X_train, self.y_train, self.num_train_samples)
        val_acc = self.check_accuracy(self.X_val, self.y_val, self.num_val_samples)
        self.train_acc_history.append(train_acc)
        self.val_acc_history.append(val_acc)
        self.eval_iterations.append(self.iteration)
        self._say(f"(Epoch {self.epoch} / {num_epochs}) train acc: {train_acc:f}; val_acc: {val_acc:f}")
        # While nothing has been right yet, or where there is nothing to validate on, the latest parameters are
        # the best there are.
        if val_acc > self.best_val_acc or self.best_val_acc == 0 or math.isnan(val_acc):
            self.best_val_acc = 0.0 if math.isnan(val_acc) else val_acc
            self.best_params = {name: w.copy() for name, w in self.model.params.items()}
            self.best_buffers = {name: a.copy() for name, a in getattr(self.model, "buffers", {}).items()}
        for callback in self.callbacks:
            if hasattr(callback, "on_eval"):
                callback.on_eval(self)

    def _install_best(self) -> None:
        """Put the best parameters into the model and remember the last ones, to go on from."""
        if self.best_params and not self._last:
            self._last = dict(self.model.params)
            self._last_buffers = dict(getattr(self.model, "buffers", {}))
            self.model.params.update({name: w.copy() for name, w in self.best_params.items()})
            if self.best_buffers:
                self.model.buffers = dict(self.best_buffers)
            self._installed = dict(self.model.params)

    def _reinstall_last(self) -> None:
        """Take the last parameters up again, unless others were put into the model since."""
        unchanged = all(self.model.params[name] is w for name, w in self._installed.items())
        if self._last and unchanged:
            self.model.params.update(self._last)
            if self._last_buffers:
                self.model.buffers = self._last_buffers
        self._last, self._installed = {}, {}

    def _refuse_foreign_checkpoints(self) -> None:
        found = list_checkpoints(self.checkpoint_name or "")
        for path in found:
            try:
                load_checkpoint(path)
            except CheckpointError:
                continue  # nothing that a run could go on from
            raise FileExistsError(
                f"Solver.train: checkpoint_name must be new for a new run; got {self.checkpoint_name!r}, and there "
                f"is {path}. Go on with resume(), take another name, or delete the files"
            )


def _samples(backend: Backend, array: Array, part: slice | Array) -> Array:
    """Return the samples of a slice, or of indices, of an array wherever it is."""
    if isinstance(part, slice) or array_kind(array) == "numpy":
        return array[part]
    return backend.gather_rows(array, part)
