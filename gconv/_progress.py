"""A progress bar where a person watches, and plain lines where nobody does."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

__all__ = ["Progress"]


def _watched() -> bool:
    """Whether stderr is a terminal, or the process a notebook's kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return sys.stderr.isatty() or type(shell).__name__ == "ZMQInteractiveShell"


class Progress:
    """A tqdm bar over iterations, or nothing: ``wanted`` is ignored where the output goes to a file."""

    def __init__(self, wanted: bool, start: int, total: int, unit: str = "it") -> None:
        self.position = start
        self._bar: Any = None
        if wanted and _watched():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=start, unit=unit, dynamic_ncols=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def print(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._bar is None:
            print(text)
        else:
            self._bar.write(text)

    def advance(self, iteration: int, loss_history: list[float], val_acc_history: list[float]) -> None:
        """Move the bar to ``iteration``, with the latest loss there is."""
        self.position = iteration
        if self._bar is None:
            return
        accuracy = f", val acc {val_acc_history[-1]:.3f}" if val_acc_history else ""
        loss = f"loss {loss_history[-1]:.3f}" if loss_history else ""
        self._bar.set_postfix_str(f"{loss}{accuracy}", refresh=False)
        self._bar.update(iteration - self._bar.n)
