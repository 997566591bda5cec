"""The paper's tables from a database or from its own printed cells: layout, best in bold, marks of significance.

The numbers come from SQL views (db/views); this module selects, arranges and annotates them. The views read variables:
icl_origin (ours, published), icl_judge, icl_reading (strict, just_eval, expected), icl_loops (strict, literal),
icl_reference (human, or a judge), and, of several cells of one model and method, which one is shown: icl_dataset,
icl_quantization, icl_settings.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from icl_local import store
from icl_local.exceptions import ConfigError, UnknownName, WrongUsage
from icl_local.results import other_tables
from icl_local.results.tables import Table, changes, table_of
from icl_local.store import Row
from icl_local.vocabulary import LOOPS, READINGS, TABLES
from icl_local.wording import counted, shell

VIEWS = {
    "metrics": "metric_means",
    "methods": "method_effects",
    "variance": "variance_components",
    "sentences": "text_intervals",
    "audit": "published_audit",
}  # the others: table_<name>
HUMAN = "human"
WITHOUT = "human without "  # a rater's name follows
_LOOP = {
    "strict": "a unit with a letter or digit, 50 characters in all",
    "literal": "any sequence more than 5 times, as the paper says",
}

_KEYS = ("language", "model", "method", "dpo")
SCORES = {
    "helpful": "helpfulness",
    "clear": "clarity",
    "factual": "factuality",
    "depth": "depth",
    "engaging": "engagement",
    "avg": "avg",
    "lang": "language",
    "safe": "safety",
}
_ERRORS = {"infinite_loop": "infinite_loop", "unintended_code": "unintended_code"}
SCORE_TABLES = ("1", "2", "3")
ERROR_TABLES = ("4", "6", "8")
_DPO_TABLES = ("3", "8")


@dataclass(frozen=True)
class Views:
    """Views of one database, read on one connection; each is computed once. ``variables``: what they read."""

    connection: store.Connection
    database: Path
    variables: dict[str, str | None] = field(default_factory=dict)
    _kept: dict[tuple[object, ...], store.Rows] = field(default_factory=dict, repr=False)

    def rows(self, view: str) -> list[Row]:
        """Return every row of a view, by column name."""
        return self._run(f"select * from main.{view}").dicts()

    def columns(self, view: str) -> list[str]:
        """Return the names of a view's columns."""
        return self._run(f"select * from main.{view}").columns

    def named(self, file: str, *parameters: object) -> list[Row]:
        """Return every row of db/queries/<file>.sql."""
        return self.run(file, *parameters).dicts()

    def run(self, file: str, *parameters: object) -> store.Rows:
        """Return the result of db/queries/<file>.sql."""
        return self._run(store.sql_text(file), parameters)

    def choose(self, **variables: str | None) -> None:
        """Set the views' variables: origin, judge, reading, reference."""
        self._kept.clear()
        self.variables.update(variables)
        for name, value in variables.items():
            self.connection.execute(f"set variable icl_{name} = ?", [value])

    def _run(self, sql: str, parameters: Sequence[object] = ()) -> store.Rows:
        key = (sql, *parameters)
        if key not in self._kept:
            self._kept[key] = store.fetch(self.connection.execute(sql, list(parameters)))
        return self._kept[key]


def no_labels(views: Views, sample: str | None = None) -> ConfigError:
    """Return the error for answers without labels: how to draw a sample, or to label the answers of one."""
    samples = [str(row["sample"]) for row in views.named("samples")]
    db = shell(views.database)
    if not samples:
        return ConfigError(f"labels need a sample; draw one: icl sample draw PILOT --per-cell 100 --seed 1 --db {db}")
    (named,) = views.named("trust_names")
    name, against = sample or samples[0], str(named["reference"])
    human = against.startswith(HUMAN)
    how = f"browse --rate {name} --rater YOUR-NAME" if human else f"judge --judge {against} --sample {name}"
    return ConfigError(f"no answer of {name} has a label; make some: icl {how} --db {db}")


