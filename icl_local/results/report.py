"""One HTML page with a whole study: tables, figures, breakdowns, every response with its scores, provenance.

The page is a single file and makes no request. Its policy allows only its own script and style, named by hash.
Responses are gzipped JSON in it, unpacked when they are opened, and enter the page as text only. `icl browse` serves
the same page, which then asks for its data. Template, style and scripts are in db/report.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import jinja2
from markupsafe import Markup

from icl_local import __version__, resources
from icl_local.exceptions import MissingExtra
from icl_local.files import write_result
from icl_local.results import figures, paper_tables, tables
from icl_local.results.paper_tables import Views
from icl_local.results.serve import Page
from icl_local.store import Row
from icl_local.vocabulary import FIGURES
from icl_local.wording import counted

T = TypeVar("T")

_CHUNK_CHARACTERS = 400_000  # of texts unpacked together
_PREVIEW_CHARACTERS = 110
_CELL = ("name", "model", "quantization", "method", "language", "dpo", "settings_id")  # the last two are not shown
_QUERY = ("dataset", "query_id", "language", "split", "difficulty", "instruction")
_QUERY_SHOWN = ("dataset", "id", "language", "split", "difficulty", "instruction", "task")
_LOOP, _CODE = 1, 2  # bits of a response's errors, as page.js reads them
_SLACK_BYTES = 1_024  # for the line that says what is left out
_READINGS = {"strict": "N/A left out", "just_eval": "N/A counted as 5", "expected": "mean by the judge's probabilities"}
_SCRIPTS = {"file": ("common", "page"), "browse": ("common", "page", "live", "shift"), "rate": ("common", "rate")}


@dataclass(frozen=True)
class Report:
    """The written page: its bytes, its responses, the responses stored, and the responses with their text in it."""

    path: Path
    bytes: int
    responses: int
    responses_stored: int
    texts: int


def write(database: Path, output: Path, *, max_responses: int, max_bytes: int, **chosen: Any) -> Report:
    """Write the page; it says what does not fit and is left out. It is made to be shared: the umask says with whom.

    At most ``max_responses`` responses are in it, whole queries at a time. Above ``max_bytes`` the judge's reasons
    go first, then texts; scores and errors of every response stay. ``chosen``: as in open_views.

    Raises StoreError, UnknownName, ConfigError.
    """
    page, rows = read(database, max_responses=max_responses, **chosen)
    parts = parts_of(rows)
    fixed = len(_render(page, index=packed(index_of(rows, parts)), texts=[""] * len(parts), left_out="").encode())
    room = max_bytes - fixed - _SLACK_BYTES
    chunks = _chunks(rows, parts, reasons=True, max_bytes=room)
    reasons = len(chunks) == len(parts)
    if not reasons:
        chunks = _chunks(rows, parts, reasons=False, max_bytes=room)
    kept = parts[: len(chunks)]
    texts = sum(map(len, kept))
    cut = "The judge's reasons" if rows and not reasons else ""
    if texts < len(rows):
        cut = f"The texts of {counted(len(rows) - texts, 'response')}"
    notes = [page["left_out"], cut and f"{cut} are left out to stay under {max_bytes / 1e6:g} MB."]
    note = " ".join(filter(None, notes))
    html = _render(page, index=packed(index_of(rows, kept)), texts=chunks, left_out=note).encode()
    write_result(output, html)
    return Report(output, len(html), len(rows), page["stored"], texts)


def read(database: Path, *, max_responses: int, **chosen: Any) -> tuple[dict[str, Any], list[Row]]:
    """Return what the page shows around the responses, and the responses."""
    with paper_tables.open_views(database, **chosen) as views:
        if "judge" not in views.variables:
            judges = {row["judge"] for row in views.rows("paper_scores") if row["origin"] == "ours"}
            views.choose(judge=min(judges, default=None))
        (facts,) = views.named("report_facts")
        rows, stored = views.named("report_responses", max_responses), int(facts["responses"])
        share = f"{stored - len(rows):,} of {counted(stored, 'response')}"
        note = f"{share} are left out (--responses), whole queries at a time." if len(rows) < stored else ""
        return {**_page(views, facts), "stored": stored, "left_out": note}, rows


# The page around the responses


def _page(views: Views, facts: Row) -> dict[str, Any]:
    names = (*paper_tables.SCORE_TABLES, *paper_tables.ERROR_TABLES)
    found = [paper_tables.build(views, name) for name in names]
    found = [table for table in found if table.rows]
    drawn, figures_note = _figures(views)
    groups, findings = views.run("report_groups"), tables.Table.of(views.run("report_findings"))
    sections = [("summary", "Summary"), ("tables", "Tables"), ("figures", "Figures"), ("groups", "Breakdowns")]
    ran = {row["paper_table"] for row in views.rows("versus_paper") if row["ours"] is not None}
    versus = [paper_tables.build(views, name, versus=True) for name in names if f"table_{name}" in ran]
    if versus:
        sections.insert(2, ("paper", "Beside the paper"))
    return {
        "title": f"icl-local: {views.database.stem}",
        "lead": f"{counted(facts['responses'], 'response')} of {_listed(facts['models'])} "
        f"to {counted(facts['queries'], 'query')}, "
        f"by {_listed(facts['methods'])}, in {_listed(facts['languages'])}.",
        "sections": [*sections, ("responses", "Responses"), ("provenance", "Provenance")],
        "facts": dict(_facts(views, facts)),
        "findings": replace(findings, groups=tables.changes(row[0] for row in findings.rows)),
        "tables": found,
        "versus": versus,
        "figures": drawn,
        "figures_note": figures_note,
        "breakdowns": {"columns": groups.columns, "rows": [[_rounded(cell) for cell in row] for row in groups.rows]},
        "provenance": list(_provenance(views)),
        "footer": f"Made by icl-local {__version__} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
    }


def _listed(names: Sequence[str] | None) -> str:
    names = list(names or [])
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names) or "none"


def _facts(views: Views, facts: Row) -> Iterator[tuple[str, str]]:
    for name in ("responses", "cells", "queries"):
        yield name, f"{facts[name]:,}"
    for name in ("models", "methods", "languages"):
        yield name, str(len(facts[name] or []))
    yield "judge", views.variables["judge"] or "not judged"
    if views.variables["judge"]:
        yield "reading of scores", _READINGS[str(views.variables["reading"])]


def _figures(views: Views) -> tuple[list[dict[str, Any]], str]:
    drawn = []
    try:
        for name, title in FIGURES.items():
            figure = figures.draw(views, name)
            if figure is not None:
                drawn.append({"title": title, "svg": Markup(figures.inline_svg(figure, label=title))})
    except MissingExtra as error:
        return [], f"Left out: {error}."
    return drawn, "" if drawn else "Nothing to draw yet."


def _provenance(views: Views) -> Iterator[tables.Table]:
    for file, title in (
        ("report_runs", "Runs"),
        ("report_files", "Weights"),
        ("report_settings", "Decoding"),
        ("report_judges", "Judgments"),
    ):
        if rows := views.named(file):
            filled = [name for name in rows[0] if any(row[name] is not None for row in rows)]
            yield tables.table_of(title, filled, rows)


# Responses


def index_of(rows: Sequence[Row], chunks: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the page's index of all responses, by column; ``chunks`` are the numbers of the rows in each chunk."""
    cells, cell = _numbered(tuple(row[name] for name in _CELL) for row in rows)
    queries, query = _numbered((*(row[name] for name in _QUERY), tuple(row["task"] or ())) for row in rows)
    finishes, finish = _numbered(row["finish_reason"] for row in rows)
    chunk: list[int | None] = [None] * len(rows)
    at: list[int | None] = [None] * len(rows)
    for number, members in enumerate(chunks):
        for place, member in enumerate(members):
            chunk[member], at[member] = number, place
    scores = {
        metric: values
        for metric in paper_tables.SCORES.values()
        if any(values := [_rounded(row["scores"] and row["scores"][metric]) for row in rows])
        or metric in ("avg", "safety")
    }
    return {
        "cells": [dict(zip(_CELL[:-2], values, strict=False)) for values in cells],
        "queries": [dict(zip(_QUERY_SHOWN, values, strict=True)) for values in queries],
        "finishes": finishes,
        "metrics": [metric for metric, values in scores.items() if any(values)],
        "cell": cell,
        "query": query,
        "finish": finish,
        "errors": [_LOOP * (row["copies"] is not None) + _CODE * row["has_code"] for row in rows],
        "length": [len(row["text"]) for row in rows],
        "preview": [_preview(row["text"]) for row in rows],
        "scores": scores,
        "chunk": chunk,
        "at": at,
        "chunks": list(chunks),
    }


