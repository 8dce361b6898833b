"""A training's callbacks: what each of them can do, looked up once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from gconv._checks import real_number
from gconv._typing import Array
from gconv.training.callbacks.protocol import EVENTS, Callback
from gconv.training.moments import Item
from gconv.training.run import Run

__all__ = ["CHECK", "EPOCH", "SAVE", "SAY", "Hooks", "all_due"]

# What is due by itself after a step, beside the callbacks.
SAY, CHECK, EPOCH, SAVE = ("say", ""), ("check", ""), ("epoch", ""), ("save", "")


class Hooks:
    """The methods of the callbacks, by event.

    Raises
    ------
    TypeError
        For an object without any method of a callback.
    ValueError
        For more than one callback that sets the learning rate, or one beside the Solver's ``lr_decay``.
    """

    def __init__(self, callbacks: Iterable[Any], lr_decay: float) -> None:
        # By event, in order: who is called, by the name that ``due`` has for it.
        self._methods: dict[str, dict[str, Callable[..., Any]]] = {event: {} for event in EVENTS}
        self.changing: list[str] = []  # what the course of the training depends on, as a checkpoint keeps it
        self.need_validation: list[str] = []
        setters = []
        for number, callback in enumerate(callbacks):
            methods = {event: getattr(callback, event, None) for event in EVENTS}
            if isinstance(callback, type) or not any(callable(method) for method in methods.values()):
                raise TypeError(
                    f"Solver: callbacks must be objects with at least one of {', '.join(EVENTS)}; got {callback!r}"
                )
            sets_rate = callable(methods["learning_rate_factor"]) or getattr(callback, "sets_learning_rate", False)
            changes = getattr(callback, "changes_training", False)
            who = f"looking:{number}"
            if sets_rate:
                setters.append(type(callback).__name__)
            if sets_rate or changes or callable(methods["on_gradients"]):
                known = dataclasses.is_dataclass(callback)
                who = f"changing:{len(self.changing)}"
                self.changing.append(repr(callback) if known else type(callback).__name__)
            if getattr(callback, "needs_validation", False):
                self.need_validation.append(type(callback).__name__)
            for event, method in methods.items():
                # The base class does nothing, which need not be called 1,000 times a second.
                if callable(method) and getattr(type(callback), event, None) is not getattr(Callback, event, ()):
                    self._methods[event][who] = method
        if len(setters) > 1 or (setters and lr_decay != 1):
            also = "lr_decay is not 1" if len(setters) == 1 else "only one can"
            raise ValueError(f"Solver: callbacks must not set the learning rate where {also}; got {', '.join(setters)}")
        self.on_gradients = tuple(self._methods["on_gradients"].values())
        self.capturable = all(
            getattr(getattr(method, "__self__", None), "capturable", False) for method in self.on_gradients
        )

    @property
    def schedule(self) -> Callable[[int, int], float] | None:
        """The schedule's ``learning_rate_factor``, if there is one, with a check of what it returns."""
        return self._factor if self._methods["learning_rate_factor"] else None

    def _factor(self, iteration: int, total: int) -> float:
        (factor,) = self._methods["learning_rate_factor"].values()
        return real_number("Solver.train", "learning_rate_factor", factor(iteration, total), 0)

    def items(self, event: str) -> tuple[Item, ...]:
        """Return who is to be called at an event, as ``Run.due`` has it."""
        return tuple((event, who) for who in self._methods[event])

    def method(self, item: Item) -> Callable[[Run], object]:
        """Return what to call."""
        event, who = item
        return self._methods[event][who]

    def call(self, event: str, run: Run) -> None:
        """Call a method of every callback that has it."""
        for method in self._methods[event].values():
            method(run)

    def gradients(self, run: Run, grads: dict[str, Array]) -> dict[str, Array]:
        """Return what the callbacks make of the gradients.

        Raises
        ------
        ValueError
            If one returns other keys.
        """
        for method in self.on_gradients:
            changed = method(run, grads)
            if not isinstance(changed, dict) or changed.keys() != grads.keys():
                found = sorted(changed) if isinstance(changed, dict) else type(changed).__name__
                raise ValueError(f"Solver.train: on_gradients must return a gradient for each parameter; got {found}")
            grads = changed
        return grads


def all_due(hooks: Hooks) -> frozenset[Item]:
    """Return everything that can be due after a step."""
    events = ("on_update", "on_iteration", "on_eval", "on_epoch")
    return frozenset((SAY, CHECK, EPOCH, SAVE, *(item for event in events for item in hooks.items(event))))
