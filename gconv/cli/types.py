"""Kinds of values that options take; an error names the option, what it must be and what it was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

__all__ = ["Folder", "Number", "flag"]


def flag(name: str) -> str:
    """Return how an option is written, ``--learning-rate`` for ``learning_rate``."""
    return "--" + name.replace("_", "-")


def _named(param: click.Parameter | None) -> str:
    return "the value" if param is None or param.name is None else flag(param.name)


class Number(click.ParamType):
    """A finite number from 0 on, or above 0."""

    name = "number"

    def __init__(self, above: bool = False) -> None:
        self._above = above

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        """Return the number."""
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (ValueError, TypeError):
            number = math.nan
        if not (math.isfinite(number) and (number > 0 if self._above else number >= 0)):
            rule = "above 0" if self._above else "from 0 on"
            raise click.UsageError(f"{_named(param)} must be a finite number {rule}; got {value}", context)
        return number


class Folder(click.ParamType):
    """A folder, which need not be there."""

    name = "DIR"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Path:
        """Return the path."""
        if isinstance(value, Path):
            return value
        if not value or Path(value).is_file():
            what = f"the file {value}" if value else "an empty name"
            raise click.UsageError(f"{_named(param)} must be a folder; got {what}", context)
        return Path(value)
