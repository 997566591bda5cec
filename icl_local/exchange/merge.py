"""Brings the rows of another database, of a spool folder or of a folder of Parquet files into one database, by key.

Rows go through the spool like any other, so a rebuild keeps them. A key names what a row is by intent; where both
sides have a response and its texts differ (another llama.cpp build, an inexact setting), this database's own stays,
nothing that refers to the other text comes in, and the report names it. Rows forgotten here stay forgotten; what was
forgotten there is not forgotten here.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from icl_local import store
from icl_local.exceptions import ConfigError, InputError
from icl_local.exchange.export import OF_ONE_DATABASE
from icl_local.identity import sha256_text
from icl_local.store import ingest, spool

Row = dict[str, Any]
Key = tuple[str, ...]
Progress = Callable[[str, int], None]

# decided first, since rows of other tables refer to them
_FIRST = tuple(ingest.FORGETTABLE)
# a second row of a key may replace the first where this differs; the store decides (ingest.RANK)
_RANKED_BY = {
    "responses": "finish_reason",
    "critical_errors": "detector_version",
    "judgments": f"status in {ingest.TRANSIENT}",
    "queries": "task is null",
    "run_cells": "status",
    "training_runs": "status",
}
_ROWS_A_READ = 1_000


@dataclass(frozen=True)
class Merged:
    """New rows by table, and response_id of every response whose text here and there differs."""

    added: dict[str, int]
    differing: tuple[str, ...]


class _Source(Protocol):
    def tables(self) -> list[str]: ...

    def rows(self, table: str) -> Iterator[list[Row]]: ...


def merge(target: store.Store, source: Path, *, on_progress: Progress | None = None) -> Merged:
    """Put every row of ``source`` that ``target`` has no row for. Raises InputError, ConfigError, StoreError."""
    target.flush(wait_seconds=store.LOCK_WAIT_SECONDS)
    with _opened(source, target) as theirs:
        return _Merge(target, theirs, on_progress).run()


def describe(database: Path, response_ids: Sequence[str]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows that tell a person which responses these are."""
    found = store.named(database, "responses_by_id", [list(response_ids)])
    return found.columns, found.rows


class _Merge:
    def __init__(self, target: store.Store, theirs: _Source, on_progress: Progress | None) -> None:
        self.target = target
        self.theirs = theirs
        self.on_progress = on_progress
        self.added: dict[str, int] = {}
        self.differing: list[str] = []
        with store.reader(target.path) as con:
            columns = ingest.columns(con)
            self.columns = {table: found for table, found in columns.items() if table not in OF_ONE_DATABASE}
            self.stamps = {table: _stamps(con, table, found) for table, found in self.columns.items()}
            # values of columns whose rows stay out: forgotten here, or about a text that is not ours
            forgotten = ingest.Forgotten(con).keys
            self.left_out = {column: set(forgotten[table]) for table, column in ingest.FORGETTABLE.items()}

    def run(self) -> Merged:
        shared = [table for table in self.theirs.tables() if table in self.columns]
        for table in sorted(shared, key=lambda table: _FIRST.index(table) if table in _FIRST else len(_FIRST)):
            for rows in self.theirs.rows(table):
                self.target.put([(table, row) for row in rows if self._wanted(table, row)])
                if self.on_progress:
                    self.on_progress(table, len(rows))
        self.target.flush(wait_seconds=store.LOCK_WAIT_SECONDS)
        return Merged(dict(sorted(self.added.items())), tuple(self.differing))

    def _wanted(self, table: str, row: Row) -> bool:
        """Whether the row is to be put; counts it, and cuts off columns of another version."""
        for name in row.keys() - self.columns[table].keys():
            del row[name]
        if any(row.get(column) in values for column, values in self.left_out.items()):
            if table in ingest.FORGETTABLE:  # and with it all that refers to it
                self.left_out[ingest.FORGETTABLE[table]].add(row[ingest.FORGETTABLE[table]])
            return False
        key = tuple(str(row.get(name)) for name, column in self.columns[table].items() if column.key)
        here = self.stamps[table].get(key)
        stamp = _stamp(table, row)
        if here is None:
            self.added[table] = self.added.get(table, 0) + 1
        elif here == stamp:
            return False
        elif table == "responses" and "error" not in (here[0], stamp[0]):
            self.differing.append(row["response_id"])
            self.left_out["response_id"].add(row["response_id"])
            return False
        self.stamps[table][key] = stamp
        return True


