"""Ingest of the spool into the tables: each line once, rows by key, forgotten rows never.

Works on an open connection of icl_local.store.database. Every transaction holds some rows and the ingested length of
their spool file, so the two agree after a kill, a rollback or a discarded log.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from icl_local import resources
from icl_local.identity import key_of
from icl_local.store import spool

Connection = duckdb.DuckDBPyConnection

ROW_FAULTS = (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException, ValueError, TypeError)
BATCH_ROWS = 5_000  # rows of one transaction: bounds memory while a database is rebuilt

# tables whose rows a user can forget -> their key; rows that refer to a forgotten one go with it
FORGETTABLE = {"responses": "response_id", "judgments": "judgment_id"}

TRANSIENT = ("http_error", "quota")  # statuses of attempts that are followed by another; macro transient in db/macros

# Of two rows of one key the higher rank stays, in any order; in other tables they are the same row.
RANK = {
    "conversions": "{row}.created_at",
    "expectations": "{row}.created_at",
    "critical_errors": "try_cast(string_split({row}.detector_version, '.') as integer[])",
    "judgments": f"{{row}}.status not in {TRANSIENT}",
    "queries": "2 * ({row}.task is not null)::integer + ({row}.tags is not null)::integer",
    "responses": "100 * ({row}.finish_reason <> 'error')::integer + coalesce({row}.answer_rule, 1)",
    "run_cells": "{row}.status <> 'started'",
    "runs": "{row}.llama_build is not null",
    "samples": "{row}.created_at",
    "study_cells": "{row}.created_at",
    "tombstones": "{row}.created_at",
    "training_runs": "{row}.status <> 'started'",
}

_AS_THEY_ARE = {"BOOLEAN", "INTEGER", "INTEGER[]", "FLOAT[]", "BIGINT", "TIMESTAMP"}


@dataclass(frozen=True)
class Column:
    """A column of schema raw: its DuckDB type; if a row must have it; if it is part of the primary key."""

    kind: str
    required: bool
    key: bool


Columns = Mapping[str, Mapping[str, Column]]  # by table and name


@dataclass(frozen=True)
class Ingest:
    """Ingest of one spool folder into one database.

    A row whose content DuckDB refuses (ROW_FAULTS) goes to raw.rejected_rows and the others are inserted. Every other
    exception ends the ingest and rolls its transaction back. ``known`` is what ``columns`` returns.
    """

    con: Connection
    folder: Path
    known: Columns

    def run(self) -> None:
        """Insert every complete line that the database lacks."""
        read = offsets(self.con)
        for file in spool.files(self.folder):
            start = read.get(file.name, 0)
            with contextlib.suppress(FileNotFoundError):  # folded by another process
                if file.stat().st_size > start:
                    self._file(file, start)
        name_cells(self.con)

    def fold(self) -> None:
        """Join the finished files that the database has read to their end into one, without forgotten rows."""
        target = spool.fold(self.folder, keep=Forgotten(self.con).allows, read=offsets(self.con))
        if target is None:
            return
        present = [file.name for file in spool.files(self.folder)]
        with transaction(self.con):
            self.con.execute("delete from raw.spool_files where not list_contains(?::varchar[], file)", [present])
            self._read_to(target.name, target.stat().st_size)

    def _file(self, file: Path, start: int) -> None:
        forgotten = Forgotten(self.con)
        batch: list[spool.SpoolRow] = []
        end = start
        for line in spool.lines(file, start):
            batch.extend(record for record in line.records if forgotten.allows(record))
            end = line.end
            # what a tombstone names is deleted before a later row of that key comes
            if len(batch) >= BATCH_ROWS or any(record.table == "tombstones" for record in line.records):
                self._insert(batch, file.name, end)
                batch = []
        if end > start:
            self._insert(batch, file.name, end)

    def _insert(self, records: Sequence[spool.SpoolRow], file: str, end: int | None) -> None:
        """Insert in one transaction; find refused rows by halving. ``end`` None leaves the offset unchanged."""
        grouped: dict[str, list[Mapping[str, Any]]] = {}
        for record in records:
            grouped.setdefault(record.table if record.table in self.known else "", []).append(record.row)
        try:
            with transaction(self.con):
                for table, rows in grouped.items():
                    if not table:
                        raise ValueError("no such table")
                    insert_rows(self.con, table, self.known[table], rows)
                if "tombstones" in grouped:
                    _bury(self.con, self.known)
                self._read_to(file, end)
        except ROW_FAULTS as error:
            if len(records) > 1:
                middle = len(records) // 2
                self._insert(records[:middle], file, None)
                self._insert(records[middle:], file, end)
                return
            refused = {
                "rejected_id": key_of(kind="rejected", table=records[0].table, row=dict(records[0].row)),
                "file": file,
                "table_name": records[0].table,
                "reason": str(error).split("\n", 1)[0],
                "content": records[0].row,
            }
            with transaction(self.con):
                insert_rows(self.con, "rejected_rows", self.known["rejected_rows"], [refused])
                self._read_to(file, end)

    def _read_to(self, file: str, end: int | None) -> None:
        if end is not None:
            self.con.execute("insert or replace into raw.spool_files values (?, ?)", [file, end])


def lacks_cells(con: Connection) -> bool:
    """Return whether responses were stored without a cell: by an earlier version, or in an ingest that was killed."""
    return con.execute("select 1 from raw.responses where cell_id is null limit 1").fetchone() is not None


def name_cells(con: Connection) -> None:
    """Give responses that were stored without a cell theirs."""
    if not lacks_cells(con):
        return
    with transaction(con):
        con.execute(resources.read_text("db", "queries/cells_of_responses.sql"))


@contextlib.contextmanager
def transaction(con: Connection) -> Iterator[None]:
    """Commit what the block does, or none of it."""
    con.begin()
    try:
        yield
        con.commit()
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to report
            con.rollback()
        raise


class Forgotten:
    """Keys of forgotten rows, from the database and from tombstones among the records seen."""

    def __init__(self, con: Connection) -> None:
        self.keys: dict[str, set[str]] = {table: set() for table in FORGETTABLE}
        for table, key in con.execute("select table_name, key from raw.tombstones where active").fetchall():
            self.keys.setdefault(table, set()).add(key)

    def allows(self, record: spool.SpoolRow) -> bool:
        row = record.row
        if record.table == "tombstones":
            keys = self.keys.setdefault(str(row["table_name"]), set())
            (keys.add if row["active"] else keys.discard)(str(row["key"]))
            return True
        for table, column in FORGETTABLE.items():
            if row.get(column) in self.keys[table]:
                if record.table in FORGETTABLE:  # rows that refer to it go too
                    self.keys[record.table].add(str(row[FORGETTABLE[record.table]]))
                return False
        return True


def insert_rows(con: Connection, table: str, known: Mapping[str, Column], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows by key; a stored row is kept, except in tables of RANK, where a row of higher rank replaces it.

    Each column is one list parameter: 1,000 responses take 0.06 s, row by row 5.5 s.
    """
    values = [[row.get(name) for row in rows] for name in known]
    for place, column in enumerate(known.values()):
        if column.kind not in _AS_THEY_ARE:
            values[place] = [_cell(value, column.kind) for value in values[place]]
    unnested = ", ".join(f'unnest(?::{column.kind}[]) as "{name}"' for name, column in known.items())
    source = f"select * from (select {unnested}) as incoming"
    if table not in RANK:
        con.execute(f"insert into raw.{table} {source} on conflict do nothing", values)
        return
    key = ", ".join(name for name, column in known.items() if column.key)
    update = ", ".join(f"{name} = excluded.{name}" for name, column in known.items() if not column.key)
    higher = f"({RANK[table].format(row='excluded')}) > ({RANK[table].format(row=table)})"
    if table == "queries":  # what one row lacks, another may have
        parts = ("task", "tags")
        update = ", ".join(f"{name} = coalesce(queries.{name}, excluded.{name})" for name in parts)
        higher = " or ".join(f"(queries.{name} is null and excluded.{name} is not null)" for name in parts)
    best = f"qualify row_number() over (partition by {key} order by {RANK[table].format(row='incoming')} desc) = 1"
    con.execute(
        f"insert into raw.{table} {source} {best} on conflict ({key}) do update set {update} where {higher}", values
    )


