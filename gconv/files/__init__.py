"""Files that are whole or not there, one writer at a time, and the format of the checkpoints."""

from __future__ import annotations

from gconv.files.atomic import remove_unfinished, warn_if_unwritten, write_atomically
from gconv.files.checkpoint_format import (
    CheckpointError,
    checkpoint_path,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from gconv.files.locks import locked

__all__ = [
    "CheckpointError",
    "checkpoint_path",
    "list_checkpoints",
    "load_checkpoint",
    "locked",
    "remove_unfinished",
    "save_checkpoint",
    "warn_if_unwritten",
    "write_atomically",
]
