"""Connections to a database: open, migrate, ingest the spool, read safely.

DuckDB follows the spool in short read-write connections, so that other programs can open the file between two flushes.
Its checkpoint writes over blocks that the file still needs: a kill there damages the file, which is then made again.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from icl_local import resources
from icl_local.exceptions import InputError, StoreError, StoreLocked
from icl_local.files import DATABASE_MARK, database_mark, draft_file
from icl_local.operating_system import locked, private_files
from icl_local.store import ingest, schema, spool
from icl_local.store.faults import MISSING, Behind, Damaged, describe, not_a_database
from icl_local.store.ingest import Connection
from icl_local.store.read_only import only_reads
from icl_local.store.selection import RunNamed, Selection
from icl_local.store.spool import spool_folder
from icl_local.wording import counted, shell

STORAGE_VERSION = "v1.4.0"  # older DuckDB clients can read it
LOCK_WAIT_SECONDS = 60.0
_QUIET_SECONDS = 2.0  # of waiting for a lock
_STUCK_SECONDS = 2.0  # after the interrupt of a query
LOCK_RETRY_SECONDS = 0.5  # pause after a failed flush
FOLD_ABOVE = 32  # spool files
CHECKPOINT_EVERY = 10  # flushes: a checkpoint delays readers, a long log slows opening
_log = logging.getLogger(__name__)

_OWN_CODE = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
_WRITER = {**_OWN_CODE, "storage_compatibility_version": STORAGE_VERSION}
_SAFE = {
    **_OWN_CODE,
    "enable_external_access": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
    "lock_configuration": True,
}
_INTEGERS = {"INTEGER": 1 << 31, "BIGINT": 1 << 63}  # type -> the first number that it cannot hold
DATABASE_ERRORS = (duckdb.Error,)  # raised by statements on these connections


@dataclass(frozen=True)
class Rows:
    """Result of a query: column names, their DuckDB types, and the rows."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]

    def dicts(self) -> list[dict[str, Any]]:
        """Return each row by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def records(self) -> list[dict[str, Any]]:
        """Return each row as ``Store.put`` takes it: timestamps ISO 8601 in UTC, json columns as objects."""
        return [
            {name: _for_spool(value, kind) for name, kind, value in zip(self.columns, self.types, row, strict=True)}
            for row in self.rows
        ]


def now() -> str:
    """Return the time for a row: ISO 8601, UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def quoted(path: Path) -> str:
    """Return a path as a text of SQL."""
    return "'" + str(path).replace("'", "''") + "'"


