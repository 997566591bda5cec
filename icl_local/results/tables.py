"""Rows as a table, and a table as csv, json, markdown or LaTeX (booktabs).

A table's texts may come from a model or a stranger's file: control and bidirectional characters are shown as
\\uXXXX, csv fields that a spreadsheet would run as a formula get a leading apostrophe, LaTeX and markdown are escaped.
csv and json keep numbers unchanged; markdown and LaTeX round them as the paper does.
"""

from __future__ import annotations

import csv
import html
import importlib
import io
import itertools
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from icl_local.exceptions import needs_extra
from icl_local.store import Row, Rows
from icl_local.wording import counted, is_formula

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Cell = tuple[int, int]

APART = ("dataset", "quantization", "settings_id")  # of cells with the same model, method, language and DPO
_ROWS_SHOWN = 50  # by repr and in a notebook
_HARMLESS = {"\n", "\t"}
_HOSTILE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # after a line break, [ and * would be read as its arguments
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "§": r"\S{}",
    "†": r"\textdagger{}",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "\n": " ",
    "\t": " ",
}


@dataclass(frozen=True, repr=False)
class Table:
    """Rows with named columns; ``bold`` and ``marks`` are keyed by (row, column) index and never change a value.

    ``groups`` are the rows before which a line is drawn; ``notes`` go under the table; ``types`` are DuckDB types of
    the columns of a query. A notebook shows it as HTML, and ``str`` is aligned text.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    notes: tuple[str, ...] = ()
    bold: frozenset[Cell] = frozenset()
    marks: Mapping[Cell, str] = field(default_factory=dict)
    groups: frozenset[int] = frozenset()
    types: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Rows, title: str = "", **more: Any) -> Table:
        """Return the result of a query as a table, with ``more`` fields."""
        return cls(title, tuple(found.columns), found.rows, types=tuple(found.types), **more)

    def __len__(self) -> int:
        return len(self.rows)

    def dicts(self) -> list[Row]:
        """Return the rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def df(self) -> pandas.DataFrame:
        """Return a pandas data frame. Raises MissingExtra."""
        return _package("pandas").DataFrame(self.rows, columns=list(self.columns))

    def pl(self) -> polars.DataFrame:
        """Return a polars data frame. Raises MissingExtra."""
        return _package("polars").DataFrame(
            self.rows, schema=list(self.columns), orient="row", infer_schema_length=None
        )

    def arrow(self) -> pyarrow.Table:
        """Return an Arrow table. Raises MissingExtra."""
        columns = [list(column) for column in zip(*self.rows, strict=True)] or [[] for _ in self.columns]
        return _package("pyarrow").table(columns, names=list(self.columns))

    def __repr__(self) -> str:
        texts = [self.columns, *self._shown_rows()]
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        right = numeric_columns(self)
        lines = [
            "  ".join(
                text.rjust(width) if at_right else text.ljust(width)
                for text, width, at_right in zip(row, widths, right, strict=True)
            ).rstrip()
            for row in texts
        ]
        return "\n".join([*([self.title] if self.title else []), *lines, *self._shown_notes()])

    def _repr_html_(self) -> str:
        parts = [f"<table><caption>{html.escape(inert(self.title))}</caption>", "<tr>"]
        parts += [f"<th>{html.escape(inert(name))}</th>" for name in self.columns]
        for y, row in enumerate(self._shown_rows()):
            parts.append("</tr><tr>")
            tags = ["b" if (y, x) in self.bold else "span" for x in range(len(row))]
            parts += [f"<td><{tag}>{html.escape(text)}</{tag}></td>" for tag, text in zip(tags, row, strict=True)]
        return "".join([*parts, "</tr></table>", *(f"<p>{html.escape(inert(n))}</p>" for n in self._shown_notes())])

    def _shown_rows(self) -> list[tuple[str, ...]]:
        """Return the first rows as one-line texts with their marks."""
        return [
            tuple(" ".join(shown(value).split()) + self.marks.get((y, x), "") for x, value in enumerate(row))
            for y, row in enumerate(self.rows[:_ROWS_SHOWN])
        ]

    def _shown_notes(self) -> list[str]:
        hidden = len(self.rows) - _ROWS_SHOWN
        return [*([f"({counted(hidden, 'more row')})"] if hidden > 0 else []), *self.notes]


def _package(name: str) -> Any:
    with needs_extra("frames"):
        return importlib.import_module(name)


def render(table: Table, output_format: str) -> str:
    """Return ``table`` as csv, json, markdown or latex, with a line break at the end."""
    return {"csv": _csv, "json": _json, "markdown": _markdown, "latex": _latex}[output_format](table)


def inert(text: str) -> str:
    """Return ``text`` with control, format, surrogate and separator characters as \\uXXXX, except line break, tab."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in _HARMLESS or unicodedata.category(c) not in _HOSTILE else f"\\u{ord(c):04x}" for c in text)


def shown(value: object) -> str:
    """Return ``value`` as text for readers: two decimals, small fractions in powers of ten, None as nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | Decimal):
        value = float(value)
        if not math.isfinite(value):
            return str(value)
        return f"{value:.1e}" if 0 < abs(value) < 0.005 else f"{value:.2f}"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value)
    return inert(as_text(value))