def _stamps(con: store.Connection, table: str, columns: dict[str, ingest.Column]) -> dict[Key, Key]:
    """Of every row here: its key, and what another row of the same key may differ in."""
    names = [f'"{name}"' for name, column in columns.items() if column.key]
    stamp = [_RANKED_BY[table]] if table in _RANKED_BY else []
    stamp += ["sha256(text)"] if table == "responses" else []
    rows = con.execute(
        f'select {", ".join(f"{name}::varchar" for name in names + stamp)} from raw."{table}"'
    ).fetchall()
    return {row[: len(names)]: row[len(names) :] for row in rows}


def _stamp(table: str, row: Row) -> Key:
    """The same of one row of theirs."""
    if table == "queries":
        return (str(row.get("task") is None).lower(),)
    if table == "judgments":
        return (str(row.get("status") in ingest.TRANSIENT).lower(),)
    stamp = (str(row.get(_RANKED_BY[table])),) if table in _RANKED_BY else ()
    return (*stamp, sha256_text(row["text"])) if table == "responses" else stamp


@contextmanager
def _opened(source: Path, target: store.Store) -> Iterator[_Source]:
    if not source.exists():
        raise InputError(f"there is no {source} to merge; give a database, a spool folder or a folder of Parquet files")
    if source.resolve() in (target.path.resolve(), store.spool_folder(target.path).resolve()):
        raise ConfigError(f"{source} is the database itself; give another one to merge into it")
    if source.is_file():
        with store.reader(source) as con:
            yield _Database(con)
    elif any(source.glob("*.parquet")):
        yield _ParquetFolder(source, target.path)
    elif spool.files(source):
        with tempfile.TemporaryDirectory(dir=target.path.parent, prefix=".merge-") as folder:
            rebuilt = Path(folder) / "spool.duckdb"  # rebuilt first, so that what was forgotten there is left behind
            shutil.copytree(source, store.spool_folder(rebuilt))
            store.Store(rebuilt).close()
            with store.reader(rebuilt) as con:
                yield _Database(con)
    else:
        raise InputError(f"{source} holds neither a spool (*.jsonl) nor exported tables (*.parquet)")


class _Database:
    def __init__(self, con: store.Connection) -> None:
        self.con = con
        self.columns = ingest.columns(con)

    def tables(self) -> list[str]:
        return [table for (table,) in self.con.execute(store.sql_text("filled_tables")).fetchall()]

    def rows(self, table: str) -> Iterator[list[Row]]:
        return store.table_rows(self.con, table, self.columns[table], batch=_ROWS_A_READ)


class _ParquetFolder:
    """``database`` is any database to read the files through."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder = folder
        self.database = database

    def tables(self) -> list[str]:
        return sorted(file.stem for file in self.folder.glob("*.parquet"))

    def rows(self, table: str) -> Iterator[list[Row]]:
        file, offset = str(self.folder / f"{table}.parquet"), 0
        count = _ROWS_A_READ
        while count == _ROWS_A_READ:
            found = store.named(self.database, "parquet_rows", [file, _ROWS_A_READ, offset], unsafe=True)
            count = len(found.rows)
            offset += count
            kinds = dict(zip(found.columns, found.types, strict=True))
            yield [{name: _value(cell, kinds[name]) for name, cell in row.items()} for row in found.dicts()]


def _value(cell: Any, kind: str) -> Any:
    """A cell as the spool keeps it."""
    if isinstance(cell, datetime):
        return cell.replace(tzinfo=UTC).isoformat(timespec="microseconds")
    return json.loads(cell) if kind == "JSON" and cell is not None else cell