class Store:
    """Writer of one database; a context manager, safe to use from several threads.

    Opening creates or migrates the database and ingests what a crash left. A flush is tried after ``flush_rows``
    rows or ``flush_seconds``. Raises StoreLocked if another process holds the file for a minute.
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
        new = not path.exists()
        with writer(path, wait_seconds=LOCK_WAIT_SECONDS) as con:
            self._columns = ingest.columns(con)
            ingest_spool(con, path)
        if new:
            spool.mark_complete(spool_folder(path))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with contextlib.suppress(StoreError) if kind else contextlib.nullcontext():
            self.close()

    def put(self, records: Sequence[tuple[str, Mapping[str, object]]]) -> None:
        """Append rows (table, row) to the spool, all or none; DuckDB gets them at the next flush.

        A row without ``created_at`` gets the time where its table has the column. Raises DiskFull or StoreError if the
        spool cannot be written or a row does not fit its table.
        """
        created_at = now()
        rows = [(table, self._complete(table, row, created_at)) for table, row in records]
        self._spool.append(rows)
        with self._lock:
            self._pending += len(records)
            waited = time.monotonic() - self._flushed_at
            if self._problem is not None:
                due = waited >= LOCK_RETRY_SECONDS
            else:
                due = self._pending >= self.flush_rows or waited >= self.flush_seconds
            if due:
                self.flush()

    def flush(self, *, wait_seconds: float = 0, checkpoint: bool | None = None) -> int:
        """Ingest the spool, by default with a checkpoint now and then; return how many rows still wait there.

        A locked, full or damaged database is not an error here: rows wait in the spool, and ``close`` raises.
        """
        with self._lock:
            self._flushed_at = time.monotonic()
            if checkpoint is None:
                checkpoint = (self._flushes + 1) % CHECKPOINT_EVERY == 0
            if not self._pending and not checkpoint:
                return 0
            try:
                with writer(self.path, wait_seconds=wait_seconds) as con:
                    ingest.Ingest(con, self._spool.folder, self._columns).run()
                    self._pending, self._problem = 0, None
                    self._flushes += 1
                    if checkpoint:
                        con.execute("checkpoint")
            except StoreError as error:
                self._problem = error
            return self._pending

    def close(self) -> None:
        """Flush, waiting for a lock, and checkpoint. Raises StoreError if rows must stay in the spool."""
        with self._lock:
            waiting = self.flush(wait_seconds=LOCK_WAIT_SECONDS, checkpoint=self._flushes > 0 or self._pending > 0)
            self._spool.close()
            if waiting and self._problem:
                raise type(self._problem)(
                    f"{self._problem}; {counted(waiting, 'row is', 'rows are')} safe in {self._spool.folder}, and "
                    f"`icl status --db {shell(self.path)}` brings them in"
                )

    def rows(self, sql: str, params: Sequence[object] = ()) -> Rows:
        """Run a query within a run, on its own rows too; waits for a lock."""
        self.flush(wait_seconds=LOCK_WAIT_SECONDS)
        return query(self.path, sql, params)

    def named(self, name: str, params: Sequence[object] = ()) -> Rows:
        """Run db/queries/<name>.sql within a run, on its own rows too; waits for a lock."""
        self.flush(wait_seconds=LOCK_WAIT_SECONDS)
        return named(self.path, name, params)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the file open between the queries of a ``with``, in which nothing is put; waits for a lock."""
        self.flush(wait_seconds=LOCK_WAIT_SECONDS)
        with reader(self.path):
            yield

    def _complete(self, table: str, row: Mapping[str, object], created_at: str) -> Mapping[str, object]:
        """Return the row with its time. Raises StoreError for one that DuckDB would refuse."""
        if table not in self._columns:
            raise StoreError(f"raw.{table} is not a table")
        known = self._columns[table]
        if "created_at" in known:
            row = {"created_at": created_at, **row}
        if unknown := row.keys() - known.keys():
            raise StoreError(f"raw.{table} has no column {', '.join(sorted(unknown))}")
        if lacking := [name for name, column in known.items() if column.required and row.get(name) is None]:
            raise StoreError(f"a row of raw.{table} lacks {', '.join(lacking)}")
        for name, value in row.items():
            limit = _INTEGERS.get(known[name].kind)
            if limit is not None and isinstance(value, int) and not -limit <= value < limit:
                raise StoreError(f"raw.{table}.{name} cannot hold {value}; the largest number there is {limit - 1:,}")
        return row


def query(
    path: Path,
    sql: str,
    params: Sequence[object] = (),
    *,
    timeout: float | None = None,
    unsafe: bool = False,
    limit: int | None = None,
    on_stuck: Callable[[], None] = lambda: None,
) -> Rows:
    """Run one ``select`` that cannot change the database, read other files or load code.

    Waits for a lock. ``timeout`` is in seconds, ``limit`` in rows. ``unsafe`` allows every statement, other files
    and extensions; the database itself stays read-only. ``on_stuck`` is called in a thread of its own if the query
    goes on after the timeout: DuckDB does not interrupt one function over one large value. Raises StoreLocked after
    a minute, StoreError for refused or wrong SQL, a timeout, or a file that is not a database of this package.
    """
    with reader(path, unsafe=unsafe) as con:
        ended = threading.Event()

        def stop() -> None:
            con.interrupt()
            if not ended.wait(_STUCK_SECONDS):
                on_stuck()

        timer = threading.Timer(timeout, stop) if timeout is not None else None
        try:
            if timer:
                timer.start()
            if not unsafe:
                only_reads(con, sql, params)
            return fetch(con.execute(sql, list(params)), limit=limit)
        except duckdb.InterruptException as error:
            raise StoreError(f"the query took longer than {timeout:g} s; narrow it or raise --timeout") from error
        finally:
            ended.set()
            if timer:
                timer.cancel()


def fetch(result: Connection, *, limit: int | None = None) -> Rows:
    """Return the rows of an executed statement, at most ``limit``."""
    description = result.description or []
    rows = result.fetchall() if limit is None else result.fetchmany(limit)
    return Rows([column[0] for column in description], [str(column[1]) for column in description], rows)