@dataclass(frozen=True)
class Instead:
    """Means shown instead of a judge's own: ``kind`` corrected, or equated to the scale of a judge.

    The kind is the name of the column, and of db/queries/<kind>_values.sql.
    """

    kind: str
    judge: str | None = None

    def rows(self, views: Views) -> list[Row]:
        """Return the rows of the query. Raises ConfigError where no scores were equated, and without labels."""
        found = views.named(f"{self.kind}_values", *([self.judge] if self.judge else []))
        if found:
            return found
        if not self.judge:
            raise no_labels(views)
        raise ConfigError(f"no scores here are equated to {self.judge}; run: icl equate --from JUDGE --to {self.judge}")

    def note(self, views: Views) -> str:
        """Return what the values are."""
        if not self.judge:
            return "Corrected means: what the reference would score on average, by its labels (icl trust)."
        rows = self.rows(views)
        systems = max(row["n_systems"] for row in rows)
        scale = f"{rows[0]['from_judge']} on the scale of {self.judge} ({rows[0]['map']}, {counted(systems, 'system')})"
        refused = sorted({row["refused"] for row in rows if row["refused"]})
        return f"{scale}." + (f" Refused: {'; '.join(refused)}." if refused else "")


@contextmanager
def open_views(
    database: Path,
    *,
    published: bool = False,
    judge: str | None = None,
    reading: str = "strict",
    loops: str = "strict",
    reference: str = HUMAN,
    **cells: str | None,
) -> Iterator[Views]:
    """Yield the views of a database, or of the paper's ``published`` cells, with their variables set, read-only.

    ``reference``: human, or the judge whose scores correct another's. ``cells``: dataset, quantization and settings of
    the cells that are shown. Without a database the published cells come from a temporary one. Raises UnknownName for
    a judge without judgments, StoreError without a database.
    """
    if reading not in READINGS:
        raise ConfigError(f"no reading {reading!r}; there are {', '.join(READINGS)}")
    if loops not in LOOPS:
        raise ConfigError(f"no reading {loops!r} of loops; there are {', '.join(LOOPS)}")
    with ExitStack() as stack:
        if published and not database.exists():
            database = Path(stack.enter_context(TemporaryDirectory())) / "published.duckdb"
            store.Store(database).close()
        views = Views(stack.enter_context(store.reader(database)), database)
        settings = cells.get("settings")
        given = store.Selection(judge=judge, dataset=cells.get("dataset"), quantization=cells.get("quantization"))
        chosen = {kind: _only(kind, names) for kind, names in given.stored(views.run).items() if names}
        if reference != HUMAN and not reference.startswith(WITHOUT):
            reference = _only("judge", store.Selection(judge=reference).stored(views.run)["judge"] or [])
        known = sorted({str(row["settings_id"]) for row in views.rows("cells")}) if settings else []
        if settings and not any(one.startswith(settings) for one in known):
            raise UnknownName.among("settings", settings, known, place=f" in {database}")
        if reading == "expected" and not views.named("any_probabilities"):
            raise ConfigError(
                f"no judge in {database} stored probabilities; a local judge does: icl judge --judge local:FILE"
            )
        origin = "published" if published else "ours"
        views.choose(origin=origin, reading=reading, loops=loops, reference=reference, settings=settings, **chosen)
        yield views


def _only(kind: str, names: list[str]) -> str:
    if len(names) > 1:
        raise ConfigError(f"several names of kind {kind} match; choose one: {', '.join(names)}")
    return names[0]


def build_tables(
    database: Path,
    names: Sequence[str],
    *,
    versus: bool = False,
    published: bool = False,
    corrected: bool = False,
    equated_to: str | None = None,
    whole: bool = False,
    **chosen: Any,
) -> list[Table]:
    """Return the named tables (keys of TABLES), read on one connection; see ``build`` and ``open_views``.

    ``corrected``: score tables from corrected means; ``equated_to``: on the scale of another judge (icl equate).
    Raises UnknownName, StoreError, and ConfigError for options that do not fit together or to a table.
    """
    instead = Instead("corrected") if corrected else Instead("equated", equated_to) if equated_to else None
    if instead and (versus or published or (corrected and equated_to) or set(names) - set(SCORE_TABLES)):
        raise WrongUsage(
            f"--corrected and --equated-to are for your own tables {', '.join(SCORE_TABLES)}; give one, without "
            "--versus-paper and --published"
        )
    if versus and published:
        raise WrongUsage("--versus-paper shows your figures, --published the paper's: choose one")
    if unknown := [name for name in names if name not in TABLES]:
        raise UnknownName.among("table", unknown[0], TABLES)
    with open_views(database, published=published, **chosen) as views:
        tables = [build(views, name, versus=versus, instead=instead, whole=whole) for name in names]
        if versus and tables:
            first = tables[0]
            tables[0] = replace(first, notes=(*_models_the_paper_lacks(views), *first.notes))
        return tables


