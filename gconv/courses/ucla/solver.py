"""gconv.solver, which knows Nesterov's momentum by this course's name."""

from __future__ import annotations

from typing import Any

from gconv import solver as _solver

__all__ = ["Solver"]


class Solver(_solver.Solver):
    """gconv's Solver; ``update_rule`` may be "sgd_nesterov_momentum" too, its nesterov_momentum."""

    def __init__(self, model: Any, data: Any = None, *, update_rule: str = "sgd", **options: Any) -> None:
        rule = "nesterov_momentum" if update_rule == "sgd_nesterov_momentum" else update_rule
        super().__init__(model, data, update_rule=rule, **options)
