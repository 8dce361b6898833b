"""Execute notebooks: ``python notebooks/run.py [--small] [--write] [NAMES]``.

A notebook that takes long has a cell tagged ``settings``, whose metadata hold the small ones that it is tested with.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import nbformat
from nbclient import NotebookClient

from gconv.files import write_atomically

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
# Of a cell's metadata these are kept: the times of execution would differ in every run.
KEPT = ("tags", "small")


def executed(name: str, small: bool, timeout: int = 1800) -> Any:
    """Return the notebook, executed in an empty folder.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    if small:
        for cell in notebook.cells:
            if "settings" in cell.metadata.get("tags", ()):
                cell.source += f"\n{cell.metadata['small']}"
    with tempfile.TemporaryDirectory() as folder:
        # The default theme of plots, and no progress bars of the person who runs it.
        os.environ["MPLCONFIGDIR"] = folder
        client = NotebookClient(notebook, timeout=timeout, resources={"metadata": {"path": folder}})
        client.execute()
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in KEPT if key in cell.metadata}
    return notebook


def printed(notebook: Any) -> str:
    """Return all that the cells printed."""
    return "".join(out.text for cell in notebook.cells for out in cell.get("outputs", ()) if out.output_type == "stream")


@click.command()
@click.option("--small", is_flag=True, help="With the settings of the tests.")
@click.option("--write", is_flag=True, help="Keep the outputs in the notebook.")
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
def main(small: bool, write: bool, names: tuple[str, ...]) -> None:
    """Execute the notebooks, all of them unless some are named, and say how long each took."""
    for name in names or NAMES:
        start = time.perf_counter()
        notebook = executed(name, small)
        click.echo(f"{name:24} {time.perf_counter() - start:6.1f} s")
        if write:
            write_atomically(FOLDER / f"{name}.ipynb", (nbformat.writes(notebook) + "\n").encode())


if __name__ == "__main__":
    main()
