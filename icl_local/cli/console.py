"""Tables and messages, drawn with rich. Results go to stdout, everything else to stderr.

Model text may be hostile: every string from a model, a file or a database goes through ``plain`` before it reaches a
terminal, so that no escape sequence, link, markup or bidi override has an effect.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from rich.box import HORIZONTALS, SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console, OverflowMethod
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from icl_local.results import inert, tables

_UNLIMITED = 1_000_000
PIPE_WIDTH = 180  # characters of a table without a terminal


def escape(value: object) -> str:
    """Return ``value`` as text in which control, format, surrogate and separator characters are \\uXXXX."""
    return inert(value if isinstance(value, str) else str(value))


def plain(value: object, style: str = "") -> Text:
    """Return text that shows its characters on a terminal and has no other effect there."""
    return Text(escape(value), style=style)


def stdout() -> Console:
    """Return the console for results; wide without a terminal, so that a table in a file or a pipe is not folded."""
    return Console(soft_wrap=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


@cache
def stderr() -> Console:
    """Return the one console for progress and messages: it prints messages above the bars that it draws."""
    return Console(stderr=True, highlight=False)


def interactive() -> bool:
    """Return whether bars can be drawn: stderr is a terminal, or a notebook that has ipywidgets."""
    if stderr().is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return sys.stderr.isatty()


def _as_sql(cell: object) -> str:
    match cell:
        case None:
            return "NULL"
        case bool():
            return str(cell).lower()
        case float():
            return f"{cell:.6g}" if abs(cell) < 1e6 else f"{cell:.15g}"
        case list():
            return f"[{', '.join(map(_as_sql, cell))}]"
        case dict():
            return f"{{{', '.join(f'{name}: {_as_sql(value)}' for name, value in cell.items())}}}"
    return str(cell)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    shown: Callable[[object], str] = tables.shown,
) -> Table:
    """Return a rich table: numbers to the right, every value as ``shown`` writes it, escaped."""
    found = tables.Table(title or "", tuple(columns), [tuple(row) for row in rows])
    cells = ([plain(shown(cell)) for cell in row] for row in found.rows)
    return _drawn(found, cells, "fold", box=SIMPLE_HEAD, show_edge=False)


def _drawn(found: tables.Table, cells: Iterable[Iterable[Text]], overflow: OverflowMethod, **looks: Any) -> Table:
    """Return a rich table of ``cells`` with the title, columns and groups of ``found``."""
    title = plain(found.title, "bold") if found.title else None
    result = Table(
        title=title, title_justify="left", header_style="bold", padding=(0, 1, 0, 0), pad_edge=False, **looks
    )
    for name, right in zip(found.columns, tables.numeric_columns(found), strict=True):
        result.add_column(plain(name), justify="right" if right else "left", overflow=overflow)
    for y, row in enumerate(cells):
        if y in found.groups:
            result.add_section()
        result.add_row(*row)
    return result


def print_rows(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, output_format: str = "text", title: str | None = None
) -> None:
    """Print rows as a rich table, csv, json, markdown or latex (the last four by icl_local.results.tables).

    Where the rich table is too wide, columns with one value in all rows are written in a line below it.
    """
    if output_format == "text":
        names, cells, alike = _narrowed(columns, rows)
        stdout().print(table(names, cells, title=title))
        if alike:
            stdout().print(plain(f"all rows: {', '.join(alike)}", "dim"))
        if title:
            stdout().print()
        return
    found = tables.Table(title or "", tuple(columns), [tuple(row) for row in rows])
    stdout().out(tables.render(found, output_format), end="")


def _narrowed(
    columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> tuple[list[str], list[list[object]], list[str]]:
    """Return columns and rows without columns of one value, as many as it takes to fit the terminal, and these values.

    The last of these columns go first; the first column of the table stays.
    """
    kept = list(range(len(columns)))
    alike: list[str] = []
    for place in reversed(kept[1:]):
        if not rows or _fits(table([columns[x] for x in kept], [[row[x] for x in kept] for row in rows])):
            break
        values = {tables.shown(row[place]) for row in rows}
        if len(values) == 1:
            kept.remove(place)
            alike.insert(0, f"{columns[place]} {values.pop() or 'none'}")
    return [columns[x] for x in kept], [[row[x] for x in kept] for row in rows], alike


def _fits(whole: Table) -> bool:
    """Return whether no cell of the table needs a second line."""
    console = stdout()
    return Measurement.get(console, console.options.update_width(_UNLIMITED), whole).maximum <= console.width


def print_answer(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print the rows of a query as a table, or if that is too wide, row by row with a line for each column."""
    console = stdout()
    whole = table(columns, rows, shown=_as_sql)
    if _fits(whole):
        console.print(whole)
        return
    if not rows:
        console.print(plain(f"-- no rows of {', '.join(columns)}", "dim"))
    for number, row in enumerate(rows, 1):
        record = Table.grid(padding=(0, 2, 0, 0))
        record.add_column(style="bold")
        record.add_column(overflow="fold")
        for name, cell in zip(columns, row, strict=True):
            record.add_row(plain(name), plain(_as_sql(cell)))
        console.print(plain(f"-- {number} of {len(rows)}", "dim"), record, sep="\n")


def print_tables(found: Iterable[tables.Table], output_format: str) -> None:
    """Print tables of icl_local.results one below the other, as ``print_table`` or in another format."""
    for place, one in enumerate(found):
        if output_format == "text":
            print_table(one)
        else:
            stdout().out("\n" * (place > 0) + tables.render(one, output_format), end="")


def print_table(found: tables.Table) -> None:
    """Print a table of icl_local.results with its bold values, marks, lines between groups and notes."""
    # a mark has a place of its own, so that the numbers are aligned
    places = {x for _, x in found.marks}
    cells = [
        [
            plain(tables.shown(cell), "bold" if (y, x) in found.bold else "")
            + plain(found.marks.get((y, x), " " if x in places else ""))
            for x, cell in enumerate(row)
        ]
        for y, row in enumerate(found.rows)
    ]
    names = tuple(name.replace("_", " ") for name in found.columns)
    console = stdout()
    console.print(_drawn(replace(found, columns=names), cells, "ellipsis", box=HORIZONTALS))
    for note in found.notes:
        console.print(plain(note, "dim"))
    console.print()


def say(message: str, *, style: str = "") -> None:
    """Print one message on stderr, escaped."""
    stderr().print(plain(message, style), soft_wrap=True)


def print_panels(panels: Sequence[tuple[str, str, str]], *, least_width: int = 44) -> None:
    """Print each (title, text, subtitle) in a frame, as many side by side as fit."""
    console = stdout()
    a_row = max(1, min(len(panels), console.width // least_width))
    width = console.width // a_row - (a_row > 1)
    framed = [
        Panel(plain(text), title=plain(title), title_align="left", subtitle=plain(subtitle), width=width)
        for title, text, subtitle in panels
    ]
    console.print(Columns(framed, padding=(0, 1)))
