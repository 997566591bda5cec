"""Tables that the paper does not print: metrics of rules, methods with parameters, its sentences, its slips."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from icl_local.results.tables import Cell, Table, changes, table_of, with_interval
from icl_local.store import Row
from icl_local.wording import counted

_OF_CELL = ("dataset", "language", "model", "dpo", "quantization", "settings_id", "judge", "template")
NOTES = {
    "methods": "mean, low, high: of the methods that have the value; difference: from the method without parameters, "
    "paired over n queries.",
    "variance": "sd: between levels of the factor, between queries, the rest. se_queries: error of the mean if other "
    "queries were drawn; se_all: if other levels were drawn too. A gain smaller than about twice se_all may be the "
    "choice of examples. share: of the factor, in percent of the variance.",
}


def sentences(title: str, rows: Sequence[Row], origin: str) -> Table:
    """Arrange the sentences of ``origin``: printed beside recomputed values."""
    chosen = [row for row in rows if row["origin"] == origin]
    for row in chosen:
        row["agrees"] = {True: "yes", False: "no", None: ""}[row["agrees"]]
        if row["n_cells"] < row["n_cells_published"] and row["value"] is not None:
            row["slip"] = f"{row['n_cells']} of {counted(row['n_cells_published'], 'cell')}"
        row["printed"] = row["claim"] if row["printed"] is None else row["printed"]
        row["value"] = with_interval(row["value"], row["ci_low"], row["ci_high"], ".2f")
    columns = ("section", "statement", "printed", "value", "agrees", "slip")
    lines = changes(row["section"] for row in chosen)
    cells = "the paper's own cells" if origin == "published" else "your rows"
    interval = "" if origin == "published" else ", with its 95 % interval (answers to one query are one observation)"
    note = f"value: recomputed from {cells}{interval}; 0.011 is allowed for rounding."
    return table_of(title, columns, chosen, notes=(note,), groups=lines)


def parameters(title: str, columns: Sequence[str], rows: Sequence[Row], note: str) -> Table:
    """Arrange rows on methods with parameters; columns that name a cell are left out if they have one value."""
    none = "No rows yet: icl run --method 'urial[k=0..2]', then a judge."
    others = [name for name in columns if name not in _OF_CELL]
    return table_of(title, others, rows, if_varying=_OF_CELL, notes=(note if rows else none,))


def metrics(title: str, rows: Sequence[Row]) -> Table:
    """Arrange a line per cell and judge, a column per metric; * where the rate differs from zero-shot's."""
    keys = ("dataset", "language", "model", "method", "dpo", "quantization", "setup", "judge")
    columns = [key for key in keys if key in ("model", "method") or len({row[key] for row in rows}) > 1]
    names = sorted({row["metric"] for row in rows})
    body: list[tuple[object, ...]] = []
    marks: dict[Cell, str] = {}
    for y, (_, line) in enumerate(groupby(rows, itemgetter("cell_id", "judge_id", "template_sha256"))):
        found = {row["metric"]: row for row in line}
        means = (found[name]["mean"] if name in found else None for name in names)
        *_, last = found.values()
        body.append((*(last[key] for key in columns), *means, max(row["n"] for row in found.values())))
        marks |= {(y, len(columns) + names.index(name)): "*" for name, row in found.items() if row["differs"]}
    notes = ["A mean is over the queries that have the metric's input; n: the largest number of them."] if rows else []
    if marks:
        notes.append("*: differs from zero-shot (McNemar's exact test, Holm-corrected, p < 0.05).")
    notes += [] if rows else ["No rows yet: icl judge --judge rules."]
    return Table(title, (*columns, *names, "n"), body, notes=tuple(notes), marks=marks)
