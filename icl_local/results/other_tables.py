"""Tables that the paper does not print: metrics of rules, methods with parameters, its sentences, its slips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from icl_local.results.tables import Row, Table, changes, table_of, with_interval
from icl_local.wording import counted


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


def method_effects(title: str, rows: Sequence[Row]) -> Table:
    """Arrange a line per value of a parameter and metric: mean, lowest and highest method, difference from the base."""
    for row in rows:
        row["95 %"] = "" if row["ci_low"] is None else f"{row['ci_low']:.2f} to {row['ci_high']:.2f}"
        row["methods"], row["method"] = row["n_variants"], row["base_method"]
    shown = ("method", "parameter", "value", "metric", "methods", "mean", "low", "high", "difference", "95 %", "n")
    notes = (
        "mean, low, high: of the methods that have the value; difference: from the method without parameters, paired "
        "over n queries.",
    )
    return _family_table(title, rows, shown, notes)


def variance_components(title: str, rows: Sequence[Row]) -> Table:
    """Arrange a line per factor and metric: standard deviations, the two errors of the mean, the factor's share."""
    for row in rows:
        row["queries"] = row["n_queries"]
        row["share"] = None if row["share"] is None else 100 * row["share"]
    shown = ("method", "factor", "levels", "queries", "metric", "mean", "sd_factor", "sd_query", "sd_rest",
             "se_queries", "se_all", "share")  # fmt: skip
    notes = (
        "sd: between levels of the factor, between queries, the rest. se_queries: error of the mean if other queries "
        "were drawn; se_all: if other levels were drawn too. A gain smaller than about twice se_all may be the choice "
        "of examples. share: of the factor, in percent of the variance.",
    )
    return _family_table(title, rows, shown, notes)


def _family_table(title: str, rows: Sequence[Row], shown: Sequence[str], notes: tuple[str, ...]) -> Table:
    """Return a table of these columns after those that name a cell and differ between rows."""
    for row in rows:
        row["dpo"] = "DPO" if row["dpo"] else ""
    named = ("dataset", "language", "model", "dpo", "quantization", "settings_id", "judge", "template")
    none = ("No rows yet: icl run --method 'urial[k=0..2]', then a judge.",)
    return table_of(title, shown, rows, if_varying=named, notes=notes if rows else none)


def metrics(title: str, rows: Sequence[Row], tests: Sequence[Row]) -> Table:
    """Arrange a line per cell and judge, a column per metric; * where the rate differs from zero-shot's."""
    keys = ("dataset", "language", "model", "method", "dpo", "quantization", "judge")
    cells: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        cells.setdefault((row["cell_id"], row["judge_id"], row["template_sha256"]), {})[row["metric"]] = row
    names = sorted({row["metric"] for row in rows})
    shown = [next(iter(found.values())) for found in cells.values()]
    columns = [key for key in keys if key in ("model", "method") or len({row[key] for row in shown}) > 1]
    differ = {
        (test["cell_id_b"], test["judge"], test["template"], test["metric"])
        for test in tests
        if test["differs_in"] == "method" and test["a"] == "zero-shot" and (test["p_holm"] or 1) < 0.05
    }
    marks = {
        (y, len(columns) + x): "*"
        for y, (head, found) in enumerate(zip(shown, cells.values(), strict=True))
        for x, metric in enumerate(names)
        if metric in found and (head["cell_id"], head["judge"], head["template"], metric) in differ
    }
    body = [
        (*(head[key] for key in columns), *(found[one]["mean"] if one in found else None for one in names),
         max(row["n"] for row in found.values()))
        for head, found in zip(shown, cells.values(), strict=True)
    ]  # fmt: skip
    notes = ["A mean is over the queries that have the metric's input; n: the largest number of them."] if rows else []
    if marks:
        notes.append("*: differs from zero-shot (McNemar's exact test, Holm-corrected, p < 0.05).")
    notes += [] if rows else ["No rows yet: icl judge --judge rules."]
    return Table(title, (*columns, *names, "n"), body, notes=tuple(notes), marks=marks)
