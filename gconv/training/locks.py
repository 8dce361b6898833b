"""One training at a time of each name."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from gconv.files import locked

__all__ = ["alone"]


def alone(name: str | None) -> AbstractContextManager[None]:
    """Keep every other training of a ``checkpoint_name`` away, in this process and others; None needs no lock."""
    if name is None:
        return nullcontext()
    stem = Path(name)
    return locked(
        stem.parent / f".{stem.name}.lock", f"Solver: checkpoint_name {name!r} must have one training at a time"
    )