def named(path: Path, name: str, params: Sequence[object] = ()) -> Rows:
    """Run db/queries/<name>.sql, which only reads; waits for a lock as ``query`` does."""
    with reader(path) as con:
        return fetch(con.execute(sql_text(name), list(params)))


def selected(path: Path, name: str, chosen: Selection, params: Sequence[object] = ()) -> Rows:
    """Run db/queries/<name>.sql on the responses that a user selects; raises UnknownName for a name without any."""
    with reader(path):  # both queries share its open file
        return named(path, name, [chosen.stored(partial(named, path)), *params])


def sql_text(name: str) -> str:
    """Return the text of db/queries/<name>.sql."""
    return resources.read_text("db", f"queries/{name}.sql")


def refuse_other_texts(run_named: RunNamed, dataset: str, language: str, texts: Mapping[str, str]) -> None:
    """Raise InputError where a query of ``texts`` (by id) has stored responses to another text.

    Within a cell a query is one text; an edited query set is another set.
    """
    found = run_named("other_texts", [list(texts), list(texts.values()), dataset, language]).rows
    if found:
        raise InputError(
            f"query {found[0][0]!r} of query set {dataset} in {language!r} is stored with another text; an edited set "
            "needs a name of its own: give --dataset NAME"
        )


def exists(path: Path) -> bool:
    """Return whether there is a database, or a spool from which it can be rebuilt."""
    return path.exists() or bool(spool.files(spool_folder(path)))


def lost(path: Path) -> bool:
    """Return whether a database was made at ``path`` and both its file and its rows in the spool are gone."""
    return not exists(path) and spool.complete_mark(spool_folder(path)).exists()


def ids(path: Path, table: str, column: str) -> set[str]:
    """Return the values of a column of raw.<table> that are stored, waiting in the spool, or forgotten."""
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


def require(path: Path) -> None:
    """Raise StoreError where neither a database nor its spool exists, so that a mistyped name makes no database."""
    if lost(path):
        raise StoreError(
            f"{path} is gone and its spool holds no rows: use a copy of both, or delete {spool_folder(path)} to start "
            "again"
        )
    if not exists(path):
        raise StoreError(
            f"{path} does not exist; `icl run`, `icl import` and `icl translate run` make a database, --db names "
            "another"
        )


@contextlib.contextmanager
def only_one(path: Path, name: str, on_held: Callable[[], None]) -> Iterator[None]:
    """Hold the lock ``name`` of a database; where another process has it, call ``on_held``, then wait.

    The lock of a process that ends, killed or not, is free. Raises StoreError where the spool cannot be written.
    """
    lock = spool_folder(path) / f"{name}.lock"
    with contextlib.ExitStack() as held:
        try:
            lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                held.enter_context(locked(lock, wait=False))
            except TimeoutError:
                on_held()
                held.enter_context(locked(lock))
        except OSError as error:
            raise StoreError(f"cannot write to {lock.parent}: {error.strerror}; check its permissions") from error
        yield


@contextlib.contextmanager
def reader(path: Path, *, unsafe: bool = False) -> Iterator[Connection]:
    """Yield a read-only connection, waiting for a lock; the spool of dead processes is ingested first if possible.

    Opening takes some 30 ms of DuckDB's time; within the ``with`` of another such connection it takes one.
    ``unsafe`` lets the connection reach other files. Raises StoreLocked after a minute.
    """
    require(path)
    config = {"python_enable_replacements": False} if unsafe else _SAFE
    tried = opened = False
    problem: StoreError | None = None  # why it is read as it is
    while True:
        try:
            if not path.exists() and not tried:
                raise Behind(f"{path} is gone")
            with _connected(path, read_only=True, config=config, wait_seconds=LOCK_WAIT_SECONDS) as con:
                if not tried and _behind(con, path):
                    raise Behind(f"{path} is behind its spool")
                opened = True
                yield con
                return
        except Behind:
            if tried or opened:
                raise
            tried = True
            try:
                with writer(path, wait_seconds=1) as con:
                    ingest_spool(con, path)
            except StoreError as error:
                problem = error
        except StoreError as error:
            if problem is not None and isinstance(error.__cause__, MISSING):
                raise StoreError(f"{error}; its views may be of another version, since {problem}") from error
            raise


