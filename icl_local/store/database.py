"""The one door to DuckDB: open, migrate, ingest the spool, read safely. The only importer of duckdb.

A row is safe once the spool has it; DuckDB follows in short read-write connections, so other programs can open
the file between two flushes. Every insert is keyed, and how far a spool file is ingested is written in the
transaction of its rows: whatever is killed, locked, full or damaged, the next open brings the database level
with the spool. What keeps a database in order (snapshot, forget, check, rebuild) is icl_local.store.upkeep.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from icl_local import resources
from icl_local.exceptions import DiskFull, StoreError, StoreLocked
from icl_local.files import draft_file
from icl_local.store import ingest, schema, spool

Connection = duckdb.DuckDBPyConnection

STORAGE_VERSION = "v1.4.0"  # what older DuckDB clients read
LOCK_WAIT_SECONDS = 60.0
LOCK_RETRY_SECONDS = 0.5  # a flush that failed is not tried again before
FOLD_ABOVE = 32  # spool files
CHECKPOINT_EVERY = 10  # flushes: a checkpoint holds readers up, a long log slows opening

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
DATABASE_ERRORS = (duckdb.Error,)  # what a statement on a connection of ours may raise
_ROW_FAULTS = (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException, ValueError, TypeError)
_WRITES = re.compile("COPY|EXECUTE|INSERT|UPDATE|DELETE|MERGE_INTO|CREATE|ATTACH|EXPORT", re.IGNORECASE)
_EXPLAIN = re.compile(r"\s*explain\s+(analyze\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Rows:
    """The answer to a query: column names, their DuckDB types, and the rows."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]

    def dicts(self) -> list[dict[str, Any]]:
        """Return each row by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def now() -> str:
    """The time for a row: ISO 8601, UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def spool_folder(path: Path) -> Path:
    """The spool of a database: ``<db>.spool`` beside it."""
    return path.with_name(path.name + ".spool")


class Store:
    """The writer's side of one database; a context manager, safe to use from several threads.

    Opening makes or migrates the database and ingests what a crash left. A flush is tried after ``flush_rows``
    rows or ``flush_seconds``; raises StoreLocked where another process holds the file for a minute.
    """

    def __init__(self, path: Path, *, flush_rows: int = 64, flush_seconds: float = 5.0) -> None:
        self.path = path
        self.flush_rows = flush_rows
        self.flush_seconds = flush_seconds
        self._spool = spool.Spool(spool_folder(path))
        self._lock = threading.RLock()
        self._pending = 0
        self._flushes = 0
        self._flushed_at = time.monotonic()
        self._problem: StoreError | None = None
        with writer(path, wait_seconds=LOCK_WAIT_SECONDS) as con:
            self._columns = ingest.columns(con)
            bring_level(con, path)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with contextlib.suppress(StoreError) if kind else contextlib.nullcontext():
            self.close()

    def put(self, records: Sequence[tuple[str, Mapping[str, object]]]) -> None:
        """Acknowledge rows: on return all of them are in the spool; DuckDB gets them at the next flush.

        Raises DiskFull or StoreError where the spool cannot be written or a row does not fit its table; then
        none of ``records`` is kept.
        """
        for table, row in records:
            self._check(table, row)
        self._spool.append(records)
        with self._lock:
            self._pending += len(records)
            waited = time.monotonic() - self._flushed_at
            if self._problem is not None:
                due = waited >= LOCK_RETRY_SECONDS
            else:
                due = self._pending >= self.flush_rows or waited >= self.flush_seconds
            if due:
                self.flush()

    def flush(self, *, wait_seconds: float = 0) -> int:
        """Bring DuckDB level with the spool; returns rows still waiting (0: none).

        A database that is locked, full or damaged is no error here: rows wait in the spool, ``close`` tells.
        """
        return self._sync(wait_seconds=wait_seconds, checkpoint=(self._flushes + 1) % CHECKPOINT_EVERY == 0)

    def close(self) -> None:
        """Flush, waiting for a lock, and checkpoint. Raises StoreError where rows must stay in the spool."""
        with self._lock:
            waiting = self._sync(wait_seconds=LOCK_WAIT_SECONDS, checkpoint=self._flushes > 0 or self._pending > 0)
            self._spool.close()
            if waiting and self._problem:
                raise type(self._problem)(
                    f"{self._problem}; {waiting} rows are safe in {self._spool.folder}, and "
                    f"`icl status --db {self.path}` brings them in"
                )

    def rows(self, sql: str, params: Sequence[object] = ()) -> Rows:
        """Read within a run, its own rows included; waits for a lock."""
        self.flush(wait_seconds=LOCK_WAIT_SECONDS)
        return query(self.path, sql, params)

    def named(self, name: str, params: Sequence[object] = ()) -> Rows:
        """Run db/queries/<name>.sql as ``rows`` does."""
        return self.rows(sql_text(name), params)

    def _sync(self, *, wait_seconds: float, checkpoint: bool) -> int:
        with self._lock:
            self._flushed_at = time.monotonic()
            if not self._pending and not checkpoint:
                return 0
            try:
                with writer(self.path, wait_seconds=wait_seconds) as con:
                    ingest.Ingest(con, self._spool.folder, _ROW_FAULTS).run()
                    self._pending, self._problem = 0, None
                    self._flushes += 1
                    if checkpoint:
                        con.execute("checkpoint")
            except StoreError as error:
                self._problem = error
            return self._pending

    def _check(self, table: str, row: Mapping[str, object]) -> None:
        """A row that would not go into DuckDB must not be acknowledged."""
        if table not in self._columns:
            raise StoreError(f"there is no table raw.{table}")
        known = self._columns[table]
        if unknown := row.keys() - known.keys():
            raise StoreError(f"raw.{table} has no column {', '.join(sorted(unknown))}")
        if lacking := [name for name, column in known.items() if column.required and row.get(name) is None]:
            raise StoreError(f"a row of raw.{table} lacks {', '.join(lacking)}")