def build(
    views: Views, name: str, *, versus: bool = False, instead: Instead | None = None, whole: bool = False
) -> Table:
    """Return table ``name``, a key of TABLES, with the paper's layout.

    ``versus`` adds the printed cells (sentences and audit always show them).
    ``instead`` has other means as values and leaves cells without them empty. ``whole`` returns every column of the
    view, unrounded.
    """
    versus = versus and name not in VIEWS
    if whole and instead:
        cells = {_cell(row) for row in views.rows(f"table_{name}")}
        rows = [row for row in instead.rows(views) if _cell(row) in cells]
        return table_of(TABLES[name], list(rows[0]) if rows else views.columns(f"{instead.kind}_means"), rows)
    if whole:
        view = "versus_paper" if versus else VIEWS.get(name, f"table_{name}")
        rows = [row for row in views.rows(view) if not versus or row["paper_table"] == f"table_{name}"]
        return table_of(TABLES[name], views.columns(view), rows)
    if versus:
        return _arranged_versus(views, name)
    return _arranged(views, name, instead)


def _arranged(views: Views, name: str, instead: Instead | None) -> Table:
    """Arrange rows: a line between models, the best in bold, marks, provenance as notes."""
    ours = views.variables["origin"] == "ours"
    if name == "audit":
        return Table.of(views.run("shown_audit"), TABLES[name])
    if name == "metrics":
        return other_tables.metrics(TABLES[name], views.named("shown_metrics"))
    if name in other_tables.NOTES:
        shown_rows = views.run(f"shown_{VIEWS[name]}")
        return other_tables.parameters(TABLES[name], shown_rows.columns, shown_rows.dicts(), other_tables.NOTES[name])
    rows = views.rows(VIEWS.get(name, f"table_{name}"))
    if instead:
        rows = _replaced(views, rows, instead)
    if name == "sentences":
        return other_tables.sentences(TABLES[name], rows, "ours" if ours else "published")
    left_out = 0
    if name in _DPO_TABLES:
        aligned = {(row["language"], row["model"]) for row in rows if row["dpo"]}
        kept = [row for row in rows if (row["language"], row["model"]) in aligned]
        rows, left_out = kept, len(rows) - len(kept)
    listed = _ERRORS if name in ERROR_TABLES else SCORES
    metrics = {column: metric for column, metric in listed.items() if any(row[column] is not None for row in rows)}
    keys = [key for key in _KEYS if rows and key in rows[0]]
    columns = [*keys, *metrics]
    shown = [dict(row) for row in rows]
    for row in shown:
        if "dpo" in row:
            row["dpo"] = "DPO" if row["dpo"] else ""
        if ours and "n_judged" in row:
            row["judged"] = f"{row['n_judged']}/{row['n_expected']}"
    avgs = [(row["avg"], row["aspects_mean"]) for row in rows if row.get("aspects_mean") and row["avg"] is not None]
    if any(abs(avg - aspects_mean) >= 0.005 for avg, aspects_mean in avgs):
        columns.insert(columns.index("avg") + 1, "aspects_mean")
    cells: list[Row] = []
    if ours:
        columns += ["judged"] if name in SCORE_TABLES else ["n"]
        by_key = {_cell(cell): cell for cell in views.named("shown_cells", name in SCORE_TABLES)}
        cells = [by_key[_cell(row)] for row in rows]
    varied = [column for column in ("dataset", "quantization", "settings") if len({one[column] for one in cells}) > 1]
    for row, cell in zip(shown, cells, strict=False):
        row.update({column: cell[column] for column in varied})
    columns += varied
    found = _significant(views, name, instead) if ours else _slips(views, name)
    marked = {(*_cell(row), row["metric"]) for row in found}
    marks = {
        (y, columns.index(column)): "*" if ours else "†"
        for y, row in enumerate(rows)
        for column, metric in metrics.items()
        if (*_cell(row), metric) in marked
    }
    group = [tuple(row.get(key) for key in ("language", "model")) for row in rows]
    alone = len(set(group)) == len(group)  # one row a model: models are compared, not methods
    if alone:
        group = [(row.get("language"),) for row in rows]
    bold = _best(rows, group, columns, metrics, lowest=name in ERROR_TABLES)
    notes = [] if not bold else ["Bold: best row."] if alone else ["Bold: best of a model's rows."]
    if "aspects_mean" in columns:
        notes.append("avg: over the responses with all five aspects; aspects mean: of the five values of the row.")
    notes += _notes(views, rows, name, marked=bool(marks))
    notes += _cell_notes(views, name, cells, varied)
    if left_out:
        notes.append(f"{counted(left_out, 'row')} of models without a DPO variant left out; csv and json have them.")
    if instead:
        notes.append(instead.note(views))
    return table_of(
        TABLES[name] + (f", {instead.kind}" if instead else ""),
        columns,
        shown,
        notes=tuple(notes),
        bold=bold,
        marks=marks,
        groups=changes(group),
    )


