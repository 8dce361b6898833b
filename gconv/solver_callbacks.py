"""A Solver's callbacks: what each of them can do, looked up once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from gconv._checks import real_number
from gconv._typing import Array
from gconv.training.callbacks.protocol import EVENTS, Callback

if TYPE_CHECKING:
    from gconv.solver import Solver

__all__ = ["Hooks"]


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
        self._methods: dict[str, list[Callable[..., Any]]] = {event: [] for event in EVENTS}
        setters, self._changing = [], []
        for callback in callbacks:
            methods = {event: getattr(callback, event, None) for event in EVENTS}
            if isinstance(callback, type) or not any(callable(method) for method in methods.values()):
                raise TypeError(
                    f"Solver: callbacks must be objects with at least one of {', '.join(EVENTS)}; got {callback!r}"
                )
            for event, method in methods.items():
                # The base class does nothing, which need not be called 1,000 times a second.
                if callable(method) and getattr(type(callback), event, None) is not getattr(Callback, event, ()):
                    self._methods[event].append(method)
            sets_rate = callable(methods["learning_rate_factor"]) or getattr(callback, "sets_learning_rate", False)
            if sets_rate:
                setters.append(type(callback).__name__)
            if sets_rate or callable(methods["on_gradients"]):
                known = dataclasses.is_dataclass(callback)
                self._changing.append(repr(callback) if known else type(callback).__name__)
        if len(setters) > 1 or (setters and lr_decay != 1):
            also = "lr_decay is not 1" if len(setters) == 1 else "only one can"
            raise ValueError(f"Solver: callbacks must not set the learning rate where {also}; got {', '.join(setters)}")
        self.schedule = self._schedule()
        self.capturable = all(
            getattr(getattr(method, "__self__", None), "capturable", False) for method in self._methods["on_gradients"]
        )

    def _schedule(self) -> Callable[[int, int], float] | None:
        """Return the schedule's ``learning_rate_factor``, if there is one, with a check of what it returns."""
        if not self._methods["learning_rate_factor"]:
            return None
        (factor,) = self._methods["learning_rate_factor"]
        return lambda iteration, total: real_number("Solver.train", "learning_rate_factor", factor(iteration, total), 0)

    @property
    def changing(self) -> list[str]:
        """Descriptions of the callbacks that the course of the training depends on."""
        return self._changing

    def call(self, event: str, solver: Solver) -> None:
        """Call a method of every callback that has it."""
        for method in self._methods[event]:
            method(solver)

    def gradients(self, solver: Solver, grads: dict[str, Array]) -> dict[str, Array]:
        """Return what the callbacks make of the gradients.

        Raises
        ------
        ValueError
            If one returns other keys.
        """
        for method in self._methods["on_gradients"]:
            changed = method(solver, grads)
            if not isinstance(changed, dict) or changed.keys() != grads.keys():
                found = sorted(changed) if isinstance(changed, dict) else type(changed).__name__
                raise ValueError(f"Solver.train: on_gradients must return a gradient for each parameter; got {found}")
            grads = changed
        return grads
