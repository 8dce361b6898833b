"""What a training is at any moment: all that a checkpoint needs, and what may change it whole or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from gconv._typing import Array
from gconv.backends import array_kind, get_backend
from gconv.files import save_checkpoint
from gconv.training.divergence import Diverged, diverged
from gconv.training.draws import Draws
from gconv.training.model import buffers_of, clear_buffers, write_buffers
from gconv.training.moments import Change, Configs, Item, Moment
from gconv.training.snapshots import CHECKS, Content, encode

__all__ = ["Run", "nothing_queued"]


class Run:
    """The state of a training; it knows no loop.

    A step, an accuracy check and the end of an epoch are transactions: ``begin``, then ``commit`` with all that they
    change, or ``recover`` after whatever interrupted them. The commit is the store of one attribute: before it nothing
    has changed, after it everything will have, whoever looks next.

    Attributes
    ----------
    model : object
        Its ``params`` and ``buffers`` are the run's.
    draws : Draws
        The generator and what was drawn ahead.
    optim_configs : dict of str to dict
        The update rule's numbers and state for each parameter that is trained.
    iteration, epoch : int
        How many have been completed.
    epoch_start, iterations_per_epoch, num_epochs : int
        The iteration at which the epoch at hand began, how many an epoch has, and how many epochs were asked for.
    loss_history : list of float
        One loss an iteration; on a GPU, up to the last one that was read.
    train_acc_history, val_acc_history, eval_iterations, learning_rate_history : list
        One entry an accuracy check: accuracies, iterations done, the learning rate of the step before it (that of the
        first parameter, where groups have several).
    best_val_acc, best_params, best_buffers : float, dict, dict
        The best validation accuracy so far, and copies of what reached it.
    due : tuple of Item
        What is still to be done after the last step; empty but where something interrupted it.
    options : dict
        What the run depends on, as a checkpoint keeps it.
    stopped : str or None
        The reason, where a callback ended the last training.
    failure : BaseException or None
        The exception that ended the last training.
    """

    def __init__(self, model: Any, draws: Draws, configs: Configs) -> None:
        self.model, self.draws, self.optim_configs = model, draws, configs
        self.options: dict[str, Any] = {}
        self.iteration = self.epoch = self.epoch_start = 0
        self.iterations_per_epoch = self.num_epochs = 0
        self.loss_history: list[float] = []
        self.train_acc_history: list[float] = []
        self.val_acc_history: list[float] = []
        self.eval_iterations: list[int] = []
        self.learning_rate_history: list[float] = []
        self.step_rate: float | None = None
        self.best_val_acc = 0.0
        self.best_params: dict[str, Array] = {}
        self.best_buffers: dict[str, Array] = {}
        self.due: tuple[Item, ...] = ()
        self.stopped: str | None = None
        self.failure: BaseException | None = None
        self.settle: Callable[[], None] = nothing_queued  # brings loss_history up to date
        self._seconds, self._started = 0.0, None  # type: float, float | None
        self._open: tuple[Moment, Change | None] | None = None
        self._calling: Moment | None = None  # before the callback at hand
        self._before_step: Moment | None = None
        self._restoring: Content | None = None
        self._divergence: Diverged | None = None  # in the callback at hand
        self._last: tuple[dict[str, Array], dict[str, Array]] | None = None
        self._installed: dict[str, Array] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_seconds": self.seconds, "_started": None}  # nobody trains a copy

    # Where it stands --------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Time spent in training, in all."""
        return self._seconds + (0.0 if self._started is None else time.perf_counter() - self._started)

    @property
    def training(self) -> bool:
        """Whether a training is under way."""
        return self._started is not None

    def start_clock(self) -> None:
        """Count the time from here on."""
        self._started = time.perf_counter()

    def stop_clock(self) -> None:
        """Stop counting."""
        self._seconds, self._started = self.seconds, None

    def stop(self, reason: str) -> None:
        """End the training after the iteration at hand; for callbacks. It may go on later."""
        self.stopped = str(reason)

    def moment(self, others_draw: bool = True, copy_buffers: bool = True) -> Moment:
        """Return where the run stands.

        Parameters
        ----------
        others_draw : bool
            False for what draws nothing but minibatches.
        copy_buffers : bool
            False for what writes to no buffer that is there.
        """
        params, buffers = self.last_state()
        kept: dict[str, Array] | None = buffers
        if not buffers and getattr(self.model, "buffers", None) is None:
            kept = None
        elif copy_buffers:
            kept = {name: a if array_kind(a) is None else a.copy() for name, a in buffers.items()}
        configs = {name: dict(config) for name, config in self.optim_configs.items()}
        best = self.best_val_acc, self.best_params, self.best_buffers
        position = self.iteration, self.epoch, self.epoch_start
        checks = len(self.eval_iterations)
        drawn = self.draws.drawn(others_draw)
        has = hasattr(self.model, "buffers")
        return Moment(params, kept, has, configs, best, position, checks, self.step_rate, self.due, drawn)

    def return_to(self, moment: Moment) -> None:
        """Stand there again."""
        self.model.params.update(moment.params)
        if moment.buffers is None:
            clear_buffers(self.model, moment.has_buffers)
        elif moment.buffers or buffers_of(self.model):
            write_buffers(self.model, moment.buffers)
        self._last = None
        for name, config in moment.configs.items():
            there = self.optim_configs.setdefault(name, {})
            there.clear()
            there.update(config)
        self.best_val_acc, self.best_params, self.best_buffers = moment.best
        self.iteration, self.epoch, self.epoch_start = moment.position
        del self.loss_history[self.iteration :]
        for history in CHECKS:
            del getattr(self, history)[moment.checks :]
        self.step_rate, self.due = moment.step_rate, moment.due
        self.draws.return_to(moment.drawn)

    def begin_epoch(self) -> None:
        """Let an epoch begin here: the data are others."""
        self.epoch_start = self.iteration
        self.draws.order, self.draws.ahead = None, []
        self._before_step = None  # of other data, in an epoch of another length

    def begin_anew(
        self, params: dict[str, Array], buffers: dict[str, Array] | None, has_buffers: bool, configs: Configs
    ) -> None:
        """Forget all training, and begin with copies of these; ``has_buffers`` says that the attribute was there."""
        self.model.params.update({name: w.copy() for name, w in params.items()})
        if buffers is None:
            clear_buffers(self.model, has_buffers)
        elif buffers or buffers_of(self.model):
            write_buffers(self.model, {name: a.copy() for name, a in buffers.items()})
        self.draws.order, self.draws.ahead = None, []
        self.__init__(self.model, self.draws, configs)  # type: ignore[misc]

    # Transactions -----------------------------------------------------------------------------------

    def begin(self, others_draw: bool = True, copy_buffers: bool = True) -> Moment:
        """Begin a transaction, and return where the run stands; the arguments are those of ``moment``."""
        moment = self.moment(others_draw, copy_buffers)
        self._open = moment, None
        return moment

    def commit(self, change: Change) -> None:
        """End the transaction with all that it changes."""
        if self._open is None:
            raise RuntimeError("Run.commit: a transaction must have begun; none has")
        moment, _ = self._open
        self._open = moment, change  # from here on the change has happened
        self._finish(moment, change)

    def _finish(self, moment: Moment, change: Change) -> None:
        self.model.params.update(change.params)
        for name, config in change.configs.items():
            self.optim_configs[name].update(config)
        if change.buffers is not None:
            write_buffers(self.model, change.buffers)
        for history, (place, value) in change.entries.items():
            getattr(self, history)[place:] = [value]
        for name, value in change.fields.items():
            setattr(self, name, value)
        if "iteration" in change.fields:  # a step
            self._before_step = moment
        self._open = None

    def recover(self) -> None:
        """Finish what was committed, undo what was not; after any exception, as often as one likes."""
        if self._restoring is not None:
            self._take_over(self._restoring)
        if self._open is not None:
            moment, change = self._open
            if change is not None:
                self._finish(moment, change)
            else:
                self.return_to(moment)
                self._open = None
        if self._calling is not None:
            self.return_to(self._calling)
            self._calling = None

    @property
    def before_step(self) -> Moment | None:
        """Where the run stood before the last step, as long as that can be returned to."""
        return self._before_step

    def forget_step_before(self) -> None:
        """Let the arrays from before the last step be written to: it can't be undone any more."""
        self._before_step = None

    def require_finite(self) -> None:
        """Raise FloatingPointError, the last step undone, if it has left the finite numbers; no loss shows it yet."""
        before = self._before_step
        if before is None or not self.training:
            return
        for name in self.optim_configs:
            now, then = self.model.params[name], before.params[name]
            finite = get_backend(now).xp.isfinite
            if not bool(finite(now).all()) and bool(finite(then).all()):
                iteration, rate = self.iteration, self.step_rate
                self.undo_step()
                left = "That step was undone: model.params are the last ones with a finite loss"
                raise self.diverge(
                    diverged(f"model.params[{name!r}] must stay finite; it did not", iteration, rate, left)
                )

    def diverge(self, error: Diverged) -> Diverged:
        """Return the error of steps that were undone, which ends the training even if a callback keeps it to itself."""
        self._divergence = error
        return error

    def undo_step(self) -> bool:
        """Return to before the last step; False where that is not known."""
        if self._before_step is None:
            return False
        self.abandon_to(self._before_step)
        return True

    def abandon_to(self, moment: Moment) -> None:
        """Return to an earlier moment, whatever was under way."""
        self._open, self._calling, self._before_step = (moment, None), None, None
        self.recover()

    def call(self, method: Callable[[Run], object], again: bool = False) -> None:
        """Call a callback on what is due first; that is then done, unless the call was interrupted.

        An interrupted call (KeyboardInterrupt) is undone and stays due. One that raises an Exception is undone too, but
        had its turn, unless ``again``.
        """
        self._calling, self._divergence = self.moment(), None
        rest = self.due[1:]
        try:
            method(self)
        except Exception:
            if self._calling is not None:  # it is where a loss that was not finite has undone more than the call
                self.recover()
                self.due = self.due if again else rest
            raise
        except BaseException:
            self.recover()
            raise
        if self._divergence is not None:
            raise self._divergence
        self.due = rest
        self._calling = None

    # The best parameters, and the last ones ---------------------------------------------------------

    def copies(self) -> tuple[dict[str, Array], dict[str, Array] | None]:
        """Return copies of the model's parameters and buffers; None where it has none yet."""
        params = {name: w.copy() for name, w in self.model.params.items()}
        if getattr(self.model, "buffers", None) is None:
            return params, None
        return params, {name: a.copy() for name, a in buffers_of(self.model).items()}

    def install_best(self) -> None:
        """Put the best parameters into the model and remember the last ones, to go on from."""
        if not self.best_params:
            return
        # An interruption may have come before the parameters were put there.
        waiting = self._last is not None and all(self.model.params.get(name) is w for name, w in self._last[0].items())
        if self._last is None or waiting:
            best = {name: w.copy() for name, w in self.best_params.items()}
            if not waiting:
                self._installed = {}
                self._last = dict(self.model.params), buffers_of(self.model)
            if self.best_buffers:
                write_buffers(self.model, {name: a.copy() for name, a in self.best_buffers.items()})
            self._installed = best
            self.model.params.update(best)

    def last_state(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return the parameters and buffers that training goes on from.

        After a training they are not the ones in the model, which are the best, unless others were put there since.
        """
        if self._last is not None:
            there = self.model.params
            for known in (self._installed, self._last[0]):
                if all(there.get(name) is w for name, w in known.items()):
                    return dict(self._last[0]), dict(self._last[1])
        return dict(self.model.params), buffers_of(self.model)

    def reinstall_last(self) -> None:
        """Take the last parameters up again, unless others were put into the model since."""
        params, buffers = self.last_state()
        if any(self.model.params[name] is w for name, w in params.items()):
            self._before_step = None  # others were put there, and are not to be undone
        self.model.params.update(params)
        if buffers:
            write_buffers(self.model, buffers)
        self._last = None

    # Checkpoints ------------------------------------------------------------------------------------

    def snapshot(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return (arrays, description) of everything that the rest of the training depends on.

        In the middle of a step it is what stood before the step.
        """
        self.settle()
        if self._restoring is not None or (self._open is not None and self._open[1] is not None):
            self.recover()
        if self._open is None:
            self.require_finite()
        moment = self.moment() if self._open is None else self._open[0]
        due = moment.due[1:] if self._calling is not None else moment.due
        iteration, epoch, epoch_start = moment.position
        best_val_acc, best_params, best_buffers = moment.best
        histories: dict[str, Any] = {name: getattr(self, name)[: moment.checks] for name in CHECKS}
        return encode(
            Content(
                params=moment.params,
                buffers=moment.buffers or {},
                best_params=best_params,
                best_buffers=best_buffers,
                configs=moment.configs,
                histories={"loss_history": self.loss_history[:iteration], **histories},
                iteration=iteration,
                epoch=epoch,
                epoch_start=epoch_start,
                best_val_acc=best_val_acc,
                seconds=self.seconds,
                step_rate=moment.step_rate,
                due=due,
                drawn=moment.drawn,
            ),
            self.options,
            getattr(self.model, "config", None),
        )

    def restore(self, content: Content) -> None:
        """Take over what a checkpoint held, which has been looked at in full."""
        self._restoring = content
        try:
            self._take_over(content)
        except BaseException:
            self.recover()
            raise

    def _take_over(self, content: Content) -> None:
        for history, values in content.histories.items():
            getattr(self, history)[:] = values
        self._open = self._calling = self._before_step = None
        self._last, self._installed, self._seconds = None, {}, content.seconds
        self.stopped = self.failure = None
        self.return_to(
            Moment(
                content.params,
                content.buffers,
                True,
                content.configs,
                (content.best_val_acc, content.best_params, content.best_buffers),
                (content.iteration, content.epoch, content.epoch_start),
                len(content.histories["eval_iterations"]),
                content.step_rate,
                content.due,
                content.drawn,
            )
        )
        self._restoring = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint to go on from, whole or not at all; callbacks may, at any event.

        Raises
        ------
        OSError
            If it can't be written; what stood at ``path`` is still there.
        ValueError, TypeError
            If an array can't be stored, by name.
        """
        save_checkpoint(path, *self.snapshot())


def nothing_queued() -> None:
    """Do nothing: every loss has been read."""
