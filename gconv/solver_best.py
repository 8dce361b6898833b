"""The best parameters of a training, which end up in the model, and the last ones, which training goes on from."""

from __future__ import annotations

from typing import Any

from gconv._typing import Array

__all__ = ["BestWeights"]


class BestWeights:
    """The part of a Solver that keeps them apart."""

    model: Any
    best_params: dict[str, Array]
    best_buffers: dict[str, Array]

    def _forget_last(self) -> None:
        """Begin anew, with neither."""
        self.best_params, self.best_buffers = {}, {}
        self._last: dict[str, Array] = {}
        self._last_buffers: dict[str, Array] = {}
        self._installed: dict[str, Array] = {}

    def _keep_best(self) -> None:
        """Copy what the model has now."""
        self.best_params = {name: w.copy() for name, w in self.model.params.items()}
        self.best_buffers = {name: a.copy() for name, a in getattr(self.model, "buffers", {}).items()}

    def _install_best(self) -> None:
        """Put the best parameters into the model and remember the last ones, to go on from."""
        if self.best_params and not self._last:
            self._last = dict(self.model.params)
            self._last_buffers = dict(getattr(self.model, "buffers", {}))
            self.model.params.update({name: w.copy() for name, w in self.best_params.items()})
            if self.best_buffers:
                self.model.buffers = dict(self.best_buffers)
            self._installed = dict(self.model.params)

    def last_state(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return the parameters and buffers that training goes on from.

        After a training they are not the ones in the model, which are the best, unless others were put there since.
        """
        unchanged = all(self.model.params[name] is w for name, w in self._installed.items())
        if self._last and unchanged:
            return self._last, self._last_buffers
        return dict(self.model.params), dict(getattr(self.model, "buffers", {}))

    def _reinstall_last(self) -> None:
        """Take the last parameters up again, unless others were put into the model since."""
        params, buffers = self.last_state()
        self.model.params.update(params)
        if buffers:
            self.model.buffers = buffers
        self._last, self._installed = {}, {}
