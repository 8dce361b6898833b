"""One file format for checkpoints: safetensors, with a JSON description and a checksum in its metadata.

Nothing in such a file can run code. A file that is cut off or changed by a single bit is refused by name.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from gconv._typing import Array
from gconv.files.atomic import write_atomically

__all__ = [
    "CheckpointError",
    "checkpoint_path",
    "list_checkpoints",
    "load_checkpoint",
    "save_checkpoint",
]

FORMAT = 1
# Far above what a checkpoint needs, and little enough that no file makes a reader take much memory but for arrays.
LARGEST_HEADER = 16 << 20
LARGEST_DESCRIPTION = 1 << 20


class CheckpointError(ValueError):
    """The file is no checkpoint of gconv, or is damaged; the message names it."""


def checkpoint_path(name: str | os.PathLike[str], epoch: int) -> Path:
    """Return the file of one epoch, ``NAME_epoch_3.safetensors``."""
    return Path(f"{os.fspath(name)}_epoch_{epoch}.safetensors")


def list_checkpoints(name: str | os.PathLike[str]) -> list[Path]:
    """Return the checkpoint files of that name, the latest epoch first."""
    stem = Path(name)
    prefix, suffix = f"{stem.name}_epoch_", ".safetensors"
    found = []
    if stem.parent.is_dir():
        for path in stem.parent.iterdir():
            number = path.name[len(prefix) : -len(suffix)]
            named = path.name.startswith(prefix) and path.name.endswith(suffix) and number.isdecimal()
            if named and path.is_file():
                found.append((int(number), path))
    return [path for _, path in sorted(found, reverse=True)]


def save_checkpoint(path: str | os.PathLike[str], arrays: dict[str, Array], description: dict[str, Any]) -> None:
    """Write NumPy arrays and a JSON description to ``path``, whole or not at all.

    Parameters
    ----------
    path : path
    arrays : dict of str to numpy.ndarray
    description : dict
        What JSON can hold; floats keep every bit.

    Raises
    ------
    OSError
        If it can't be written; what stood at ``path`` is then still there.
    ValueError
        If the description has more than 2**20 characters as JSON, which no reader would take.
    """
    from safetensors.numpy import save

    text = json.dumps({"format": FORMAT, **description})
    if len(text) > LARGEST_DESCRIPTION:
        raise ValueError(
            f"save_checkpoint: description must have at most {LARGEST_DESCRIPTION} characters as JSON; got {len(text)}"
        )
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    metadata = {"gconv": text, "sha256": _digest(text, contiguous)}
    write_atomically(path, save(contiguous, metadata=metadata))


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read what save_checkpoint wrote.

    Returns
    -------
    arrays : dict of str to numpy.ndarray
    description : dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CheckpointError
        If it is no checkpoint, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"load_checkpoint: path must be a checkpoint file; there is none at {path}")
    try:
        with path.open("rb") as start:
            header = int.from_bytes(start.read(8), "little")
        if header > LARGEST_HEADER:
            raise ValueError(f"its header must have at most {LARGEST_HEADER} bytes; got {header}")
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- it is no dictionary
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"load_checkpoint: {path} is damaged or no checkpoint: {error}") from error
    text = metadata.get("gconv")
    if text is None:
        raise CheckpointError(f"load_checkpoint: {path} is a safetensors file, but no checkpoint of gconv")
    if metadata.get("sha256") != _digest(text, arrays):
        raise CheckpointError(f"load_checkpoint: {path} is damaged: its checksum does not match its content")
    try:
        if len(text) > LARGEST_DESCRIPTION:
            raise ValueError(f"it has {len(text)} characters, and may have {LARGEST_DESCRIPTION}")
        description = json.loads(text)
        if not isinstance(description, dict):
            raise ValueError(f"it must be a dictionary; got {type(description).__name__}")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"load_checkpoint: the description in {path} can't be read: {error}") from error
    if description.get("format") != FORMAT:
        raise CheckpointError(
            f"load_checkpoint: {path} must have format {FORMAT}, this version's; got {description.get('format')!r:.80}"
        )
    return arrays, description


def _digest(text: str, arrays: dict[str, Array]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
