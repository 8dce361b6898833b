"""What a Solver calls on its callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gconv.training.run import Run

__all__ = ["EVENTS", "Callback"]


class Callback:
    """Base class of the callbacks that ship; any object with one of its methods is a callback too.

    Callbacks are called in the order in which the Solver was given them. ``run`` is the Solver's: it has ``model``,
    ``iteration``, ``epoch``, the histories, ``optim_configs``, ``save(path)``, and ``stop(reason)``, which ends the
    training after the iteration at hand, with an accuracy check. Training is the same to the bit with callbacks that
    only look. Where an event after a step raises an exception, what it put into ``optim_configs``, ``model.params`` and
    ``model.buffers`` is taken out again; where it was interrupted (Ctrl-C), it is called again when training goes on.
    So put new arrays there; what was written into the old ones stays, and is written twice then.

    Besides the events below a callback may have

    - ``learning_rate_factor(iteration, total)``: what to multiply the learning rates with in the step that follows so
      many iterations, of ``total`` in the Solver's ``num_epochs``. At most one callback may. It must depend on its
      arguments alone: on a GPU it is asked for many steps ahead.
    - ``on_gradients(run, grads)``: returns the gradients to use in place of ``grads``, a dictionary of those
      parameters that are trained. It must not write to the arrays it is given. On a GPU a step is replayed as a graph
      only if the callback's attribute ``capturable`` is true: it then computes on the device alone, without waiting.
    - ``changes_training = True``: it changes weights, states or rates in another event. A checkpoint then goes on only
      with such a callback, and does first what was still to be done when it was saved.
    - ``needs_validation = True``: training then refuses to begin where there is nothing to validate on.

    Examples
    --------
    >>> from gconv.classifiers import TwoLayerNet
    >>> from gconv.data_utils import make_synthetic_data
    >>> from gconv.solver import Solver
    >>> class GoodEnough(Callback):
    ...     def on_eval(self, run):
    ...         if run.val_acc_history[-1] > 0.9:
    ...             run.stop("good enough")
    >>> model = TwoLayerNet(input_dim=3 * 8 * 8, hidden_dim=20, num_classes=4, weight_scale=1e-2, rng=0)
    >>> options = {"update_rule": "adam", "verbose": False, "seed": 0}
    >>> solver = Solver(model, make_synthetic_data(), callbacks=[GoodEnough()], **options)
    >>> solver.train()
    >>> solver.stopped
    'good enough'
    """

    def on_start(self, run: Run) -> None:
        """Training begins, or goes on; called before the first iteration of each ``train``."""

    def on_resume(self, run: Run) -> None:
        """``resume`` has read a checkpoint; what had stopped the training then stops it again here."""

    def on_update(self, run: Run) -> None:
        """Parameters were updated, the first that happens after a step; on a GPU the update was queued.

        For what follows the parameters, as their averages do. ``run.model.params`` hold the new arrays until the next
        update but one: copy what is to be kept.
        """

    def on_iteration(self, run: Run) -> None:
        """A step was done; on a GPU it was queued, and ``loss_history`` ends at the last loss that was read."""

    def on_eval(self, run: Run) -> None:
        """The accuracy was checked, and the histories are up to date."""

    def on_epoch(self, run: Run) -> None:
        """An epoch ended; its accuracy check came before."""

    def on_end(self, run: Run) -> None:
        """``train`` ends, also by an exception; ``model.params`` are still the last ones, not the best."""


EVENTS = (
    "on_start",
    "on_resume",
    "on_update",
    "on_iteration",
    "on_eval",
    "on_epoch",
    "on_end",
    "on_gradients",
    "learning_rate_factor",
)