def query(
    path: Path,
    sql: str,
    params: Sequence[object] = (),
    *,
    timeout: float | None = None,
    unsafe: bool = False,
    limit: int | None = None,
) -> Rows:
    """Read a database with one ``select`` that cannot change it, read other files or load code.

    Waits for a lock. ``timeout`` is in seconds, ``limit`` rows are fetched. ``unsafe`` allows every statement,
    other files and extensions; the database itself stays read-only. Raises StoreLocked after a minute,
    StoreError on refused or wrong SQL, a timeout, or a file that is no database of ours.
    """
    with reader(path, unsafe=unsafe) as con:
        timer = threading.Timer(timeout, con.interrupt) if timeout is not None else None
        try:
            if timer:
                timer.start()
            if not unsafe:
                _only_reads(con, sql, params)
            result = con.execute(sql, list(params))
            description = result.description or []
            rows = result.fetchall() if limit is None else result.fetchmany(limit)
            return Rows([d[0] for d in description], [str(d[1]) for d in description], rows)
        except duckdb.InterruptException as error:
            raise StoreError(f"the query took longer than {timeout:g} s; narrow it or raise --timeout") from error
        finally:
            if timer:
                timer.cancel()


def named(path: Path, name: str, params: Sequence[object] = (), *, unsafe: bool = False) -> Rows:
    """Run db/queries/<name>.sql as ``query`` does."""
    return query(path, sql_text(name), params, unsafe=unsafe)


def sql_text(name: str) -> str:
    """Return the text of db/queries/<name>.sql."""
    return resources.read_text("db", f"queries/{name}.sql")


def ids(path: Path, table: str, column: str) -> set[str]:
    """Values of one column of raw.<table> that need not be made: stored, waiting in the spool, or forgotten."""
    found: set[str] = set()
    offsets: dict[str, int] = {}
    if path.exists():
        with reader(path) as con:
            stored = con.execute(
                f'select distinct "{column}" from raw."{table}" where "{column}" is not null union '
                f"select key from raw.tombstones where table_name = ? and active and ? = any(?)",
                [table, column, list(ingest.FORGETTABLE.values())],
            )
            found.update(str(key) for (key,) in stored.fetchall())
            offsets = ingest.offsets(con)
    for file in spool.files(spool_folder(path)):
        for line in spool.lines(file, offsets.get(file.name, 0)):
            found.update(str(r.row[column]) for r in line.records if r.table == table and r.row.get(column) is not None)
    return found


def tables(path: Path) -> dict[str, list[str]]:
    """Columns of every table that holds a user's rows, by table name, in their order."""
    with reader(path) as con:
        return {table: list(found) for table, found in ingest.columns(con).items() if table not in schema.INTERNAL}


def read_rows(path: Path, table: str, *, batch: int = 1_000) -> Iterator[list[dict[str, Any]]]:
    """All rows of raw.<table> as ``Store.put`` takes them: timestamps ISO 8601 in UTC, json columns as objects."""
    with reader(path) as con:
        yield from table_rows(con, table, ingest.columns(con)[table], batch=batch)


