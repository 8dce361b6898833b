"""The archive that CIFAR-10 is published in: its batch files are taken out, and nothing else in it is followed."""

from __future__ import annotations

import gzip
import os
import tarfile
import tempfile
import zlib
from pathlib import Path

from gconv.files import write_atomically

__all__ = ["BATCHES", "FOLDER", "LARGEST_ARCHIVE", "TEST_BATCH", "is_complete", "unpack"]

FOLDER = "cifar-10-batches-py"
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCH = "test_batch"
FILES = (*BATCHES, TEST_BATCH, "batches.meta")

LARGEST_ARCHIVE = 256 << 20  # the real one has 170 MB
LARGEST_CONTENT = 256 << 20  # 186 MB
LARGEST_MEMBER = 64 << 20  # 31 MB


class _Limited:
    """Reads a stream up to LARGEST_CONTENT bytes: a small archive may hold terabytes of zeros."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream, self._left = stream, LARGEST_CONTENT

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes."""
        content = self._stream.read(min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(f"it must have at most {LARGEST_CONTENT} bytes when unpacked")
        return content


def is_complete(folder: Path) -> bool:
    """Return whether all batch files are there."""
    return all((folder / name).is_file() for name in (*BATCHES, TEST_BATCH))


def unpack(archive: str | os.PathLike[str], folder: Path) -> Path:
    """Write the expected regular files of the archive to FOLDER in ``folder``, once all of them have been found.

    Names, links, devices and modes in it are not followed.

    Raises
    ------
    ValueError
        If it is damaged, lacks a file, or is larger when unpacked than CIFAR-10 can be; nothing is left behind.
    OSError
        If the files can't be written.
    """
    target = folder / FOLDER
    with tempfile.TemporaryDirectory(prefix=f".{FOLDER}.", dir=folder) as place:
        try:
            _take_out(archive, Path(place))
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
            raise ValueError(f"download_cifar10: {archive} is damaged or not CIFAR-10: {error}") from error
        if not is_complete(Path(place)):
            raise ValueError(f"download_cifar10: {archive} must hold {', '.join((*BATCHES, TEST_BATCH))}")
        target.mkdir(exist_ok=True)
        for path in Path(place).iterdir():
            path.replace(target / path.name)
    return target


def _take_out(archive: str | os.PathLike[str], place: Path) -> None:
    with gzip.open(archive) as stream, tarfile.open(fileobj=_Limited(stream), mode="r|") as tar:  # type: ignore[call-overload]
        for member in tar:
            name = Path(member.name).name
            if not member.isreg() or name not in FILES or member.name != f"{FOLDER}/{name}":
                continue
            if member.size > LARGEST_MEMBER:
                raise ValueError(f"{member.name} must have at most {LARGEST_MEMBER} bytes; got {member.size}")
            content = tar.extractfile(member)
            if content is not None:
                write_atomically(place / name, content.read())
