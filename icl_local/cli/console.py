"""The only importer of rich: tables, progress and messages. Results go to stdout, everything else to stderr.

Model text is hostile until shown otherwise: every string from a model, a file or a database goes through
``plain`` before it reaches a terminal, so no escape sequence, link, markup or bidi override is ever acted on.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_HARMLESS = {"\n", "\t"}
_HOSTILE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def escape(value: object) -> str:
    """``value`` as text in which control, format, surrogate and separator characters are shown as \\uXXXX."""
    text = value if isinstance(value, str) else str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in _HARMLESS or unicodedata.category(c) not in _HOSTILE else f"\\u{ord(c):04x}" for c in text
    )


def plain(value: object, style: str = "") -> Text:
    """Text that a terminal shows and never obeys."""
    return Text(escape(value), style=style)


def stdout() -> Console:
    """Console for results."""
    return Console(soft_wrap=False, highlight=False)


def stderr() -> Console:
    """Console for progress and messages."""
    return Console(stderr=True, highlight=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> Table:
    """A rich table; numbers to the right, None as an empty cell, every cell escaped."""
    body = [list(row) for row in rows]
    result = Table(title=plain(title) if title else None, title_justify="left", header_style="bold", pad_edge=False)
    for index, name in enumerate(columns):
        cells = [row[index] for row in body if row[index] is not None]
        numeric = bool(cells) and all(isinstance(c, int | float) and not isinstance(c, bool) for c in cells)
        result.add_column(plain(name), justify="right" if numeric else "left", overflow="fold")
    for row in body:
        result.add_row(*("" if cell is None else plain(_shown(cell)) for cell in row))
    return result


def _shown(cell: object) -> object:
    return f"{cell:.2f}" if isinstance(cell, float) else cell


def print_rows(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, output_format: str = "text", title: str | None = None
) -> None:
    """Rows to stdout as a rich table, csv, json, markdown or latex (the last four by icl_local.tables)."""
    if output_format == "text":
        stdout().print(table(columns, rows, title=title))
        return
    from icl_local.tables import Table as PlainTable
    from icl_local.tables import render

    stdout().out(render(PlainTable(title or "", tuple(columns), [tuple(row) for row in rows]), output_format), end="")


def say(message: str, *, style: str = "") -> None:
    """One message to stderr, escaped."""
    stderr().print(plain(message, style))