@contextlib.contextmanager
def writer(path: Path, *, wait_seconds: float) -> Iterator[Connection]:
    """Yield a read-write connection; creates or migrates the database if necessary.

    A log (WAL) that cannot be replayed is renamed: its rows are in the spool and are ingested again. So is a damaged
    file whose rows are all in the spool.
    """
    if not path.exists():
        _create(path)
    opened = partial(_connected, path, read_only=False, config=_WRITER, wait_seconds=wait_seconds)
    again = False
    with contextlib.ExitStack() as stack:
        try:
            con = stack.enter_context(opened())
        except Behind as problem:
            again = isinstance(problem, Damaged)
            if again and not spool.complete_mark(spool_folder(path)).exists():
                raise
            _set_aside(path, ("", ".wal*") if again else (".wal*",))
            if not path.exists():
                _create(path)
            con = stack.enter_context(opened())
        con.execute("pragma disable_checkpoint_on_shutdown")
        schema.upgrade(con, path)
        if again:
            ingest_spool(con, path)
        yield con


def ingest_spool(con: Connection, path: Path, *, fold: bool = False) -> None:
    """Cut torn lines of the spool of ``path``, ingest what waits there, and fold its files if they are many."""
    folder = spool_folder(path)
    spool.cut_torn(folder)
    work = ingest.Ingest(con, folder, ingest.columns(con))
    work.run()
    if fold:
        work.fold()
    elif len(spool.files(folder)) > FOLD_ABOVE:
        with contextlib.suppress(StoreError):  # a full disk must not keep a database from opening
            work.fold()


def _behind(con: Connection, path: Path) -> bool:
    """Return whether a writer must open first: other views, responses without a cell, spool files not read."""
    if schema.outdated(con, path) or ingest.lacks_cells(con):
        return True
    read = ingest.offsets(con)
    waiting = [file for file in spool.files(spool_folder(path)) if file.stat().st_size > read.get(file.name, 0)]
    if not waiting:
        return False
    with spool.finished(spool_folder(path)) as finished:
        return any(file in finished for file in waiting)


def _create(path: Path) -> None:
    """Create a new database beside ``path`` and rename it, so that a kill leaves no incomplete file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_file(path, overwrite=False) as draft:  # another process may have just made it
            draft.touch()  # raises OSError if no file can have the name
            draft.unlink()
            with _connected(draft, read_only=False, config=_WRITER, wait_seconds=0) as con:
                schema.upgrade(con, path)
    except OSError as error:
        raise StoreError(f"cannot create {path}: {error.strerror}; check its folder") from error


def _set_aside(path: Path, endings: Sequence[str]) -> None:
    """Rename the files of a database that still cannot be opened to ``<file>.damaged-N``; one process at a time."""
    folder = spool_folder(path)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(folder / "log.lock"):
        again = _connected(path, read_only=False, config=_WRITER, wait_seconds=LOCK_WAIT_SECONDS)
        with contextlib.suppress(Behind), again:
            return
        for ending in endings:
            for file in path.parent.glob(glob.escape(path.name) + ending):
                if ".damaged-" not in file.name:
                    file.rename(file.with_name(f"{file.name}.damaged-{secrets.token_hex(4)}"))


@contextlib.contextmanager
def _connected(path: Path, *, read_only: bool, config: Mapping[str, Any], wait_seconds: float) -> Iterator[Connection]:
    """Yield an open connection; raises DuckDB's errors as StoreErrors that name the file."""
    if database_mark(path) not in (None, DATABASE_MARK):  # DuckDB would open other kinds by its extensions
        raise not_a_database(path)
    started, said = time.monotonic(), False
    with private_files():
        while True:
            try:
                con = duckdb.connect(str(path), read_only=read_only, config=dict(config))
                break
            except duckdb.Error as error:
                described = describe(error, path)
                waited = time.monotonic() - started
                if not isinstance(described, StoreLocked) or waited >= wait_seconds:
                    raise described from error
                if waited >= _QUIET_SECONDS and not said:
                    _log.warning("%s; waiting for it up to %g s", described, wait_seconds)
                    said = True
                time.sleep(random.uniform(0.005, 0.05))  # two waiting processes must not stay in step
        try:
            yield con
        except duckdb.Error as error:
            raise describe(error, path) from error
        finally:
            con.close()


def _for_spool(value: Any, kind: str) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).isoformat(timespec="microseconds")
    return json.loads(value) if kind == "JSON" and value is not None else value