def columns(con: Connection, *, database: str | None = None) -> dict[str, dict[str, Column]]:
    """Return the tables of schema raw with their columns in order; ``database`` names an attached one."""
    found: dict[str, dict[str, Column]] = {}
    for table, name, *column in con.execute(
        "select columns.table_name, column_name, data_type, not is_nullable, "
        "coalesce(list_contains(keys.constraint_column_names, column_name), false) from duckdb_columns() as columns "
        "left join duckdb_constraints() as keys on keys.table_oid = columns.table_oid "
        "and keys.database_oid = columns.database_oid and keys.constraint_type = 'PRIMARY KEY' "
        "where columns.database_name = coalesce(?, current_database()) and columns.schema_name = 'raw' "
        "order by columns.table_name, column_index",
        [database],
    ).fetchall():
        found.setdefault(table, {})[name] = Column(*column)
    return found


def offsets(con: Connection) -> dict[str, int]:
    """Return the ingested length of each spool file in bytes."""
    return dict(con.execute("select file, ingested_bytes from raw.spool_files").fetchall())


def _bury(con: Connection, known: Columns) -> None:
    """Delete the rows of the tombstones, and all rows that refer to them."""
    con.execute(
        "insert into raw.tombstones select 'judgments', judgment_id, true, any_value(created_at) from raw.judgments "
        "where response_id in (select key from raw.tombstones where table_name = 'responses' and active) "
        "group by judgment_id on conflict do nothing"
    )
    for target, column in FORGETTABLE.items():
        for table in (table for table, found in known.items() if column in found):
            con.execute(
                f"delete from raw.{table} where {column} in "
                "(select key from raw.tombstones where table_name = ? and active)",
                [target],
            )


def _cell(value: Any, kind: str) -> Any:
    """Return a spool value for DuckDB: json as text, no NUL (other clients end a text there), no NaN as text."""
    if value is None:
        return None
    if kind == "JSON":
        return json.dumps(value)
    if isinstance(value, str):
        return float(value) if kind == "DOUBLE" else value.replace("\0", "\ufffd")
    if isinstance(value, list | tuple):
        return [_cell(item, kind.removesuffix("[]")) for item in value]
    return value if kind != "VARCHAR" else str(value)
