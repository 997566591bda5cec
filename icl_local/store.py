"""The one door to DuckDB: open, migrate, ingest the spool, read safely. The only importer of duckdb.

A row is safe once the spool has it; DuckDB follows in short read-write connections, so other programs can open
the file between two flushes. Every insert is ``on conflict do nothing`` on a deterministic key, and how far a
spool file is ingested is written in the transaction of its rows: whatever is killed, locked, full or damaged,
the next open brings the database level with the spool.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from icl_local import schema, spool
from icl_local.errors import DiskFull, StoreError, StoreLocked

STORAGE_VERSION = "v1.4.0"  # what older DuckDB clients read
LOCK_WAIT_SECONDS = 60.0
CHECKPOINT_EVERY = 10  # flushes; a checkpoint holds readers up, a log that grows slows opening
FOLD_ABOVE = 32  # finished spool files
BATCH_ROWS = 5_000  # rows of one insert: bounds memory while a database is rebuilt

_WRITER = {
    "storage_compatibility_version": STORAGE_VERSION,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_SAFE = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
    "lock_configuration": True,
}
# a second row of the same key wins where this holds (it must not depend on the order rows arrive in)
_REPLACES = {
    "critical_errors": "string_split(excluded.detector_version, '.')::integer[] "
    "> string_split(critical_errors.detector_version, '.')::integer[]",
    "responses": "responses.finish_reason = 'error' and excluded.finish_reason <> 'error'",
    "training_runs": "training_runs.status = 'started' and excluded.status <> 'started'",
}


@dataclass(frozen=True)
class Rows:
    """The answer to a query: column names, their DuckDB types, and the rows."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]


def now() -> str:
    """The time for a row: ISO 8601, UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def spool_folder(path: Path) -> Path:
    """The spool of a database: ``<db>.spool`` beside it."""
    return path.with_name(path.name + ".spool")


class Store:
    """The writer's side of one database; a context manager. Opening migrates and ingests what a crash left."""

    def __init__(self, path: Path, *, flush_rows: int = 64, flush_seconds: float = 5.0) -> None:
        self.path = path
        self.flush_rows = flush_rows
        self.flush_seconds = flush_seconds
        self._spool = spool.Spool(spool_folder(path))
        self._lock = threading.RLock()
        self._pending = 0
        self._flushes = 0
        self._flushed_at = time.monotonic()
        spool.cut_torn(self._spool.folder)
        with _writer(path, wait_seconds=LOCK_WAIT_SECONDS) as con:
            self._columns = _columns(con)
            ingest(con, self._spool.folder)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with contextlib.suppress(StoreError) if kind else contextlib.nullcontext():
            self.close()

    def put(self, records: Sequence[tuple[str, Mapping[str, object]]]) -> None:
        """Acknowledge rows: on return they are in the spool, all of them; DuckDB gets them at the next flush.

        Raises DiskFull, StoreError where the spool cannot be written or a row does not fit its table.
        """
        for table, row in records:
            if table not in self._columns:
                raise StoreError(f"no table raw.{table}")
            if unknown := row.keys() - self._columns[table].keys():
                raise StoreError(f"raw.{table} has no column {', '.join(sorted(unknown))}")
        self._spool.append(records)
        with self._lock:
            self._pending += len(records)
            due = time.monotonic() - self._flushed_at >= self.flush_seconds
            if self._pending >= self.flush_rows or due:
                self.flush()

    def flush(self, *, wait_seconds: float = 0) -> int:
        """Bring DuckDB level with the spool; rows still waiting (0: none). Never raises on a lock or a full disk."""
        with self._lock:
            self._flushed_at = time.monotonic()
            if self._pending == 0:
                return 0
            try:
                with _writer(self.path, wait_seconds=wait_seconds) as con:
                    ingest(con, self._spool.folder)
                    self._flushes += 1
                    if self._flushes % CHECKPOINT_EVERY == 0:
                        con.execute("checkpoint")
            except (StoreLocked, DiskFull):
                return self._pending
            self._pending = 0
            return 0

    def close(self) -> None:
        """Flush, waiting for a lock, and checkpoint. Raises StoreLocked where rows must stay in the spool."""
        with self._lock:
            waiting = self.flush(wait_seconds=LOCK_WAIT_SECONDS)
            self._spool.close()
            if waiting:
                raise StoreLocked(
                    f"{waiting} rows wait in {self._spool.folder} because {self.path} could not be written; nothing "
                    f"is lost: free it, then run: icl doctor --db {self.path}"
                )
            with contextlib.suppress(StoreLocked), _writer(self.path, wait_seconds=1) as con:
                con.execute("checkpoint")

    def rows(self, sql: str, params: Sequence[object] = ()) -> Rows:
        """Read inside a run: flush first, then query; waits for a lock."""
        self.flush(wait_seconds=LOCK_WAIT_SECONDS)
        return query(self.path, sql, params)


def query(
    path: Path, sql: str, params: Sequence[object] = (), *, timeout: float | None = None, unsafe: bool = False
) -> Rows:
    """Read a database without being able to change it, read other files or load code; waits for a lock.

    ``timeout`` is in seconds; ``unsafe`` allows other files and extensions, the database stays read-only.
    Raises StoreLocked after a minute, StoreError on bad SQL, a timeout, or a file that is no database.
    """
    if not path.exists():
        raise StoreError(f"there is no database {path}; `icl run` makes one, --db names another")
    config = {} if unsafe else _SAFE
    with _connected(path, read_only=True, config=config, wait_seconds=LOCK_WAIT_SECONDS) as con:
        timer = threading.Timer(timeout, con.interrupt) if timeout else None
        if timer:
            timer.start()
        try:
            result = con.execute(sql, list(params))
            description = result.description or []
            return Rows([d[0] for d in description], [str(d[1]) for d in description], result.fetchall())
        except duckdb.InterruptException as error:
            raise StoreError(f"the query took longer than {timeout:g} s; narrow it or raise --timeout") from error
        except duckdb.Error as error:
            raise StoreError(_first_line(error)) from error
        finally:
            if timer:
                timer.cancel()


