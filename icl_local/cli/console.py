"""Tables and messages, drawn with rich. Results go to stdout, everything else to stderr.

Model text may be hostile: every string from a model, a file or a database goes through ``plain`` before it reaches a
terminal, so that no escape sequence, link, markup or bidi override has an effect.
"""

from __future__ import annotations

import importlib.util
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from stat import S_ISREG

from rich.box import HORIZONTALS, SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.measure import Measurement, measure_renderables
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from icl_local.cli.options import asked_format
from icl_local.results import inert, tables
from icl_local.store import Rows

_UNLIMITED = 1_000_000
PIPE_WIDTH = 180  # characters of a table without a terminal and without COLUMNS


def escape(value: object) -> str:
    """Return ``value`` as text in which control, format, surrogate and separator characters are \\uXXXX."""
    return inert(str(value))


def plain(value: object, style: str = "") -> Text:
    """Return text that shows its characters on a terminal and has no other effect there."""
    return Text(escape(value), style=style)


def stdout() -> Console:
    """Return the console for results, as wide as COLUMNS or a terminal says; a file is wide, so that it is not folded.

    A pipe from a terminal often ends in a pager on it, so any standard stream that is a terminal gives the width.
    """
    return Console(soft_wrap=False, highlight=False, width=_width())


def _width() -> int:
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    with suppress(OSError, ValueError):  # a stream without a descriptor, or a terminal without a size
        if not S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
            for stream in (sys.stdout, sys.stderr, sys.stdin):
                if stream is not None and stream.isatty():
                    return os.get_terminal_size(stream.fileno()).columns or PIPE_WIDTH
    return PIPE_WIDTH


def write(text: str) -> None:
    """Write data to stdout, in UTF-8 where it is not a terminal."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(text)


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


def as_text() -> bool:
    """Return whether the running command prints tables for people, as it does without --format."""
    return asked_format() == "text"


def whole() -> bool:
    """Return whether the running command prints for programs, which get every column, unrounded."""
    return asked_format() in ("csv", "json")


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print rows in the command's --format; formats other than text by icl_local.results.tables.

    Where the rich table is too wide, columns with one value in all rows are written in a line below it.
    """
    found = tables.Table(title, tuple(columns), [tuple(row) for row in rows])
    if not as_text():
        write(tables.render(found, asked_format()))
        return
    _print_fitting(found)
    if title:
        stdout().print()


def print_found(found: tables.Table | Rows, title: str = "") -> None:
    """Print the rows of a table or of a query as ``print_rows`` does, and the notes of a table as messages."""
    table = found if isinstance(found, tables.Table) else tables.Table.of(found)
    print_rows(table.columns, table.rows, title or table.title)
    for note in table.notes:
        say(note)


