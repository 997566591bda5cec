"""Merging another database, a spool folder or a folder of Parquet files into a database, row by row by key.

Rows go through the spool like any other, so a rebuild keeps them. If both sides have a response and its texts differ
(another llama.cpp build, an inexact setting), this database keeps its own text, rows that refer to the other text are
left out, and the report lists the response. Rows forgotten here stay forgotten; tombstones of the other side have no
effect here.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from icl_local import store
from icl_local.exceptions import ConfigError, InputError
from icl_local.exchange.export import OF_ONE_DATABASE
from icl_local.identity import sha256_text
from icl_local.store import ingest, spool

Row = dict[str, Any]
Key = tuple[str, ...]
Source = dict[str, Callable[[], Iterator[list[Row]]]]  # table -> function that yields its rows in batches

# merged first, since rows of other tables refer to them
_FIRST = tuple(ingest.FORGETTABLE)
# a second row of a key may replace the first if this differs; the store decides (ingest.RANK)
_RANKED_BY = {
    "responses": "finish_reason",
    "critical_errors": "detector_version",
    "judgments": f"status in {ingest.TRANSIENT}",
    "queries": "task is null",
    "run_cells": "status",
    "samples": "per_cell",
    "training_runs": "status",
}
_ROWS_A_READ = 1_000


@dataclass(frozen=True)
class Merged:
    """New rows by table, and the response_id of every response whose texts differ."""

    added: dict[str, int]
    differing: tuple[str, ...]


def merge(target: store.Store, source: Path) -> Merged:
    """Add every row of ``source`` whose key ``target`` lacks. Raises InputError, ConfigError, StoreError."""
    target.flush(wait_seconds=store.LOCK_WAIT_SECONDS)
    with _open_source(source, target) as theirs:
        return _Merge(target).run(theirs)


class _Merge:
    def __init__(self, target: store.Store) -> None:
        self.target = target
        self.added: dict[str, int] = {}
        self.differing: list[str] = []
        with store.reader(target.path) as con:
            columns = ingest.columns(con)
            self.columns = {table: found for table, found in columns.items() if table not in OF_ONE_DATABASE}
            self.stamps = {table: _stamps(con, table, found) for table, found in self.columns.items()}
            # by column, values whose rows are left out: forgotten here, or about a text that is not ours
            forgotten = ingest.Forgotten(con).keys
            self.left_out = {column: set(forgotten[table]) for table, column in ingest.FORGETTABLE.items()}

    def run(self, theirs: Source) -> Merged:
        shared = sorted(theirs.keys() & self.columns.keys())
        for table in sorted(shared, key=lambda table: _FIRST.index(table) if table in _FIRST else len(_FIRST)):
            for rows in theirs[table]():
                self.target.put([(table, row) for row in rows if self._is_new(table, row)])
        self.target.flush(wait_seconds=store.LOCK_WAIT_SECONDS)
        return Merged(dict(sorted(self.added.items())), tuple(self.differing))

    def _is_new(self, table: str, row: Row) -> bool:
        """Return whether to put the row; counts it and removes columns of another version."""
        for name in row.keys() - self.columns[table].keys():
            del row[name]
        if any(row.get(column) in values for column, values in self.left_out.items()):
            if table in ingest.FORGETTABLE:  # rows that refer to it are left out too
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
    """Return the key of every row here, with the values in which another row of that key may differ."""
    names = [f'"{name}"' for name, column in columns.items() if column.key]
    stamp = [_RANKED_BY[table]] if table in _RANKED_BY else []
    stamp += ["sha256(text)"] if table == "responses" else []
    rows = con.execute(
        f'select {", ".join(f"{name}::varchar" for name in names + stamp)} from raw."{table}"'
    ).fetchall()
    return {row[: len(names)]: row[len(names) :] for row in rows}


def _stamp(table: str, row: Row) -> Key:
    """Return those values of a row of the other side."""
    if table == "queries":
        return (str(row.get("task") is None).lower(),)
    if table == "judgments":
        return (str(row.get("status") in ingest.TRANSIENT).lower(),)
    stamp = (str(row.get(_RANKED_BY[table])),) if table in _RANKED_BY else ()
    return (*stamp, sha256_text(row["text"])) if table == "responses" else stamp


@contextmanager
def _open_source(source: Path, target: store.Store) -> Iterator[Source]:
    if not source.exists():
        raise InputError(f"there is no {source} to merge; give a database, a spool folder or a folder of Parquet files")
    if source.resolve() in (target.path.resolve(), store.spool_folder(target.path).resolve()):
        raise ConfigError(f"{source} is the database itself; give another one to merge into it")
    if source.is_file():
        with store.reader(source) as con:
            yield _tables(con)
    elif files := sorted(source.glob("*.parquet")):
        yield {file.stem: partial(_parquet_rows, file, target.path) for file in files}
    elif spool.files(source):
        with tempfile.TemporaryDirectory(dir=target.path.parent, prefix=".merge-") as folder:
            rebuilt = Path(folder) / "spool.duckdb"  # rebuilt first, to leave out rows that were forgotten there
            shutil.copytree(source, store.spool_folder(rebuilt))
            store.Store(rebuilt).close()
            with store.reader(rebuilt) as con:
                yield _tables(con)
    else:
        raise InputError(f"{source} holds neither a spool (*.jsonl) nor exported tables (*.parquet)")


def _tables(con: store.Connection) -> Source:
    columns = ingest.columns(con)
    filled = [table for (table,) in con.execute(store.sql_text("filled_tables")).fetchall()]
    return {table: partial(store.table_rows, con, table, columns[table], batch=_ROWS_A_READ) for table in filled}


def _parquet_rows(file: Path, database: Path) -> Iterator[list[Row]]:
    """Yield the rows of a Parquet file in batches, read through any database."""
    offset, count = 0, _ROWS_A_READ
    while count == _ROWS_A_READ:
        found = store.named(database, "parquet_rows", [str(file), _ROWS_A_READ, offset], unsafe=True)
        count = len(found.rows)
        offset += count
        yield found.records()
