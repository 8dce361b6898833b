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
    def owner(facade: Any) -> Any:
        found = getattr(facade, part)
        if found is None:
            raise AttributeError(f"{type(facade).__name__}: {name} is there when there are {part}; there are none yet")
        return found

    def read(facade: Any) -> Any:
        return getattr(owner(facade), name)

    def write(facade: Any, value: Any) -> None:
        setattr(owner(facade), name, value)

    return property(read, write, doc=f"The ``{name}`` of ``{part}``.")