def table_rows(
    con: Connection, table: str, columns: Mapping[str, ingest.Column], *, batch: int = 1_000
) -> Iterator[list[dict[str, Any]]]:
    """read_rows over an open connection, for callers that read many tables."""
    result = con.execute(f'select {", ".join(columns)} from raw."{table}"')
    while found := result.fetchmany(batch):
        yield [
            {name: _for_spool(value, columns[name].kind) for name, value in zip(columns, row, strict=True)}
            for row in found
        ]


def export_parquet(path: Path, sql: str, out: Path, params: Sequence[object] = ()) -> int:
    """Write the rows of a ``select`` to a Parquet file, whole or not at all; returns how many."""
    with draft_file(out) as draft, reader(path, unsafe=True) as con:
        _only_reads(con, sql, params)
        target = str(draft).replace("'", "''")
        copy = f"copy ({sql.rstrip().rstrip(';')}\n) to '{target}' (format parquet)"
        written = con.execute(copy, list(params)).fetchone()
    return int(written[0]) if written else 0


@contextlib.contextmanager
def reader(path: Path, *, unsafe: bool = False) -> Iterator[Connection]:
    """A read-only connection to a database that is level with its spool, waiting for a lock.

    What a dead process left in the spool is ingested first where the file can be written. ``unsafe`` lets the
    connection reach other files. Raises StoreLocked after a minute.
    """
    if not path.exists() and not spool.files(spool_folder(path)):
        raise StoreError(f"there is no database {path}; `icl run` makes one, --db names another")
    config = {"python_enable_replacements": False} if unsafe else _SAFE
    level = False
    while True:
        try:
            if not path.exists() and not level:
                raise _Behind(f"{path} is gone")
            with _connected(path, read_only=True, config=config, wait_seconds=LOCK_WAIT_SECONDS) as con:
                if not level and _behind(con, path):
                    raise _Behind(f"{path} is behind its spool")
                yield con
                return
        except _Behind:
            if level:
                raise
            level = True
            with contextlib.suppress(StoreError), writer(path, wait_seconds=1) as con:  # else read it as it is
                bring_level(con, path)


@contextlib.contextmanager
def writer(path: Path, *, wait_seconds: float) -> Iterator[Connection]:
    """A short read-write connection to a database of this version, made or migrated where need be.

    A log (WAL) that cannot be replayed is set aside: its rows are in the spool, and so come in again.
    """
    if not path.exists():
        _create(path)
    with contextlib.ExitStack() as stack:
        try:
            con = stack.enter_context(_connected(path, read_only=False, config=_WRITER, wait_seconds=wait_seconds))
        except _Behind:
            _set_log_aside(path)
            con = stack.enter_context(_connected(path, read_only=False, config=_WRITER, wait_seconds=wait_seconds))
        con.execute("pragma disable_checkpoint_on_shutdown")
        schema.upgrade(con, path)
        yield con


def bring_level(con: Connection, path: Path, *, fold: bool = False) -> None:
    """Cut torn lines of the spool of ``path``, ingest what waits there, and fold its files where they are many."""
    folder = spool_folder(path)
    spool.cut_torn(folder)
    work = ingest.Ingest(con, folder, _ROW_FAULTS)
    work.run()
    if fold:
        work.fold()
    elif len(spool.files(folder)) > FOLD_ABOVE:
        with contextlib.suppress(StoreError):  # a full disk must not keep a database from opening
            work.fold()


class _Behind(StoreError):
    """The database lacks rows its spool has, views of this version, or a log that can be replayed."""


def _behind(con: Connection, path: Path) -> bool:
    """Whether a writer should come first: other views, or lines of a finished spool file not yet ingested."""
    if schema.outdated(con, path):
        return True
    read = ingest.offsets(con)
    waiting = [file for file in spool.files(spool_folder(path)) if file.stat().st_size > read.get(file.name, 0)]
    if not waiting:
        return False
    with spool.finished(spool_folder(path)) as finished:
        return any(file in finished for file in waiting)