def _arranged_versus(views: Views, name: str) -> Table:
    """Arrange two lines a cell, ours and the paper's; † where they differ by more than both errors explain."""
    cells: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in views.rows("versus_paper"):
        if row["paper_table"] == f"table_{name}":
            cells.setdefault(_cell(row), {})[row["metric"]] = row
    ran = {cell: found for cell, found in cells.items() if any(row["ours"] is not None for row in found.values())}
    without, cells = len(cells) - len(ran), ran
    listed = _ERRORS if name in ERROR_TABLES else SCORES
    present = {metric for found in cells.values() for metric in found}
    metrics = {column: metric for column, metric in listed.items() if metric in present}
    keys = [key for x, key in enumerate(_KEYS) if key in ("model", "method") or len({cell[x] for cell in cells}) > 1]
    rows: list[tuple[object, ...]] = []
    marks: dict[tuple[int, int], str] = {}
    for cell, found in cells.items():
        named = dict(zip(_KEYS, cell, strict=True)) | {"dpo": "DPO" if cell[_KEYS.index("dpo")] else ""}
        for source in ("ours", "published"):
            for x, metric in enumerate(metrics.values(), start=len(keys) + 1):
                if source == "published" and metric in found and found[metric]["compatible"] is False:
                    marks[len(rows), x] = "†"
            head = [named[key] if source == "ours" else "" for key in keys]
            values = [found[metric][source] if metric in found else None for metric in metrics.values()]
            rows.append((*head, "ours" if source == "ours" else "paper", *values))
    return Table(
        f"{TABLES[name]}: ours and the paper's",
        (*keys, "source", *metrics),
        rows,
        notes=tuple(_versus_notes(views, name, cells, without=without, marked=bool(marks))),
        marks=marks,
        groups=frozenset(2 * at for at in changes((language, model) for language, model, *_ in cells)),
    )


def _models_the_paper_lacks(views: Views) -> Iterator[str]:
    printed = sorted({row["model"] for row in views.rows("versus_paper")})
    if lacking := sorted({row["model"] for row in views.rows("paper_cells")}.difference(printed)):
        yield f"The paper has no {', '.join(lacking)}; it has {', '.join(printed)}."


def _versus_notes(
    views: Views, name: str, cells: Mapping[tuple[Any, ...], Mapping[str, Row]], *, without: int, marked: bool
) -> Iterator[str]:
    found = [row for metrics in cells.values() for row in metrics.values() if row["ours"] is not None]
    if without:
        yield f"{counted(without, 'cell')} of the paper without a row of yours left out; csv and json have them."
    if marked:
        yield "†: the 95 % interval of the difference, with the printed value as a measured one, excludes 0."
    if any(row["same_judge"] is False for row in found):
        yield "A judge other than the paper's is another instrument: a difference may come from the judge."
    if name in ERROR_TABLES:
        yield f"{_loops(views)}; csv and json have the literal reading beside it."


def _best(
    rows: Sequence[Row], group: Sequence[object], columns: Sequence[str], metrics: Mapping[str, str], *, lowest: bool
) -> frozenset[tuple[int, int]]:
    """Return the positions of the best value of each group to two decimals; none if all are equal."""
    bold = set()
    for column, one in product(metrics, set(group)):
        found = {y: round(row[column], 2) for y, row in enumerate(rows) if group[y] == one and row[column] is not None}
        if len(set(found.values())) > 1:
            best = min(found.values()) if lowest else max(found.values())
            bold |= {(y, columns.index(column)) for y, value in found.items() if value == best}
    return frozenset(bold)


