"""Random samples of stored responses, for people to label: the same queries in every cell.

A sample's frame is every answered response of the chosen cells; its items are those with the first places. A place is
a rank by a key of seed, split and query, so it depends on neither cell nor language, and a larger sample of the same
seed holds the smaller one. Strata divide a cell: splits, tasks, or what a detector of errors has flagged.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from icl_local import store
from icl_local.exceptions import ConfigError, UnknownName
from icl_local.identity import key_of
from icl_local.judging.power import CORRELATION
from icl_local.results import Table
from icl_local.store import Row, Selection, Store
from icl_local.vocabulary import SAMPLED_ERRORS
from icl_local.wording import counted

SECONDS_A_LABEL = 90.0  # at first; a rater's own median later
_MANY_HOURS = 20  # above, a plan advises fewer cells
_MEDIAN_SECONDS = (
    "select median(seconds) from raw.judgments where status in ('ok', 'not_applicable') "
    "and judge_id in (select judge_id from raw.judges where backend = 'human')"
)
_ITEM = ("response_id", "stratum", "n_stratum", "place")
_CELL = ("model", "quantization", "method", "language", "dpo", "dataset", "stratum")


def draw(
    path: Path, name: str, chosen: Selection, *, per_cell: int, seed: int, by: str | None = None, plan: bool = False
) -> Table:
    """Draw ``per_cell`` responses of every cell and stratum; store the sample and its frame unless ``plan``.

    Returns a row for each cell and stratum: answers, those drawn, and how wide an interval they give.

    ``by`` "task": the first task of a query makes strata within its split. ``by`` an error, of SAMPLED_ERRORS: the
    answers in which the detector found it are a stratum, the others another; those that it does not count for are left
    out.

    Under the same name a larger or smaller number replaces the number before; labels stay. Raises ConfigError where the
    name stands for another frame, seed or strata, and where no response is selected.
    """
    if not name.strip():
        raise ConfigError("a sample needs a name, such as PILOT")
    with store.reader(path):  # the queries share its open file
        frame = store.selected(path, "sample_frame", chosen).dicts()
        if by in SAMPLED_ERRORS:
            found = dict(store.named(path, "detected_errors", [by]).rows)
            frame = [{**row, "flagged": found[row["response_id"]]} for row in frame if row["response_id"] in found]
        if not frame:
            raise ConfigError("no answered response is selected; see icl status")
        _place(frame, seed=seed, by=by)
        key = sorted((row["response_id"], row["stratum"]) for row in frame)
        sample_id = key_of(kind="sample", name=name, seed=seed, strata=by, frame=key)
        _refuse_another(path, name, sample_id, seed=seed, by=by)
        ((seconds,),) = store.query(path, _MEDIAN_SECONDS).rows
        planned = _plan(path, frame, per_cell, seconds or SECONDS_A_LABEL, by=by)
    if not plan:
        filters = {column: names for column, names in asdict(chosen).items() if names}
        sample = {"name": name, "seed": seed, "per_cell": per_cell, "strata": by, "filters": filters}
        items = [{column: row[column] for column in _ITEM} for row in frame]
        records = [("samples", sample), *(("sample_items", item) for item in items)]
        with Store(path) as target:
            target.put([(table, {"sample_id": sample_id, **row}) for table, row in records])
    return planned


def list_samples(path: Path) -> Table:
    """Return the samples of a database, the latest of each name."""
    return Table.of(store.named(path, "samples"))


def sample_id_of(path: Path, name: str) -> str:
    """Return the id of the latest sample of a name. Raises UnknownName."""
    known = {row["name"]: row["sample_id"] for row in store.named(path, "sample_names").dicts()}
    if name not in known:
        raise UnknownName.among("sample", name, list(known), place=" in this database", add="icl sample draw makes one")
    return str(known[name])


def drawn_responses(path: Path, name: str) -> set[str]:
    """Return the response ids of the latest sample of a name. Raises UnknownName."""
    with store.reader(path):  # both queries share its open file
        return {str(key) for (key,) in store.named(path, "drawn_responses", [sample_id_of(path, name)]).rows}


def query_order(seed: int, row: Row) -> str:
    """Return the key by which the queries of a sample are ordered."""
    return key_of(seed=seed, split=row["split"], query_id=row["query_id"])


def _place(frame: Sequence[Row], *, seed: int, by: str | None) -> None:
    """Give the rows of a frame stratum, n_stratum and place."""
    for row in frame:
        row["stratum"] = _stratum(row, by)
    sizes = Counter((row["cell_id"], row["stratum"]) for row in frame)
    places: Counter[tuple[str, str]] = Counter()
    for row in sorted(frame, key=lambda row: query_order(seed, row)):
        part = row["cell_id"], row["stratum"]
        places[part] += 1
        row["n_stratum"], row["place"] = sizes[part], places[part]


def _stratum(row: Row, by: str | None) -> str:
    if by in SAMPLED_ERRORS:
        return "flagged" if row["flagged"] else "others"
    task = "unknown" if row["task"] is None else next(iter(row["task"]), "none")
    return f"{row['split']}: {task}" if by == "task" else str(row["split"])


def _refuse_another(path: Path, name: str, sample_id: str, *, seed: int, by: str | None) -> None:
    """Raise ConfigError if ``name`` is the name of another sample."""
    before = [row for row in store.named(path, "sample_names").dicts() if row["name"] == name]
    if not before or before[0]["sample_id"] == sample_id:
        return
    (row,) = before
    if row["seed"] != seed:
        why = f"has seed {row['seed']}: give that one"
    elif row["strata"] != by:
        why = f"is by {row['strata'] or 'split alone'}: give the same --by or --errors"
    else:
        why = "has another frame: its cells, or their answers, are not those it was drawn from. Give the same options"
    raise ConfigError(f"sample {name} {why}, or draw under a new name")


def _plan(path: Path, frame: Sequence[Row], per_cell: int, seconds: float, *, by: str | None) -> Table:
    """Return a row for each cell and stratum with the half-width that ``per_cell`` labels give."""
    sizes = Counter((row["cell_id"], *(row[name] for name in _CELL)) for row in frame)
    labels = [min(per_cell, size) for size in sizes.values()]
    if by in SAMPLED_ERRORS:
        cells = Counter(row["cell_id"] for row in frame)
        answers_of_cells = [cells[cell_id] for cell_id, *_ in sizes]
        widths = store.named(path, "error_half_widths", [labels, list(sizes.values()), answers_of_cells]).rows
        what = "of the error rate at 95 %, in percentage points, where the detector is right in every label"
    else:
        widths = store.named(path, "half_widths", [labels, list(sizes.values()), CORRELATION]).rows
        what = (
            "of a corrected mean at 95 %, for scores with standard deviation 1 and a judge that correlates "
            f"{CORRELATION} with people; none under 10 labels, which give no corrected mean"
        )
    rows = [(*key[1:], size, n, width) for (key, size), n, (width,) in zip(sizes.items(), labels, widths, strict=True)]
    hours = sum(labels) * seconds / 3600
    notes = [
        f"half_width: {what}",
        f"{counted(sum(labels), 'label')}, {hours:,.1f} hours at {seconds:.0f} seconds each",
    ]
    if hours > _MANY_HOURS:
        notes.append("choose the cells of one contrast (--model, --method, --lang): they share their queries")
    if short := sum(size < per_cell for size in sizes.values()):
        notes.append(f"{counted(short, 'row has', 'rows have')} fewer than {per_cell:,} answers: all are taken")
    return Table("", (*_CELL, "answers", "drawn", "half_width"), rows, notes=tuple(notes))
