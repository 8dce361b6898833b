"""The training loop and what it is made of."""

from __future__ import annotations

__all__: list[str] = []