def is_number(value: object) -> bool:
    """Return True for right-aligned values: integers, floats and decimals, not booleans."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def as_text(value: object) -> str:
    """Return a value of a query as DuckDB reads it from text; an interval has no months, since Python's has none."""
    match value:
        case timedelta():
            return str(value).replace(",", "")
        case bytes():
            return "".join(f"\\x{byte:02X}" for byte in value)
    return str(value)


def numeric_columns(table: Table) -> list[bool]:
    """Return for each column whether all its values but None are numbers."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    found = ([value for value in column if value is not None] for column in columns)
    return [bool(values) and all(map(is_number, values)) for values in found]


def _csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_csv_field(name) for name in table.columns])
    writer.writerows([_csv_field(value) for value in row] for row in table.rows)
    return out.getvalue()


def _csv_field(value: object) -> object:
    if value is None or is_number(value):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | list | tuple | dict):
        return as_text(value)
    text = inert(value if isinstance(value, str) else json.dumps(_json_cell(value), default=_json_value))
    return "'" + text if is_formula(text) else text


def _json(table: Table) -> str:
    names: list[str] = []
    for name in table.columns:
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    records = [dict(zip(names, map(_json_cell, row), strict=True)) for row in table.rows]
    return json.dumps(records, default=_json_value, indent=1) + "\n"


def _json_cell(value: object) -> object:
    """Return ``value`` without the infinite and undefined numbers that JSON lacks, at any depth."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case list() | tuple():
            return [_json_cell(item) for item in value]
        case dict():
            return {str(name): _json_cell(item) for name, item in value.items()}
    return value


def _json_value(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else as_text(value)


def _markdown(table: Table) -> str:
    lines = [f"**{_markdown_text(table.title)}**", ""] if table.title else []
    lines.append("| " + " | ".join(map(_markdown_text, table.columns)) + " |")
    lines.append("|" + "|".join("---:" if right else "---" for right in numeric_columns(table)) + "|")
    for y, row in enumerate(table.rows):
        texts = []
        for x, value in enumerate(row):
            text = _markdown_text(shown(value)) + _markdown_text(table.marks.get((y, x), ""))
            texts.append(f"**{text}**" if (y, x) in table.bold and text else text)
        lines.append("| " + " | ".join(texts) + " |")
    lines += [line for note in table.notes for line in ("", _markdown_text(note))]
    return "\n".join(lines) + "\n"


def _markdown_text(text: str) -> str:
    out = "".join("\\" + c if c in "\\`*_[]<>|#~&" else c for c in inert(text))
    return out.replace("\t", " ").replace("\n", "<br>")


def latex_text(text: str) -> str:
    """Return ``text`` for a LaTeX body: special characters escaped, those unknown to pdflatex as code points."""
    escaped = "".join(_LATEX.get(c, c) for c in inert(text))
    return re.sub("[^\x00-\u017f]", lambda found: rf"\texttt{{U+{ord(found[0]):04X}}}", escaped)


def _latex(table: Table) -> str:
    align = "".join("r" if right else "l" for right in numeric_columns(table))
    lines = [r"% needs \usepackage[T1]{fontenc} and \usepackage{booktabs}", r"\begin{table}", r"\centering"]
    lines += [rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
    lines += [" & ".join(map(latex_text, table.columns)) + r" \\", r"\midrule"]
    for y, row in enumerate(table.rows):
        if y and y in table.groups:
            lines.append(r"\midrule")
        lines.append(" & ".join(_latex_cell(table, y, x, value) for x, value in enumerate(row)) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    title = re.sub(r"^Table \d+\. ", "", table.title)  # LaTeX writes the number
    caption = " ".join([f"{title}." if title else "", *table.notes]).strip()
    lines += [rf"\caption{{{latex_text(caption)}}}"] if caption else []
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _latex_cell(table: Table, y: int, x: int, value: object) -> str:
    text = latex_text(shown(value))
    if is_number(value) and text.startswith("-"):
        text = f"$-${text[1:]}"
    if (y, x) in table.bold:
        text = rf"\textbf{{{text}}}"
    mark = table.marks.get((y, x), "")
    return rf"{text}\textsuperscript{{{latex_text(mark)}}}" if mark else text


def changes(values: Iterable[object]) -> frozenset[int]:
    """Return the places at which a value differs from the one before it."""
    return frozenset(at for at, (one, other) in enumerate(itertools.pairwise(values), start=1) if one != other)


def table_of(
    title: str, columns: Sequence[str], rows: Sequence[Row], *, if_varying: Sequence[str] = (), **more: Any
) -> Table:
    """Return a table of some columns of ``rows``, with ``more`` fields of a Table.

    Before them come the columns of ``if_varying`` that have more than one value.
    """
    columns = (*(name for name in if_varying if len({row[name] for row in rows}) > 1), *columns)
    return Table(title, columns, [tuple(row[column] for column in columns) for row in rows], **more)


def with_interval(value: float, low: float | None, high: float | None, form: str) -> object:
    """Return a value and its interval as text; without an interval the value. Bounds have no plus sign."""
    bound = form.removeprefix("+")
    return value if low is None else f"{value:{form}} [{low:{bound}}, {high:{bound}}]"
