"""The training loop, under the course's name; gconv.training has its parts."""

from __future__ import annotations

from gconv.training.solver import Solver

__all__ = ["Solver"]
