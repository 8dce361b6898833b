"""What came out of a training: metrics, pictures, the report, exported models."""

from __future__ import annotations

__all__: list[str] = []
