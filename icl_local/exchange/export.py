"""Responses and judgments as files of other tools: just-eval, AlpacaEval, CSV, Parquet.

JSON and Parquet hold texts unchanged; CSV holds them inert (icl_local.results.tables).
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Template

from icl_local import store
from icl_local.exceptions import ConfigError
from icl_local.files import PRIVATE, result_at, write_result
from icl_local.results import tables
from icl_local.store import Row, Selection, schema

# tables that belong to one database: rows forgotten in it are not forgotten everywhere
OF_ONE_DATABASE = schema.INTERNAL | {"tombstones"}
WHOLE = "`--format parquet --what all` keeps everything"
_LOST = {
    "just-eval": f"just-eval carries no GGUF type, settings, query set, raw text or token counts; {WHOLE}",
    "alpaca-eval": f"alpaca-eval carries no GGUF type, settings, query set, raw text or token counts; {WHOLE}",
    "csv": f"csv is for reading: its texts are escaped and `icl import` does not take it; {WHOLE}",
    "parquet": f"parquet of one kind of row is for reading: `icl import` does not take it; {WHOLE}",
}
_LOST_OF_VERDICTS = f"just-eval carries no judge settings, repeats or failed attempts; {WHOLE}"
_NO_ANSWER = ("prompt_too_long", "error")


@dataclass(frozen=True)
class Exported:
    """Files and number of rows written; ``left_out`` counts responses without a text (prompt_too_long, error).

    ``lost`` says what `icl import` cannot read back from these files, "" if nothing.
    """

    files: tuple[Path, ...]
    rows: int
    left_out: int = 0
    lost: str = ""


def export_rows(database: Path, out: Path, *, what: str = "responses", form: str, chosen: Selection) -> Exported:
    """Write responses, or their judgments (``what``), to ``out``.

    csv and parquet hold every column of the selected responses, or a row for each aspect of a verdict. A file of
    just-eval or alpaca-eval holds one cell (model, method, language, ...), and the verdicts in it are of one judge and
    kind (multi, safety); ``out`` is a folder, a path without .json, if more are selected.
    Raises ConfigError if nothing is selected, for several cells in one file, and for judgments as alpaca-eval.
    """
    if form in ("csv", "parquet"):
        return _write_rows(database, out, f"export_{what}", form, chosen)
    if what == "judgments":
        if form == "alpaca-eval":
            raise ConfigError("alpaca-eval has no form for scores; write just-eval, csv or parquet")
        verdicts = [_verdict(row) for row in store.selected(database, "export_verdicts", chosen).dicts()]
        return Exported(_write_items(verdicts, out), len(verdicts), lost=_LOST_OF_VERDICTS)
    rows = store.selected(database, "export_items", chosen).dicts()
    answered = [row for row in rows if row["finish_reason"] not in _NO_ANSWER]
    column = form.replace("-", "_")
    files = _write_items([(_cell(row), json.loads(row[column])) for row in answered], out)
    return Exported(files, len(answered), len(rows) - len(answered), _LOST[form])


def export_tables(database: Path, folder: Path) -> Exported:
    """Write every table that has a user's rows as ``folder``/<table>.parquet, which `icl db merge` reads."""
    with result_at(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    filled = {table for (table,) in store.named(database, "filled_tables").rows}
    files = {folder / f"{table}.parquet": table for table in sorted(filled - OF_ONE_DATABASE)}
    counts = [store.export_parquet(database, f'select * from raw."{table}"', file) for file, table in files.items()]
    return Exported(tuple(files), sum(counts))


def _verdict(row: Row) -> tuple[tuple[str, ...], Row]:
    """Return the key of a verdict's file, and the verdict as an item of just-eval."""
    item = json.loads(row["just_eval"])
    prompt = Template(item["prompt"]).safe_substitute(instruction=item["input"], candidate=item["output_cand"])
    key = (*_cell(row), row["judge"], row["template"], f"repeat{row['repeat']}", row["mode"])
    return key, {**item, "prompt": prompt}


def _cell(row: Row) -> tuple[str, ...]:
    """Return the cell's key, and its names for a file."""
    return str(row["cell_id"]), row["generator"], row["language"], row["dataset"], row["settings_id"][:8]


def _write_items(items: Sequence[tuple[tuple[str, ...], Row]], out: Path) -> tuple[Path, ...]:
    """Write one JSON list for each key: to ``out``, or to files named by the keys if ``out`` is a folder."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for key, item in items:
        groups.setdefault(key, []).append(item)
    require_rows(len(groups))
    if out.is_dir() or not out.suffix:
        with result_at(out):
            out.mkdir(mode=0o700, parents=True, exist_ok=True)
        stems = {key: file_name(".".join(key[1:])) for key in groups}
        # cells of the same names differ in their ids
        shared = {stem for stem, count in Counter(stems.values()).items() if count > 1}
        files = {
            out / f"{stem}{f'.{key[0][:8]}' if stem in shared else ''}.json": groups[key] for key, stem in stems.items()
        }
    elif len(groups) == 1:
        files = {out: next(iter(groups.values()))}
    else:
        some = "; ".join(" ".join(key[1:]) for key in list(groups)[:3])
        raise ConfigError(
            f"{len(groups)} cells for one file ({some}{'; ...' if len(groups) > 3 else ''}): choose with --model, "
            "--method, --lang, --dataset and --quantization, or give a folder as -o"
        )
    for path, group in files.items():
        write_result(path, json.dumps(group, ensure_ascii=False, indent=2) + "\n", mode=PRIVATE)
    return tuple(files)


def _write_rows(database: Path, out: Path, name: str, form: str, chosen: Selection) -> Exported:
    """Write the rows of db/queries/<name>.sql as csv or parquet. Raises ConfigError for a folder."""
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; name a file with -o for {form}")
    if form == "parquet":
        stored = chosen.stored(partial(store.named, database))
        with result_at(out):
            out.parent.stat()  # whose error says more than DuckDB's
            count = store.export_parquet(database, store.sql_text(name), out, [stored], on_count=require_rows)
        return Exported((out,), count, lost=_LOST[form])
    found = store.selected(database, name, chosen)
    require_rows(len(found.rows))
    write_result(out, tables.render(tables.Table.of(found), "csv"), mode=PRIVATE)
    return Exported((out,), len(found.rows), lost=_LOST[form])


def file_name(text: str) -> str:
    """Return ``text`` without the characters that a file's name should not have."""
    return re.sub(r"[^\w.+-]+", "-", text)


def require_rows(count: int) -> None:
    """Raise ConfigError if nothing is selected."""
    if not count:
        raise ConfigError("nothing selected is in the database; `icl status` shows what is")
