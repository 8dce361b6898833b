"""A facade's attributes that are those of its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["forwards"]

Facade = TypeVar("Facade", bound=type)


def forwards(**parts: str) -> Callable[[Facade], Facade]:
    """Give a class properties that read and write attributes of ``self.<part>``, whose names are given with spaces."""

    def decorate(facade: Facade) -> Facade:
        for part, names in parts.items():
            for name in names.split():
                setattr(facade, name, _forwarded(part, name))
        return facade

    return decorate


def _forwarded(part: str, name: str) -> Any:
    def read(facade: Any) -> Any:
        return getattr(getattr(facade, part), name)

    def write(facade: Any, value: Any) -> None:
        setattr(getattr(facade, part), name, value)

    return property(read, write, doc=f"The ``{name}`` of ``{part}``.")