def ids(path: Path, table: str, column: str) -> set[str]:
    """Values of one column of raw.<table>: those in the database and those that still wait in its spool."""
    offsets: dict[str, int] = {}
    found: set[str] = set()
    if path.exists():
        with _connected(path, read_only=True, config=_SAFE, wait_seconds=LOCK_WAIT_SECONDS) as con:
            found.update(str(key) for (key,) in con.execute(f'select distinct "{column}" from raw."{table}"').fetchall())
            offsets = dict(con.execute("select file, ingested_bytes from raw.spool_files").fetchall())
    for file in spool.files(spool_folder(path)):
        for line in spool.lines(file, offsets.get(file.name, 0)):
            found.update(str(r.row[column]) for r in line.records if r.table == table)
    return found


def ingest(con: duckdb.DuckDBPyConnection, folder: Path) -> int:
    """Insert every complete spool line that this database has not seen; rows read."""
    columns = _columns(con)
    offsets = dict(con.execute("select file, ingested_bytes from raw.spool_files").fetchall())
    count = 0
    for file in spool.files(folder):
        start = offsets.get(file.name, 0)
        if file.stat().st_size <= start:
            continue
        batch: list[spool.Record] = []
        end = start
        for line in spool.lines(file, start):
            batch.extend(line.records)
            end = line.end
            if len(batch) >= BATCH_ROWS:
                _insert(con, columns, batch, file.name, end)
                count, batch = count + len(batch), []
        if end > start:
            _insert(con, columns, batch, file.name, end)
            count += len(batch)
    return count


def _insert(
    con: duckdb.DuckDBPyConnection,
    columns: Mapping[str, Mapping[str, str]],
    records: Sequence[spool.Record],
    file: str,
    end: int,
) -> None:
    tables: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        tables.setdefault(record.table, []).append(record.row)
    con.begin()
    try:
        for table, rows in tables.items():
            types = columns[table]
            values = [[_cell(row.get(name), kind) for row in rows] for name, kind in types.items()]
            # one list a column: 1,000 responses in 0.06 s; executemany took 5.5 s
            select = ", ".join(f"unnest(?::{kind}[])" for kind in types.values())
            con.execute(f"insert into raw.{table} select {select} on conflict do nothing", values)
        con.execute("insert or replace into raw.spool_files values (?, ?)", [file, end])
        con.commit()
    except BaseException:
        con.rollback()
        raise


def _cell(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "JSON":
        return json.dumps(value)
    if isinstance(value, str):
        return value.replace("\0", "\ufffd") if "\0" in value else value
    return value


def _columns(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    tables: dict[str, dict[str, str]] = {}
    for table, column, kind in con.execute(
        "select table_name, column_name, data_type from duckdb_columns() where schema_name = 'raw' "
        "order by table_name, column_index"
    ).fetchall():
        tables.setdefault(table, {})[column] = kind
    return tables


@contextlib.contextmanager
def _writer(path: Path, *, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
    """A short read-write connection to a database of this version."""
    with _connected(path, read_only=False, config=_WRITER, wait_seconds=wait_seconds) as con:
        con.execute("pragma disable_checkpoint_on_shutdown")
        _upgrade(con, path)
        yield con


def _upgrade(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    con.execute("create schema if not exists raw")
    con.execute("create table if not exists raw.schema_migrations (number integer primary key, name varchar)")
    done = {number for (number,) in con.execute("select number from raw.schema_migrations").fetchall()}
    steps = schema.migrations()
    if done and max(done) > len(steps):
        raise StoreError(f"{path} was written by a newer icl-local (schema {max(done)}); upgrade icl-local")
    for step in steps:
        if step.number not in done:
            con.begin()
            con.execute(step.sql)
            con.execute("insert into raw.schema_migrations values (?, ?)", [step.number, step.name])
            con.commit()
    stored = con.execute("select value from raw.store_meta where name = 'fingerprint'").fetchone()
    if stored is None or stored[0] != schema.fingerprint():
        con.begin()
        for view in schema.views():
            con.execute(view.sql)
        for table, rows in schema.published().items():
            con.execute(f"delete from raw.{table}")
            for row in rows:
                marks = ", ".join("?" * len(row))
                con.execute(f"insert into raw.{table} ({', '.join(row)}) values ({marks})", list(row.values()))
        con.execute("insert or replace into raw.store_meta values ('fingerprint', ?)", [schema.fingerprint()])
        con.commit()


@contextlib.contextmanager
def _connected(
    path: Path, *, read_only: bool, config: Mapping[str, Any], wait_seconds: float
) -> Iterator[duckdb.DuckDBPyConnection]:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            con = duckdb.connect(str(path), read_only=read_only, config=dict(config))
            break
        except duckdb.Error as error:
            message = str(error)
            if "lock on file" not in message and "different configuration" not in message:
                raise StoreError(f"{path}: {_first_line(error)}") from error
            if time.monotonic() >= deadline:
                raise StoreLocked(f"{path} is held by another process ({_holder(message)})") from error
            time.sleep(random.uniform(0.005, 0.05))
    try:
        yield con
    finally:
        con.close()


def _holder(message: str) -> str:
    found = re.search(r"held in (\S+) \(PID (\d+)\)", message)
    return f"{os.path.basename(found[1])}, PID {found[2]}" if found else "in this process"


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