def _preview(text: str) -> str:
    words = " ".join(text[: 2 * _PREVIEW_CHARACTERS].split())
    whole = len(text) <= 2 * _PREVIEW_CHARACTERS and len(words) <= _PREVIEW_CHARACTERS
    return words if whole else f"{words[:_PREVIEW_CHARACTERS]}…"


def _numbered(values: Iterable[T]) -> tuple[list[T], list[int]]:
    """Return the distinct values, and for each value its number among them."""
    numbers: dict[T, int] = {}
    found = [numbers.setdefault(value, len(numbers)) for value in values]
    return list(numbers), found


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value


def parts_of(rows: Sequence[Row]) -> list[list[int]]:
    """Return the numbers of rows whose texts are packed together: neighbours, so answers to the same query."""
    parts: list[list[int]] = []
    room = 0
    for number, row in enumerate(rows):
        if room <= 0:
            parts.append([])
            room = _CHUNK_CHARACTERS
        parts[-1].append(number)
        room -= len(row["text"])
    return parts


def _chunks(rows: Sequence[Row], parts: Sequence[list[int]], *, reasons: bool, max_bytes: int) -> list[str]:
    """Return the packed texts of the first parts, as many as fit."""
    chunks: list[str] = []
    for members in parts:
        text = packed([stored_text(rows[member], reasons=reasons) for member in members])
        max_bytes -= len(text)
        if max_bytes < 0:
            break
        chunks.append(text)
    return chunks


