"""A training run as one HTML page that needs no server, no network and no other file."""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gconv.files import write_atomically

__all__ = ["Report"]

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5b6875; --line: #d9dfe5; --page: #f5f7f9; --card: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6ebf0; --soft: #9aa7b4; --line: #37424d; --page: #161b20; --card: #20272e; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; }
.facts { display: flex; flex-wrap: wrap; gap: .8rem; margin: 0; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1rem; }
.facts dt { color: var(--soft); font-size: .85rem; }
.facts dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
figure { margin: 0; background: #fff; border: 1px solid var(--line); border-radius: .5rem; padding: .6rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.pair { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; background: var(--card); font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .8rem; border: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 600; }
td.text { text-align: left; overflow-wrap: anywhere; }
"""


@dataclass
class Report:
    """What the page says, in this order; an empty part is left out.

    Parameters
    ----------
    title : str
    facts : dict of str to str
        The few figures that count, shown large.
    pictures : list of (str, list of path)
        A heading, and the PNG files below it, which become part of the page.
    tables : list of (str, list of str, list of sequences)
        A heading, the names of the columns, and the rows; numbers are rounded to four digits.
    settings : list of (str, dict)
        A heading, and names and values.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    pictures: Sequence[tuple[str, Sequence[Path]]] = ()
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[Any]]]] = ()
    settings: Sequence[tuple[str, Mapping[str, Any]]] = ()

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to ``path``, whole or not at all, and return the path.

        Raises
        ------
        FileNotFoundError
            If a picture is missing.
        """
        write_atomically(path, self.text().encode())
        return Path(path)

    def text(self) -> str:
        """Return the page."""
        parts = [f"<h1>{html.escape(self.title)}</h1>"]
        if self.facts:
            facts = "".join(
                f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
                for name, value in self.facts.items()
            )
            parts.append(f'<dl class="facts">{facts}</dl>')
        for heading, paths in self.pictures:
            figures = "".join(_figure(heading, Path(path)) for path in paths)
            parts.append(f'<h2>{html.escape(heading)}</h2><div class="pair">{figures}</div>')
        for heading, columns, rows in self.tables:
            head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
            body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
            parts.append(_table(heading, f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"))
        for heading, values in self.settings:
            body = "".join(
                f'<tr><th scope="row">{html.escape(str(name))}</th><td class="text">{_cell(value)}</td></tr>'
                for name, value in values.items()
            )
            parts.append(_table(heading, f"<tbody>{body}</tbody>"))
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
            + "\n".join(parts)
            + "\n</main></body></html>\n"
        )


def _figure(heading: str, path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(f"{heading}: {path.stem}")
    return f'<figure><img alt="{name}" src="data:image/png;base64,{content}"></figure>'


def _table(heading: str, content: str) -> str:
    return f'<h2>{html.escape(heading)}</h2><div class="scroll"><table>{content}</table></div>'


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return html.escape("-" if value is None else str(value))