def _create(path: Path) -> None:
    """Make a new database beside ``path`` and move it there whole: a kill leaves no half-made file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            draft_file(path, overwrite=False) as draft,  # another process may have just made it
            _connected(draft, read_only=False, config=_WRITER, wait_seconds=0) as con,
        ):
            schema.upgrade(con, path)
    except OSError as error:
        raise StoreError(f"cannot make {path}: {error.strerror}; check its folder") from error


def _set_log_aside(path: Path) -> None:
    """Rename a log that cannot be replayed to ``<log>.damaged-N``; one process at a time, and only if it still is."""
    folder = spool_folder(path)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        again = _connected(path, read_only=False, config=_WRITER, wait_seconds=LOCK_WAIT_SECONDS)
        with contextlib.suppress(_Behind), again:
            return
        for log in path.parent.glob(f"{path.name}.wal*"):
            if ".damaged-" not in log.name:
                log.rename(log.with_name(f"{log.name}.damaged-{secrets.token_hex(4)}"))
    finally:
        os.close(handle)


@contextlib.contextmanager
def _connected(path: Path, *, read_only: bool, config: Mapping[str, Any], wait_seconds: float) -> Iterator[Connection]:
    """An open connection; DuckDB's errors come out as StoreErrors that name the file."""
    deadline = time.monotonic() + wait_seconds
    with _private_files():
        while True:
            try:
                con = duckdb.connect(str(path), read_only=read_only, config=dict(config))
                break
            except duckdb.Error as error:
                told = _told(error, path)
                if not isinstance(told, StoreLocked) or time.monotonic() >= deadline:
                    raise told from error
                time.sleep(random.uniform(0.005, 0.05))  # two waiting processes must not stay in step
        try:
            yield con
        except duckdb.Error as error:
            raise _told(error, path) from error
        finally:
            con.close()


def _told(error: duckdb.Error, path: Path) -> StoreError:
    """DuckDB's error as one of ours: what is wrong, and what to do next."""
    message = str(error)
    if "lock on file" in message or "different configuration" in message or "file handle conflict" in message:
        holder = re.search(r"held in (\S+) \(PID (\d+)\)", message)
        by = f"{os.path.basename(holder[1])}, process {holder[2]}" if holder else "this process"
        return StoreLocked(f"{path} is held by {by}; close it there")
    if any(sign in message for sign in ("No space left", "File too large", "Disk quota")):
        return DiskFull(f"no space left for {path}; free some")
    if "replaying WAL" in message:
        return _Behind(f"the log of {path} is damaged; run: icl db doctor --repair --db {path}")
    if "'pytz' failed to import" in message:
        return StoreError("a timestamp with time zone cannot be read here; cast it in the query: ...::timestamp")
    if "not a valid DuckDB database" in message or "Is a directory" in message:
        return StoreError(f"{path} is not a DuckDB database; name another file with --db")
    if "database file with version number" in message:
        return StoreError(f"{path} was written by a newer DuckDB; run: pip install -U duckdb")
    if any(sign in message for sign in ("Corrupt", "Could not read enough bytes", "database has been invalidated")):
        return StoreError(f"{path} is damaged; its rows are in the spool, run: icl db doctor --repair --db {path}")
    return StoreError(" ".join(message.split("\n\nLINE ", 1)[0].split()))


def _only_reads(con: Connection, sql: str, params: Sequence[object] = ()) -> None:
    """Raise StoreError unless ``sql`` is one select (or explain of one) whose plan writes nothing.

    A read-only connection without access to files is not enough: DuckDB leaves the database's own file and log
    open to ``copy ... to``, 2.0 takes that within a ``with``, and a table function can run SQL hidden in JSON.
    """
    statements = con.extract_statements(sql)
    if len(statements) == 1 and statements[0].type == duckdb.StatementType.EXPLAIN:
        sql = _EXPLAIN.sub("", sql, count=1)
        statements = con.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise StoreError("only one select, from, with, show, describe or explain is run here; see --unsafe")
    plan = con.execute(f"explain (format json) {sql}", list(params)).fetchall()[0][1]
    writing = [name for name in _operators(json.loads(plan)) if _WRITES.search(name)]
    if writing:
        raise StoreError(f"a query may only read here, and this one would run {writing[0]}; see --unsafe")


def _operators(plan: Any) -> Iterator[str]:
    """Names of a physical plan's operators, from its JSON."""
    for node in plan if isinstance(plan, list) else [plan]:
        yield str(node["name"])
        yield from _operators(node.get("children", []))


def _for_spool(value: Any, kind: str) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).isoformat(timespec="microseconds")
    return json.loads(value) if kind == "JSON" and value is not None else value


_umask_lock = threading.Lock()
_umask_users = 0
_umask_before = 0


@contextlib.contextmanager
def _private_files() -> Iterator[None]:
    """Files made meanwhile are 0600: DuckDB makes its log whenever it likes, and takes no mode."""
    global _umask_users, _umask_before
    with _umask_lock:
        if _umask_users == 0:
            _umask_before = os.umask(0o077)
        _umask_users += 1
    try:
        yield
    finally:
        with _umask_lock:
            _umask_users -= 1
            if _umask_users == 0:
                os.umask(_umask_before)
