"""Downloading a file from one mirror, which may stall, lie or never stop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

__all__ = ["fetch"]

SLOWEST = 10_000  # bytes a second, on average


def fetch(url: str, sha256: str, path: Path, most: int, timeout: float) -> Path:
    """Download ``url`` to ``path``, or take what stands there if it has the right checksum.

    Raises
    ------
    ValueError
        If what came has another checksum or more than ``most`` bytes, or a secure address leads to an insecure one.
    OSError
        For everything that can go wrong on the way; TimeoutError also where fewer than SLOWEST bytes come in a second.
    """
    import pooch

    watch = _Watch(most, timeout)
    downloader = pooch.HTTPDownloader(progressbar=watch, timeout=timeout, hooks={"response": _stay_secure})
    try:
        return Path(
            pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=path.name, path=path.parent, downloader=downloader)
        )
    finally:
        watch.close()


def _stay_secure(response: Any, **_: Any) -> None:
    """Refuse a redirection from https to another scheme."""
    if response.is_redirect:
        target = urljoin(response.url, response.headers["location"])
        if urlsplit(response.url).scheme == "https" != urlsplit(target).scheme:
            raise ValueError(f"it leads to {target}, which is not https")


class _Watch:
    """A progress bar, as pooch takes one, that ends a download which is too slow or too long."""

    total = 0

    def __init__(self, most: int, timeout: float) -> None:
        self._most, self._timeout = most, timeout
        self._received, self._started, self._bar = 0, 0.0, None  # type: int, float, Any

    def update(self, count: int) -> None:
        """Note that so many bytes more have come."""
        if self._bar is None:
            from tqdm import tqdm

            self._bar, self._started = tqdm(total=self.total, unit="B", unit_scale=True), time.monotonic()
        self._received += count
        seconds = time.monotonic() - self._started
        if self._received > self._most:
            raise ValueError(f"it must have at most {self._most} bytes, and goes on")
        if seconds > self._timeout and self._received < SLOWEST * seconds:
            raise TimeoutError(f"it sends fewer than {SLOWEST} bytes a second")
        self._bar.update(count)

    def reset(self) -> None:
        """Begin to count anew: pooch then reports the whole once more."""
        self._received = 0
        if self._bar is not None:
            self._bar.reset()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()