def _replaced(views: Views, rows: Sequence[Row], instead: Instead) -> list[Row]:
    """Return rows with other means as values, empty where there is none."""
    values = {(*_cell(row), row["metric"]): row[instead.kind] for row in instead.rows(views)}
    shown = [{column: values.get((*_cell(row), metric)) for column, metric in SCORES.items()} for row in rows]
    return [{**row, **found, "aspects_mean": None} for row, found in zip(rows, shown, strict=True)]


def _cell(row: Row) -> tuple[Any, ...]:
    """Return language, model, method and DPO of a row; Table 1 leaves out what is the same in all its rows."""
    return row.get("language", "en"), row["model"], row["method"], row.get("dpo", False)


def _significant(views: Views, name: str, instead: Instead | None) -> list[Row]:
    """Return the cells and metrics that differ significantly from zero-shot, or from the cell without DPO."""
    kind = "error" if name in ERROR_TABLES else instead.kind if instead else "score"
    found = [] if kind == "equated" else views.named(f"{kind}_marks")
    return [row for row in found if row["differs_in"] == _against(name)]


def _against(name: str) -> str:
    """Return what marks compare in a table: cells that differ in dpo, or in method."""
    return "dpo" if name in _DPO_TABLES else "method"


def _slips(views: Views, name: str) -> list[Row]:
    """Return the printed cells and metrics that the audit lists."""
    return [slip for slip in views.rows("published_audit") if slip["place"] == f"table_{name}"]


def _loops(views: Views) -> str:
    reading = views.variables["loops"] or ""
    return f"Loops: {reading} ({_LOOP[reading]})"


def _notes(views: Views, rows: Sequence[Row], name: str, *, marked: bool) -> Iterator[str]:
    if not rows:
        yield "No rows yet."
        return
    if views.variables["origin"] == "published":
        if marked:
            yield "†: see the slips."
        yield "The paper's own cells" + (", avg recomputed from the five aspects." if name in SCORE_TABLES else ".")
        for slip in _slips(views, name):
            cell = (slip["language"], slip["model"], slip["method"], slip["metric"])
            value = "" if slip["printed"] is None else f" {slip['printed']:.10g}"
            yield f"Slip: {' '.join(str(part) for part in cell if part)}{value}: {slip['finding']}, {slip['note']}."
        return
    if marked:
        against = "the same without DPO" if name in _DPO_TABLES else "zero-shot"
        test = "McNemar's exact test" if name in ERROR_TABLES else "paired t test"
        yield f"*: differs from {against} ({test}, Holm-corrected over the table, p < 0.05)."
    if name in SCORE_TABLES:
        judges = sorted({row["judge"] for row in rows if row["judge"]})
        readings = sorted({row["reading"] for row in rows if row["reading"]})
        yield f"Judge: {', '.join(judges)}; reading: {', '.join(readings)}." if judges else "Not judged: icl judge."
    if name in ERROR_TABLES:
        yield f"{_loops(views)}."


def _cell_notes(views: Views, name: str, cells: Sequence[Row], varied: Sequence[str]) -> Iterator[str]:
    """Yield which cells are shown, how many others qualify, and which comparisons have no mark."""
    if not cells:
        return
    labels = {"dataset": "Queries", "quantization": "GGUF type", "settings": "Settings"}
    alike = [f"{label}: {cells[0][column]}." for column, label in labels.items() if column not in varied]
    if alike:
        yield " ".join(alike)
    if others := sum(cell["n_others"] for cell in cells):
        found = counted(others, "other cell qualifies", "other cells qualify")
        yield f"{found}; --dataset, --quantization or --settings shows others."
    shown = {_cell(cell) for cell in cells}
    unproven = {row["file_name"] for row in views.named("unproven_files") if _cell(row) in shown}
    if unproven:
        yield f"Converted without the gate, so not proven to be their checkpoints: {', '.join(sorted(unproven))}."
    for pair in views.named("unlike_pairs"):
        if pair["differs_in"] == _against(name) and _cell(pair) in shown:
            what = "DPO" if pair["differs_in"] == "dpo" else pair["a"]
            yield f"No mark for {pair['model']} {pair['method']} against {what}: {pair['unlike']}."
