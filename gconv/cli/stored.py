"""What a run has written about itself, which may have been damaged since, and where a run is."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

__all__ = ["CONFIG", "SWEEP", "check_kind", "missing_run", "read_stored"]

CONFIG, SWEEP = "config.json", "sweep.json"
KINDS = {CONFIG: "training", SWEEP: "sweep"}


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
        missing = [key for key in keys if key not in found]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{path} is damaged: {error}") from error
    return found


def check_kind(out: Path, file: str) -> None:
    """Raise UsageError if ``out`` is the folder of another kind of run than the one that writes ``file``."""
    for other, kind in KINDS.items():
        if other != file and (out / other).exists():
            raise click.UsageError(f"--out must be a {KINDS[file]}'s folder; {out} is that of a {kind}")


def missing_run(out: Path, file: str) -> click.UsageError:
    """Return the error of ``--resume`` where no run is, with the names of those that are near."""
    here = sorted(path.parent for path in out.parent.glob(f"*/{file}"))
    near = difflib.get_close_matches(out.name, [path.name for path in here], cutoff=0.4)
    folders = [str(out.parent / name) for name in near] or [str(path) for path in here[:3]]
    hint = f"; near it: {', '.join(folders)}" if folders else ""
    there = "has none" if out.is_dir() else "is not there"
    return click.UsageError(f"--resume needs --out to be a {KINDS[file]}'s folder; {out} {there}{hint}")
