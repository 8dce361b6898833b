"""Modules under a second name."""

from __future__ import annotations

import importlib
import sys

__all__ = ["COMMON", "same_modules"]

# What every root has as gconv has it.
COMMON = ("data_utils", "fast_layers", "gradient_check", "im2col", "vis_utils")


def same_modules(package: str, names: tuple[str, ...], source: str = "gconv") -> None:
    """Make modules of ``source`` those of ``package`` too: one module with two names, not a copy.

    The import system looks for ``package.name`` among the loaded modules once it has imported the package, whose
    ``__init__`` calls this.

    Parameters
    ----------
    package : str
        Under whose name they are to be found.
    names : tuple of str
        As ``"solver"``, relative to both.
    source : str
        Where they are.
    """
    for name in names:
        module = importlib.import_module(f"{source}.{name}")
        sys.modules[f"{package}.{name}"] = module
        setattr(sys.modules[package], name, module)