def stored_text(row: Row, *, reasons: bool) -> dict[str, Any]:
    stored: dict[str, Any] = {"text": row["text"]}
    if row["copies"] is not None:
        stored["loop"] = [row["start_char"], row["span"], row["copies"]]
    if reasons and row["reasons"]:
        stored["reasons"] = {given["metric"]: given["reason"] for given in row["reasons"]}
    return stored


def packed(value: object) -> str:
    """Return a value as JSON, gzipped, in base64."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return base64.b64encode(gzip.compress(text, compresslevel=6, mtime=0)).decode("ascii")


def _render(page: dict[str, Any], **more: Any) -> str:
    return render({**page, **more}, mode="file").html


def render(page: Mapping[str, Any], *, mode: str) -> Page:
    """Return the page: a ``file`` with its data inside, or one that asks a server, to ``browse`` or to ``rate``."""
    style = resources.read_text("db", "report/page.css")
    style += f"@media (prefers-color-scheme: dark) {{ svg {{ {figures.dark_colours()} }} }}\n"
    script = "".join(resources.read_text("db", f"report/{name}.js") for name in _SCRIPTS[mode])
    policy = (
        f"default-src 'none'; script-src '{_policy_hash(script)}'; style-src '{_policy_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )
    if mode != "file":
        policy += "; connect-src 'self'"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals |= {one.__name__: one for one in (tables.shown, tables.is_number, tables.numeric_columns)}
    template = environment.from_string(resources.read_text("db", "report/page.html.j2"))
    html = template.render(**page, mode=mode, policy=policy, style=Markup(style), script=Markup(script))
    return Page(html, policy)


def _policy_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
