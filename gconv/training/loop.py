"""The loop: steps, and after each what is due: lines, callbacks, accuracy checks, the ends of epochs, checkpoints."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from gconv._checks import positive_int
from gconv._memory import free_frames
from gconv._progress import Progress
from gconv.training.batches import Batches
from gconv.training.checkpoints import expected_of, read, read_newest, refuse_foreign, save_epoch
from gconv.training.device import DeviceSteps
from gconv.training.divergence import Diverged
from gconv.training.evaluation import accuracy
from gconv.training.graph import GraphSteps
from gconv.training.hooks import CHECK, EPOCH, SAVE, SAY, Hooks
from gconv.training.locks import alone
from gconv.training.model import FUNC, check_config_of, check_ready, model_backend
from gconv.training.moments import Change, Item
from gconv.training.optimizer import Optimizer
from gconv.training.run import Run, nothing_queued
from gconv.training.settings import Settings
from gconv.training.steps import HostSteps, Steps

__all__ = ["Loop"]

# Samples that a model gets at a time in an accuracy check.
SAMPLES = 100


class Loop:
    """Trains a run on batches."""

    def __init__(self, run: Run, batches: Batches, optimizer: Optimizer, hooks: Hooks, settings: Settings) -> None:
        self.run, self._batches, self._optimizer, self._hooks = run, batches, optimizer, hooks
        self._settings = settings
        self._print: Callable[[str], None] = print
        self._total = 0
        self._own = {SAY: self._say_loss, CHECK: self._check, EPOCH: self._end_epoch, SAVE: self._save}
        self._plain = (*hooks.items("on_update"), *hooks.items("on_iteration"))

    def total(self, epochs: int) -> int:
        """Return the iteration at which so many epochs will have been done."""
        run = self.run
        start, epoch = (run.iteration, run.epoch + 1) if EPOCH in run.due else (run.epoch_start, run.epoch)
        return start + (epochs - epoch) * run.iterations_per_epoch

    def _check_before(self) -> None:
        """Raise an error for what a training can't begin with."""
        run = self.run
        check_ready(run.model, (*self._optimizer.trained, *self._optimizer.frozen))
        if len(run.loss_history) != run.iteration:
            raise ValueError(f"{FUNC}: loss_history must have {run.iteration} entries; got {len(run.loss_history)}")
        if self._hooks.need_validation and not len(self._batches.X_val):
            names = ", ".join(self._hooks.need_validation)
            raise ValueError(f"{FUNC}: {names} must have data['X_val'] to look at; it has no samples")

    def train(self, num_epochs: int | None = None) -> None:
        """Train so many epochs more, or until the Solver's ``num_epochs`` have been done; see Solver.train."""
        with alone(self._settings.checkpoint_name):
            self._train(num_epochs)

    def _train(self, num_epochs: int | None = None) -> None:
        run, settings = self.run, self._settings
        run.recover()
        done = run.epoch + (EPOCH in run.due)
        more = None if num_epochs is None else done + positive_int(FUNC, "num_epochs", num_epochs)
        total = self.total(settings.num_epochs if more is None else more)
        if run.iteration == 0 and settings.checkpoint_name is not None:
            refuse_foreign(settings.checkpoint_name)
            check_config_of(FUNC, getattr(run.model, "config", None))
        if run.iteration < total or run.due:
            self._train_to(total)
        else:
            run.install_best()
            self._say(f"{run.epoch} of {settings.num_epochs} epochs have been done; train(1) does one more")

    def resume(self, path: str | os.PathLike[str] | None) -> None:
        """Go on from a checkpoint; see Solver.resume."""
        run, name = self.run, self._settings.checkpoint_name
        with alone(name):
            check_ready(run.model, run.model.params)
            expected = expected_of(run, self._batches, self._optimizer, self._hooks, self._settings.augment)
            if path is not None:
                run.restore(read(path, expected))
            elif name is None:
                raise ValueError("Solver.resume: path must be given where the Solver has no checkpoint_name; got None")
            else:
                content = read_newest(name, expected, self._say)
                if content is not None:
                    run.restore(content)
            self._hooks.call("on_resume", run)
            if run.stopped is None:
                self._train()
            else:
                run.install_best()
                self._say(f"Stopped after iteration {run.iteration}: {run.stopped}; train(1) does one epoch more")

    def _train_to(self, total: int) -> None:
        """Iterate up to ``total``, or until a callback stops it."""
        run = self.run
        self._total, finite = total, True
        self._check_before()
        run.reinstall_last()
        run.stopped = run.failure = None
        run.start_clock()
        try:
            self._hooks.call("on_start", run)
            with Progress(self._settings.progress, run.iteration, total) as bar:
                self._print = bar.print
                self._iterate(bar)
        except Diverged as error:
            run.failure, finite = error, False
            raise
        except MemoryError as error:
            free_frames(error)
            size = self._settings.batch_size
            run.failure = MemoryError(f"Solver.train: no memory with batch_size={size}: {error}")
            raise run.failure from error
        except BaseException as error:
            run.failure = error
            raise
        finally:
            run.stop_clock()
            self._print = print
            run.recover()
            try:
                self._hooks.call("on_end", run)
            finally:
                if finite:
                    run.install_best()

    def _iterate(self, bar: Progress) -> None:
        run = self.run
        steps = self._steps()
        run.settle = steps.settle
        try:
            self._catch_up()
            while run.iteration < self._total and run.stopped is None:
                steps.step(self._due_after(run.iteration + 1), self._until_check)
                self._catch_up()
                bar.advance(run.iteration, run.loss_history, run.val_acc_history)
        finally:
            try:
                steps.close()
            finally:
                run.settle = nothing_queued
        if run.stopped is not None:
            # What was trained since the last check may be the best.
            if run.eval_iterations[-1:] != [run.iteration]:
                run.due = (CHECK, *self._hooks.items("on_eval"))
                self._catch_up()
            self._say(f"Stopped after iteration {run.iteration}: {run.stopped}")

    def _steps(self) -> Steps:
        run, graph = self.run, self._settings.graph
        backend = model_backend(run.model)
        parts = run, self._batches, self._optimizer, self._hooks, self.total(run.num_epochs)
        if backend.name == "gpu":
            return GraphSteps(*parts, backend, graph is True) if graph else DeviceSteps(*parts, backend)
        if graph is True:
            raise ValueError("Solver: graph must be False or 'auto' where the parameters are no CuPy arrays; got True")
        return HostSteps(*parts)

    def _say(self, text: str) -> None:
        if self._settings.verbose:
            self._print(text)

    # What is due after a step -----------------------------------------------------------------------

    def _ends_epoch(self, iteration: int) -> bool:
        return iteration - self.run.epoch_start == self.run.iterations_per_epoch

    def _checks_after(self, iteration: int) -> bool:
        """Return whether the accuracy is checked when so many iterations have been done."""
        every = self._settings.eval_every
        done = iteration - self.run.epoch_start
        return iteration == 1 or done % self.run.iterations_per_epoch == 0 or bool(every and iteration % every == 0)

    def _until_check(self) -> int:
        """Return how many iterations there are up to the next accuracy check, or the end."""
        first, count = self.run.iteration, 1
        while not self._checks_after(first + count) and first + count < self._total:
            count += 1
        return count

    def _due_after(self, iteration: int) -> tuple[Item, ...]:
        settings = self._settings
        say = settings.verbose and (iteration - 1) % settings.print_every == 0
        check, epoch_end = self._checks_after(iteration), self._ends_epoch(iteration)
        if not (say or check or epoch_end):
            return self._plain
        return (
            *self._hooks.items("on_update"),
            *((SAY,) if say else ()),
            *self._hooks.items("on_iteration"),
            *((EPOCH,) if epoch_end else ()),
            *((CHECK, *self._hooks.items("on_eval")) if check else ()),
            *(self._hooks.items("on_epoch") if epoch_end else ()),
            *((SAVE,) if epoch_end and settings.checkpoint_name is not None else ()),
        )

    def _catch_up(self) -> None:
        """Do what is due, each once; what is interrupted stays due."""
        run = self.run
        while run.due:
            item = run.due[0]
            if item in self._own:
                self._own[item]()
            else:
                if item[0] == "on_iteration" and CHECK in run.due:
                    run.settle()
                run.call(self._hooks.method(item))

    def _say_loss(self) -> None:
        run = self.run
        run.settle()
        self._say(f"(Iteration {run.iteration} / {self._total}) loss: {run.loss_history[-1]:f}")
        run.due = run.due[1:]

    def _end_epoch(self) -> None:
        run, decay = self.run, self._settings.lr_decay
        configs: dict[str, dict[str, Any]] = {}
        if decay != 1:
            configs = {
                name: {"learning_rate": config["learning_rate"] * decay} for name, config in run.optim_configs.items()
            }
        run.begin()
        fields = {"epoch": run.epoch + 1, "epoch_start": run.iteration, "due": run.due[1:]}
        run.commit(Change({}, configs, None, {}, fields))

    def _check(self) -> None:
        """Check the accuracy; the best parameters so far are kept."""
        run, batches, settings = self.run, self._batches, self._settings
        run.settle()
        run.require_finite()
        moment = run.begin()
        try:
            parts = (
                (batches.X_train, batches.y_train, settings.num_train_samples),
                (batches.X_val, batches.y_val, settings.num_val_samples),
            )
            train_acc, val_acc = (accuracy(run.model, *part, SAMPLES, run.draws, batches) for part in parts)
            fields: dict[str, Any] = {"due": run.due[1:]}
            # While nothing has been right yet, or where there is nothing to validate on, the latest parameters are
            # the best there are.
            if val_acc > run.best_val_acc or run.best_val_acc == 0 or math.isnan(val_acc):
                fields["best_val_acc"] = 0.0 if math.isnan(val_acc) else val_acc
                fields["best_params"], buffers = run.copies()
                fields["best_buffers"] = buffers or {}
            rate = run.step_rate
            if rate is None:  # stopped before the first step
                rate = self._optimizer.rate(run.optim_configs, run.iteration, self.total(run.num_epochs))
            values = train_acc, val_acc, run.iteration, rate
            names = "train_acc_history", "val_acc_history", "eval_iterations", "learning_rate_history"
            entries = {name: (moment.checks, value) for name, value in zip(names, values, strict=True)}
            run.commit(Change({}, {}, None, entries, fields))
        except BaseException:
            run.recover()
            raise
        epochs = run.epoch + (self._total - run.epoch_start) // run.iterations_per_epoch
        self._say(f"(Epoch {run.epoch} / {epochs}) train acc: {train_acc:f}; val_acc: {val_acc:f}")

    def _save(self) -> None:
        name = self._settings.checkpoint_name
        # A checkpoint that is due in a file may be resumed without a name.
        self.run.call((lambda run: save_epoch(run, name)) if name is not None else (lambda _: None), again=True)
