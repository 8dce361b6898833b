"""Where a training stands, and what a transaction changes."""

from __future__ import annotations

from typing import Any, NamedTuple

from gconv._typing import Array
from gconv.training.draws import Drawn

__all__ = ["Change", "Configs", "Item", "Moment"]

Configs = dict[str, dict[str, Any]]
# What is still to be done after a step: an event and its callback, or one of the loop's own.
Item = tuple[str, str]


class Moment(NamedTuple):
    """Where a run stands.

    The dictionaries are its own; the arrays are the run's, and not written to while it can be returned to.
    """

    params: dict[str, Array]
    buffers: dict[str, Array] | None  # None where the model has none yet, perhaps no such attribute
    has_buffers: bool
    configs: Configs
    best: tuple[float, dict[str, Array], dict[str, Array]]
    position: tuple[int, int, int]  # iteration, epoch, the iteration at which the epoch began
    checks: int
    step_rate: float | None
    due: tuple[Item, ...]
    drawn: Drawn


class Change(NamedTuple):
    """What a step, a check or the end of an epoch changes; written twice it is as written once."""

    params: dict[str, Array]
    configs: Configs
    buffers: dict[str, Array] | None
    entries: dict[str, tuple[int, Any]]  # of a history: what stands at a place, its last one from then on
    fields: dict[str, Any]  # attributes of the run
