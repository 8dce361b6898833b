"""How a training goes: what a Solver was asked for, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gconv._checks import integer, one_of, positive_int, real_number
from gconv.training.augmentation import Augment
from gconv.training.optimizer import check_optim

__all__ = ["Settings"]

# What a run depends on: a checkpoint of other values would go on as a different run.
OPTIONS = ("update_rule", "lr_decay", "batch_size", "num_train_samples", "num_val_samples", "sampling", "eval_every")


@dataclass
class Settings:
    """The Solver's options, under its names.

    Raises
    ------
    ValueError, TypeError
        For values out of range, or of a wrong type.
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

    def __post_init__(self) -> None:
        check_optim(self.update_rule, self.optim_config)
        self.optim_config = dict(self.optim_config or {})
        self.lr_decay = real_number("Solver", "lr_decay", self.lr_decay, 0)
        self.batch_size = positive_int("Solver", "batch_size", self.batch_size)
        self.num_epochs = integer("Solver", "num_epochs", self.num_epochs, 0)
        self.print_every = positive_int("Solver", "print_every", self.print_every)
        for name in ("num_train_samples", "num_val_samples", "eval_every"):
            if getattr(self, name) is not None:
                setattr(self, name, positive_int("Solver", name, getattr(self, name)))
        one_of("Solver", "sampling", self.sampling, ("replacement", "shuffle"))
        one_of("Solver", "graph", self.graph, ("auto", True, False))

    def options(self) -> dict[str, Any]:
        """Return what a run depends on, as a checkpoint keeps it."""
        options = {name: getattr(self, name) for name in OPTIONS}
        return {**options, "augment": None if self.augment is None else repr(self.augment)}
