"""The training loop: minibatches, update rules, accuracy checks, checkpoints."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gconv._checks import one_of, positive_int, real_number
from gconv._memory import free_frames
from gconv._progress import Progress
from gconv._typing import Array
from gconv.files import checkpoint_path, load_checkpoint, save_checkpoint, warn_if_unwritten
from gconv.optim import LEARNING_RATES
from gconv.solver_arguments import check_augment, check_model, check_optim, optional_count, samples
from gconv.solver_best import BestWeights
from gconv.solver_callbacks import Hooks
from gconv.solver_draws import Draws, Minibatch
from gconv.solver_evaluation import Evaluation
from gconv.solver_state import alone, capture, refuse_foreign_checkpoints, restore, resume_newest
from gconv.solver_steps import HostSteps, Steps, TwoArrays, model_backend
from gconv.training.augmentation import Augment

__all__ = ["Solver"]


class Solver(BestWeights, Evaluation):
    """Trains a model on a data set by stochastic gradient descent.

    With the model's parameters on a GPU the data set is moved there once, in the dtype it has, and a step waits
    for nothing: losses are read together when one is printed or an accuracy checked.

    Parameters
    ----------
    model : object
        Has ``params``, a dictionary of arrays, and ``loss(X, y=None)``: scores (N, C) without ``y``, else
        (loss, grads). Optionally ``buffers``, a dictionary of arrays that are state but no parameters, and
        ``config``, a description for the checkpoints.
    data : dict, optional
        ``X_train``, ``y_train``, ``X_val``, ``y_val``; samples along the first axis, integer labels. Without it
        ``fit`` brings the data.
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
        Those of gconv.training.callbacks, and any object with a method of its Callback: early stopping, time limit,
        learning-rate schedules, gradient clipping, logs, checkpoints.
    augment : gconv.training.augmentation.Augment, optional
        Random changes of the images of each minibatch: mirrored, shifted, a square cleared.
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
    learning_rate_history : list of float
        One a check: the learning rate of the step before it.
    epoch, iteration : int
        How many have been completed.
    seconds : float
        Time in ``train``, that before a checkpoint was resumed from counted.
    stopped : str or None
        The reason, where a callback ended the last training.
    failure : BaseException or None
        The exception that ended the last training.
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
    >>> model = TwoLayerNet(input_dim=3 * 8 * 8, hidden_dim=20, num_classes=4, weight_scale=1e-2, rng=0)
    >>> solver = Solver(model, make_synthetic_data(), update_rule="adam", num_epochs=5, verbose=False, seed=0)
    >>> solver.train()
    >>> solver.best_val_acc > 0.9
    True
    """

    def __init__(
        self,
        model: Any,
        data: dict[str, Array] | None = None,
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
        augment: Augment | None = None,
        graph: bool | str = "auto",
        **unknown: Any,
    ) -> None:
        if unknown:
            raise ValueError(f"Solver: keywords must be the documented ones; got {', '.join(sorted(unknown))}")
        check_optim(update_rule, optim_config)
        check_model(model)
        self.model = model
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
        self._hooks = Hooks(self.callbacks, self.lr_decay)
        self.augment = augment
        self.graph = one_of("Solver", "graph", graph, ("auto", True, False))
        self._print: Callable[[str], None] = print
        self.rng = None if seed is None else np.random.default_rng(seed)
        if data is not None:
            self.set_data(data)
        self._reset()

    def set_data(self, data: dict[str, Array]) -> None:
        """Train on another data set from here on: a dictionary as for the Solver itself.

        Raises
        ------
        ValueError, TypeError
            For data that are no data set; the Solver keeps the one it had.
        """
        train, val = samples(data, "X_train", "y_train"), samples(data, "X_val", "y_val")
        if not len(train[0]):
            raise ValueError("Solver: data['X_train'] must hold at least one sample; got none")
        check_augment(self.augment, train[0])
        (self.X_train, self.y_train), (self.X_val, self.y_val) = train, val
        self._on_device = {}
        self.draws = Draws(self.rng, self.batch_size, self.sampling, self.augment)

    def _reset(self) -> None:
        self.epoch = self.iteration = 0
        self.best_val_acc = 0.0
        self.loss_history: list[float] = []
        self.train_acc_history: list[float] = []
        self.val_acc_history: list[float] = []
        self.eval_iterations: list[int] = []
        self.optim_configs = {name: dict(self.optim_config) for name in self.model.params}
        self.learning_rate_history: list[float] = []
        self.stopped: str | None = None
        self.failure: BaseException | None = None
        self.draws = Draws(self.rng, self.batch_size, self.sampling, self.augment)
        self._seconds, self._started = 0.0, None  # type: float, float | None
        self._running: Steps | None = None
        self._total = 0
        self._arrays = TwoArrays()
        self._forget_last()

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
        BlockingIOError
            If another training of that name is under way.
        MemoryError
            If there is no memory; the message names the layer and the batch size.

        Warns
        -----
        RuntimeWarning
            If a checkpoint can't be written (no space, no permission): the ones before it stay, and training goes on.
        """
        with alone(self):
            self._train(num_epochs)

    def _train(self, num_epochs: int | None = None) -> None:
        if not hasattr(self, "X_train"):
            raise ValueError("Solver.train: data must be given to the Solver, or to fit; got none")
        epochs = self.num_epochs if num_epochs is None else positive_int("Solver.train", "num_epochs", num_epochs)
        total = (epochs if num_epochs is None else self.epoch + epochs) * self.iterations_per_epoch
        if self.iteration == 0 and self.checkpoint_name is not None:
            refuse_foreign_checkpoints(self.checkpoint_name)
        if self.iteration >= total:
            self._install_best()
            self._say(f"{self.epoch} of {self.num_epochs} epochs have been done; train(1) does one more")
            return
        self._reinstall_last()
        self._total, self.stopped, self.failure, self._started = total, None, None, time.perf_counter()
        try:
            self._hooks.call("on_start", self)
            with Progress(self.progress, self.iteration, total) as bar:
                self._print = bar.print
                self._run(bar)
        except MemoryError as error:
            free_frames(error)
            self.failure = MemoryError(f"Solver.train: no memory with batch_size={self.batch_size}: {error}")
            raise self.failure from error
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self._print, self._running = print, None
            self._seconds, self._started = self.seconds, None
            try:
                self._hooks.call("on_end", self)
            finally:
                self._install_best()

    def _run(self, bar: Progress) -> None:
        """Iterate until all is done, or a callback has stopped it."""
        steps = self._running = self._steps()
        try:
            while self.iteration < self._total and self.stopped is None:
                self._iterate(steps)
                bar.advance(self.iteration, self.loss_history, self.val_acc_history)
        finally:
            steps.close()
        if self.stopped is not None:
            # What was trained since the last check may be the best.
            if self.eval_iterations[-1:] != [self.iteration]:
                self._evaluate(self._rates(self.iteration - 1, 1)[0])
            self._say(f"Stopped after iteration {self.iteration}: {self.stopped}")

    def stop(self, reason: str) -> None:
        """End the training after the iteration at hand; for callbacks. ``train`` may go on later."""
        self.stopped = str(reason)

    @property
    def seconds(self) -> float:
        """Time spent in ``train``, in all."""
        return self._seconds + (0.0 if self._started is None else time.perf_counter() - self._started)

    def _steps(self) -> Steps:
        backend = model_backend(self.model)
        if backend.name == "gpu":
            from gconv.solver_device import DeviceSteps

            return DeviceSteps(self, backend)
        if self.graph is True:
            raise ValueError("Solver: graph must be False or 'auto' where the parameters are no CuPy arrays; got True")
        return HostSteps(self)

    def resume(self, path: str | os.PathLike[str] | None = None) -> None:
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
        with alone(self):
            if path is not None:
                restore(self, path, *load_checkpoint(path))
            else:
                resume_newest(self)
            self._hooks.call("on_resume", self)
            if self.stopped is not None:
                self._install_best()
                self._say(f"Stopped after iteration {self.iteration}: {self.stopped}; train(1) does one epoch more")
            else:
                self._train()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint to go on from with ``resume(path)``, whole or not at all; callbacks may, at any event.

        Raises
        ------
        OSError
            If it can't be written; what stood at ``path`` is still there.
        """
        if self._running is not None:
            self._running.settle()
        save_checkpoint(path, *capture(self))

    def _say(self, text: str) -> None:
        if self.verbose:
            self._print(text)

    def drawn_ahead(self) -> list[Minibatch]:
        """Return the minibatches that have been drawn and not trained on."""
        return [*(self._running.pending() if self._running is not None else ()), *self.draws.ahead]

    @property
    def scheduled(self) -> bool:
        """Whether a callback says what the learning rate is."""
        return self._hooks.schedule is not None

    def _rates(self, first: int, count: int) -> list[float]:
        """Return the learning rates of so many steps, from the one after ``first`` iterations on."""
        base, factor = LEARNING_RATES[self.update_rule], self._hooks.schedule
        if factor is None:
            config = next(iter(self.optim_configs.values()), {})
            return [config.get("learning_rate", base)] * count
        base, total = self.optim_config.get("learning_rate", base), self.num_epochs * self.iterations_per_epoch
        return [base * factor(iteration, total) for iteration in range(first, first + count)]

    def _set_rate(self, rate: float) -> None:
        if self.scheduled:
            for config in self.optim_configs.values():
                config["learning_rate"] = rate

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
        rate = self._rates(self.iteration - 1, 1)[0]
        self._hooks.call("on_iteration", self)
        epoch_end = self.iteration % self.iterations_per_epoch == 0
        if epoch_end:
            self.epoch += 1
            if self.lr_decay != 1:
                for config in self.optim_configs.values():
                    config["learning_rate"] *= self.lr_decay
        if check:
            self._evaluate(rate)
        if epoch_end:
            self._hooks.call("on_epoch", self)
            if self.checkpoint_name is not None:
                path = checkpoint_path(self.checkpoint_name, self.epoch)
                with warn_if_unwritten(f"the checkpoint {path}"):
                    self.save(path)

    def _evaluate(self, rate: float) -> None:
        train_acc = self.check_accuracy(self.X_train, self.y_train, self.num_train_samples)
        val_acc = self.check_accuracy(self.X_val, self.y_val, self.num_val_samples)
        self.train_acc_history.append(train_acc)
        self.val_acc_history.append(val_acc)
        self.eval_iterations.append(self.iteration)
        self.learning_rate_history.append(rate)
        total = self._total // self.iterations_per_epoch
        self._say(f"(Epoch {self.epoch} / {total}) train acc: {train_acc:f}; val_acc: {val_acc:f}")
        # While nothing has been right yet, or where there is nothing to validate on, the latest parameters are
        # the best there are.
        if val_acc > self.best_val_acc or self.best_val_acc == 0 or math.isnan(val_acc):
            self.best_val_acc = 0.0 if math.isnan(val_acc) else val_acc
            self._keep_best()
        self._hooks.call("on_eval", self)