def print_answer(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print the rows of a query; a text table that is too wide row by row with a line for each column."""
    if not as_text():
        print_rows(columns, rows)
        return
    drawn = _drawn(tables.Table("", tuple(columns), [tuple(row) for row in rows]), shown=_as_sql)
    if _fits(drawn):
        stdout().print(drawn)
    elif rows:
        _print_records(drawn)
    else:
        stdout().print(plain(f"-- no rows of {', '.join(columns)}", "dim"))


def print_tables(found: Iterable[tables.Table]) -> None:
    """Print tables one below the other, with their bold values, marks, lines between groups and notes.

    Where a text table is too wide, its settings are written below it; without rows it is only its title and notes.
    """
    for place, one in enumerate(found):
        if as_text():
            _print_fitting(one, framed=True)
            stdout().print()
        else:
            write("\n" * (place > 0) + tables.render(one, asked_format()))


def _print_fitting(found: tables.Table, *, framed: bool = False) -> None:
    """Print title, rows and notes in the widest way with a line for each row, else folded, else row by row."""
    drawn = _drawn(found, framed=framed)
    if not _fits(drawn):
        found = _without_settings(found) if framed else _narrowed(found)
        drawn = _drawn(found, framed=framed)
    if not _fits(drawn):
        drawn = _drawn(found, gap=0, framed=framed)
    console = stdout()
    if found.title:
        console.print(plain(found.title, "bold"))
    if not _fold(drawn):
        _print_records(drawn)
    elif found.rows or not found.title:
        console.print(drawn)
    for note in found.notes:
        console.print(plain(note, "dim"))


def _drawn(
    found: tables.Table, *, gap: int = 1, framed: bool = False, shown: Callable[[object], str] = tables.shown
) -> Table:
    """Return a rich table, escaped; ``framed``: names without underscores, and with a ``gap`` lines at its edges."""
    edge = framed and gap > 0
    box = HORIZONTALS if edge else SIMPLE_HEAD
    result = Table(header_style="bold", padding=(0, gap, 0, 0), pad_edge=False, box=box, show_edge=edge)
    for name, right in zip(found.columns, tables.numeric_columns(found), strict=True):
        header = Text(escape(name.replace("_", " ") if framed else name), overflow="ellipsis")
        result.add_column(header, justify="right" if right else "left", overflow="fold")
    marked = {x for _, x in found.marks}  # a mark has a place of its own, so that numbers are aligned
    for y, row in enumerate(found.rows):
        if y in found.groups:
            result.add_section()
        texts = [plain(shown(cell), "bold" if (y, x) in found.bold else "") for x, cell in enumerate(row)]
        marks = [plain(found.marks.get((y, x), " " if x in marked else "")) for x in range(len(row))]
        result.add_row(*(text + mark for text, mark in zip(texts, marks, strict=True)))
    return result


def _narrowed(found: tables.Table) -> tables.Table:
    """Return a table that is too wide with columns of one value in a note, the last ones first, until it fits."""
    narrow, alike = found, list[str]()
    for x in reversed(range(1, len(found.columns))):
        values = {tables.shown(row[x]) for row in found.rows}
        if len(values) == 1:
            alike.insert(0, f"{found.columns[x]} {values.pop() or 'none'}")
            narrow = replace(
                narrow,
                columns=(*narrow.columns[:x], *narrow.columns[x + 1 :]),
                rows=[(*row[:x], *row[x + 1 :]) for row in narrow.rows],
                notes=(f"all rows: {', '.join(alike)}",),
            )
            if _fits(_drawn(narrow)):
                break
    return narrow


def _without_settings(found: tables.Table) -> tables.Table:
    """Return the table with short names in the column of settings, if it has one; notes have the settings."""
    if "settings" not in found.columns:
        return found
    x = found.columns.index("settings")
    names = {value: f"s{n}" for n, value in enumerate(dict.fromkeys(row[x] for row in found.rows), 1)}
    return replace(
        found,
        rows=[(*row[:x], names[row[x]], *row[x + 1 :]) for row in found.rows],
        notes=(*(f"Settings {name}: {value}." for value, name in names.items()), *found.notes),
    )


def _fits(drawn: Table) -> bool:
    """Return whether no cell of the table needs a second line."""
    return _measured(drawn).maximum <= stdout().width


def _fold(drawn: Table) -> bool:
    """Set widths with which no word of a cell is cut; return whether they fit. Spare room goes to names, then cells."""
    whole = [_measured(column.header, *column.cells) for column in drawn.columns]
    widths = [_measured(*column.cells).minimum for column in drawn.columns]
    between = _measured(drawn).maximum - sum(one.maximum for one in whole)
    spare = stdout().width - between - sum(widths)
    for wanted in ([one.minimum for one in whole], [one.maximum for one in whole]):
        for x, width in enumerate(wanted):
            more = max(0, min(spare, width - widths[x]))
            widths[x] += more
            spare -= more
    for column, width in zip(drawn.columns, widths, strict=True):
        column.width = width
    return spare >= 0


def _measured(*drawn: RenderableType) -> Measurement:
    console = stdout()
    return measure_renderables(console, console.options.update_width(_UNLIMITED), drawn)


def _print_records(drawn: Table) -> None:
    """Print the rows of a table one by one, with a line for each column."""
    records = list(zip(*(column.cells for column in drawn.columns), strict=True))
    for number, cells in enumerate(records, 1):
        record = Table.grid(padding=(0, 2, 0, 0))
        record.add_column(style="bold")
        record.add_column(overflow="fold")
        for column, cell in zip(drawn.columns, cells, strict=True):
            record.add_row(column.header, cell)
        stdout().print(plain(f"-- {number} of {len(records)}", "dim"), record, sep="\n")


def print_lines(head: str, text: str) -> None:
    """Print a head and below it one line of text, cut at the right edge."""
    console = stdout()
    console.print(plain(head, "bold"))
    console.print(plain(f"    {text}"), no_wrap=True, overflow="ellipsis")


def say(message: str, *, style: str = "", fold: bool = False) -> None:
    """Print one message on stderr, escaped; ``fold`` breaks its lines between words, else a terminal breaks them."""
    stderr().print(plain(message, style), soft_wrap=not fold)


def print_panels(panels: Sequence[tuple[str, str, str]], *, least_width: int = 44) -> None:
    """Print each (title, text, subtitle) in a frame, as many side by side as fit."""
    console = stdout()
    a_row = max(1, min(len(panels), console.width // least_width))
    width = console.width // a_row - (a_row > 1)
    console.print(Columns([_framed(*one, width=width) for one in panels], padding=(0, 1)))


def _framed(title: str, text: str, subtitle: str, *, width: int) -> Panel:
    """Return a panel; a title or subtitle that its border would cut is a line inside."""
    room = width - len("╭─  ─╮")
    above, below = (plain(one) for one in (title, subtitle))
    inside = [*([above] if above.cell_len > room else []), plain(text), *([below] if below.cell_len > room else [])]
    return Panel(
        Text("\n").join(inside),
        title=above if above.cell_len <= room else None,
        title_align="left",
        subtitle=below if below.cell_len <= room else None,
        width=width,
    )
