"""Tables and messages, drawn with rich. Results go to stdout, everything else to stderr.

Model text may be hostile: every string from a model, a file or a database goes through ``plain`` before it reaches a
terminal, so that no escape sequence, link, markup or bidi override has an effect.
"""

from __future__ import annotations

import importlib.util
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

from rich.box import HORIZONTALS, SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.measure import Measurement, measure_renderables
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from icl_local.results import inert, tables

if TYPE_CHECKING:
    from icl_local.store import Rows

_UNLIMITED = 1_000_000
PIPE_WIDTH = 180  # characters of a table without a terminal and without COLUMNS


def escape(value: object) -> str:
    """Return ``value`` as text in which control, format, surrogate and separator characters are \\uXXXX."""
    return inert(value if isinstance(value, str) else str(value))


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


def print_rows(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, output_format: str = "text", title: str | None = None
) -> None:
    """Print rows as a rich table, csv, json, markdown or latex (the last four by icl_local.results.tables).

    Where the rich table is too wide, columns with one value in all rows are written in a line below it.
    """
    found = tables.Table(title or "", tuple(columns), [tuple(row) for row in rows])
    if output_format != "text":
        write(tables.render(found, output_format))
        return
    _print_fitting(_ways(found, _narrowed, _simple))
    if title:
        stdout().print()


def print_found(found: tables.Table | Rows, *, output_format: str = "text", title: str | None = None) -> None:
    """Print the rows of a table or of a query, as ``print_rows`` does."""
    print_rows(found.columns, found.rows, output_format=output_format, title=title)


def print_answer(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print the rows of a query as a table, or if that is too wide, row by row with a line for each column."""
    whole = _simple(tables.Table("", tuple(columns), [tuple(row) for row in rows]), shown=_as_sql)
    if _fits(whole):
        stdout().print(whole)
    elif rows:
        _print_records(whole)
    else:
        stdout().print(plain(f"-- no rows of {', '.join(columns)}", "dim"))


def print_tables(found: Iterable[tables.Table], output_format: str) -> None:
    """Print tables of icl_local.results one below the other, as ``print_table`` or in another format."""
    for place, one in enumerate(found):
        if output_format == "text":
            print_table(one)
        else:
            write("\n" * (place > 0) + tables.render(one, output_format))


def print_table(found: tables.Table) -> None:
    """Print a table of icl_local.results with its bold values, marks, lines between groups and notes.

    Where it is too wide, its settings are written below it. Without rows only the title and the notes are printed.
    """
    _print_fitting(_ways(found, _without_settings, _marked))
    stdout().print()


def _ways(
    found: tables.Table, narrowed: Callable[[tables.Table], tables.Table], drawn: Callable[..., Table]
) -> Iterator[tuple[tables.Table, Table]]:
    """Yield the table and its drawing, from the widest way to the narrowest."""
    yield found, drawn(found)
    found = narrowed(found)
    yield found, drawn(found)
    yield found, drawn(found, gap=0)


def _print_fitting(ways: Iterable[tuple[tables.Table, Table]]) -> None:
    """Print title, rows and notes in the first way whose rows need one line each.

    If there is none, the last way is folded between words, or if that is too wide too, printed row by row.
    """
    for way in ways:
        if _fits(way[1]):
            break
    found, drawn = way
    console = stdout()
    if found.title:
        console.print(plain(found.title, "bold"))
    if not _fold(drawn):
        _print_records(drawn)
    elif found.rows or not found.title:
        console.print(drawn)
    for note in found.notes:
        console.print(plain(note, "dim"))


def _simple(found: tables.Table, *, gap: int = 1, shown: Callable[[object], str] = tables.shown) -> Table:
    """Return a rich table of every value as ``shown`` writes it, escaped."""
    return _drawn(
        found, ([plain(shown(cell)) for cell in row] for row in found.rows), gap, box=SIMPLE_HEAD, show_edge=False
    )


def _marked(found: tables.Table, *, gap: int = 1) -> Table:
    """Return a rich table with bold values and marks; a mark has a place of its own, so that numbers are aligned."""
    places = {x for _, x in found.marks}
    cells = (
        [
            plain(tables.shown(cell), "bold" if (y, x) in found.bold else "")
            + plain(found.marks.get((y, x), " " if x in places else ""))
            for x, cell in enumerate(row)
        ]
        for y, row in enumerate(found.rows)
    )
    names = tuple(name.replace("_", " ") for name in found.columns)
    return _drawn(
        replace(found, columns=names), cells, gap, box=HORIZONTALS if gap else SIMPLE_HEAD, show_edge=bool(gap)
    )


def _drawn(found: tables.Table, cells: Iterable[Iterable[Text]], gap: int, **looks: Any) -> Table:
    """Return a rich table of ``cells`` with the columns and groups of ``found``: numbers to the right.

    Between columns are one space and ``gap`` more.
    """
    result = Table(header_style="bold", padding=(0, gap, 0, 0), pad_edge=False, **looks)
    for name, right in zip(found.columns, tables.numeric_columns(found), strict=True):
        header = Text(escape(name), overflow="ellipsis")
        result.add_column(header, justify="right" if right else "left", overflow="fold")
    for y, row in enumerate(cells):
        if y in found.groups:
            result.add_section()
        result.add_row(*row)
    return result


def _narrowed(found: tables.Table) -> tables.Table:
    """Return the table without columns of one value, as many as it takes to fit the terminal; a note has these values.

    The last of these columns go first; the first column of the table stays.
    """
    kept = list(range(len(found.columns)))
    narrow, alike, fits = found, list[str](), not found.rows or _fits(_simple(found))
    for place in reversed(kept[1:]):
        if fits:
            break
        values = {tables.shown(row[place]) for row in found.rows}
        if len(values) == 1:
            kept.remove(place)
            alike.insert(0, f"{found.columns[place]} {values.pop() or 'none'}")
            narrow = replace(
                found,
                columns=tuple(found.columns[x] for x in kept),
                rows=[tuple(row[x] for x in kept) for row in found.rows],
                notes=(f"all rows: {', '.join(alike)}",),
            )
            fits = _fits(_simple(narrow))
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
    """Set the widths of columns so that no word of a cell is cut; return whether they fit.

    What room is left goes to the words of the names of columns, then to whole cells, the first columns first.
    """
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
