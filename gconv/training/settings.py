"""How a training goes: what a Solver was asked for, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gconv._checks import integer, one_of, positive_int, real_number
from gconv.training.augmentation import Augment
from gconv.training.optimizer import check_optim

__all__ = ["ELSEWHERE", "Settings"]

# What a run depends on: a checkpoint of other values would go on as a different run.
OPTIONS = ("update_rule", "lr_decay", "batch_size", "num_train_samples", "num_val_samples", "sampling", "eval_every")


# Parts of the Solver are made of these.
FIXED = ("update_rule", "optim_config", "batch_size", "sampling", "augment")
# What the loops of other years know.
TRAINER = "of ClassifierTrainer.train in gconv.courses.cs231n_2015.classifier_trainer"
OF_2015 = ("reg", "momentum", "learning_rate_decay", "update", "sample_batches", "acc_frequency")
ELSEWHERE = {
    "learning_rate": 'a key of optim_config: {"learning_rate": ...}',
    "num_iters": "of TwoLayerNet.train in gconv.classifiers.neural_net",
    **dict.fromkeys(OF_2015, TRAINER),
}


@dataclass
class Settings:
    """The Solver's options, under its names; each is checked whenever it is set.

    Raises
    ------
    ValueError, TypeError
        For values out of range, or of a wrong type.
    AttributeError
        For another value of what is fixed once the Solver is made.
    """

    update_rule: str
    optim_config: dict[str, Any] | None
    lr_decay: float
    batch_size: int
    num_epochs: int
    num_train_samples: int | None
    num_val_samples: int | None
    checkpoint_name: str | None
    print_every: int
    verbose: bool
    sampling: str
    eval_every: int | None
    progress: bool
    augment: Augment | None
    graph: bool | str

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIXED and name in vars(self):
            raise AttributeError(f"Solver: {name} can be given to a new Solver only; got {value!r:.80}")
        super().__setattr__(name, self._checked(name, value))

    def _checked(self, name: str, value: Any) -> Any:
        if name == "optim_config":
            check_optim(self.update_rule, value)
            return dict(value or {})
        if name == "lr_decay":
            return real_number("Solver", name, value, 0)
        if name == "num_epochs":
            return integer("Solver", name, value, 0)
        if name in ("batch_size", "print_every"):
            return positive_int("Solver", name, value)
        if name in ("num_train_samples", "num_val_samples", "eval_every"):
            return None if value is None else positive_int("Solver", name, value)
        choices = {"sampling": ("replacement", "shuffle"), "graph": ("auto", True, False)}
        return one_of("Solver", name, value, choices[name]) if name in choices else value

    def options(self) -> dict[str, Any]:
        """Return what a run depends on, as a checkpoint keeps it."""
        options = {name: getattr(self, name) for name in OPTIONS}
        return {**options, "augment": None if self.augment is None else repr(self.augment)}
