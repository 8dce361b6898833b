"""Reading what a run has written about itself, which may have been damaged since."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

__all__ = ["read_stored"]


def read_stored(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """Return the JSON dictionary in ``path``, which must have ``keys``.

    Raises
    ------
    click.UsageError
        If it is none, or lacks a key; the message names the file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it must be a dictionary; got {type(found).__name__}")
        for key in keys:
            _ = found[key]
    except (ValueError, KeyError, RecursionError) as error:
        raise click.UsageError(f"{path} is damaged: {error!r}") from error
    return found
