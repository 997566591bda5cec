"""What keeps a database in order: copy it, forget rows, find damage, rebuild it, bring detections up to date."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icl_local import detect
from icl_local.exceptions import InputError, StoreError, StoreLocked
from icl_local.files import draft_file
from icl_local.store import database, ingest, schema, spool

_BATCH = 500


@dataclass(frozen=True)
class Finding:
    """One thing `icl db doctor` saw in a database; ``damage`` where something is lost or out of step."""

    message: str
    damage: bool


@dataclass(frozen=True)
class Rebuilt:
    """A database made anew from its spool.

    ``rows``: by table; ``adopted``: rows only the old file held, now in the spool too; ``kept_aside``: the old
    file; ``not_restored``: what could not be brought back, one sentence each.
    """

    rows: dict[str, int]
    adopted: int
    kept_aside: Path | None
    not_restored: tuple[str, ...]


def snapshot(path: Path, out: Path, *, overwrite: bool = False) -> int:
    """Write a consistent copy of a database to ``out``, whole or not at all, while a run goes on; returns its rows.

    The copy is of the present schema, has no spool, and is only readable by its owner.
    """
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; name another file or pass --force")
    with draft_file(out) as draft:
        with database.writer(draft, wait_seconds=0):
            pass
        with database.reader(path, unsafe=True) as con:
            count = _copy_rows(con, draft)
        Path(f"{out}.wal").unlink(missing_ok=True)
    return count


def matching(path: Path, *, condition: str | None = None, equal: Mapping[str, object] | None = None) -> list[str]:
    """response_id of the rows of view responses that meet a SQL condition and have the values of ``equal``.

    The condition stands alone, so an unbalanced one cannot widen what ``equal`` narrows.
    """
    equal = equal or {}
    wanted = " and ".join(["icl_asked", *(f"{column} = ?" for column in equal)])
    asked = f"select *, ({condition or 'true'}\n) as icl_asked from main.responses"
    found = database.query(path, f"select response_id from ({asked}) where {wanted}", list(equal.values()))
    return [str(row[0]) for row in found.rows]


def forget(path: Path, response_ids: Sequence[str]) -> int:
    """Remove responses, their errors, judgments and scores for good; returns how many were there.

    A tombstone for each stops rebuilds, merges and later ingests from bringing it back, and runs from making it
    again, until ``allow_again``. Their text leaves the spool's finished files at once, a running process's file
    when it is next folded.
    """
    with database.Store(path) as target:
        before = target.rows("select count(*) from raw.responses").rows[0][0]
        _put_tombstones(target, [("responses", key) for key in response_ids], active=True)
        after = target.rows("select count(*) from raw.responses").rows[0][0]
    with database.writer(path, wait_seconds=database.LOCK_WAIT_SECONDS) as con:
        database.bring_level(con, path, fold=True)
        con.execute("checkpoint")
    return int(before - after)


def allow_again(path: Path) -> int:
    """Let everything forgotten be made, merged or judged again; returns how many rows that may be."""
    with database.Store(path) as target:
        forgotten = target.rows("select table_name, key from raw.tombstones where active").rows
        _put_tombstones(target, forgotten, active=False)
    return len(forgotten)


def _put_tombstones(target: database.Store, keys: Sequence[tuple[str, str]], *, active: bool) -> None:
    stone = {"active": active, "created_at": database.now()}
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        target.put([("tombstones", {"table_name": table, "key": key, **stone}) for table, key in batch])


def redetect(path: Path, *, on_progress: Callable[[int, int], None] | None = None) -> int:
    """Find critical errors anew where an older detector found them, or none did; returns responses done."""
    with database.Store(path) as target:
        found = target.named("outdated_detections", [detect.detector_version()]).rows
        for start in range(0, len(found), _BATCH):
            batch = found[start : start + _BATCH]
            target.put(
                [("critical_errors", row) for key, text in batch for row in detect.critical_error_rows(key, text)]
            )
            if on_progress:
                on_progress(start + len(batch), len(found))
    return len(found)


def check(path: Path) -> list[Finding]:
    """Read every block, follow every reference, and compare the rows with the spool's."""
    folder = database.spool_folder(path)
    findings = [
        Finding(f"{file.name} line {number} cannot be read; its rows are lost unless the database has them", True)
        for file, number in _damaged_lines(folder)
    ]
    findings += [Finding(f"{log.name} was set aside because it was damaged; delete it", False) for log in _aside(path)]
    findings += [Finding(f"{left.name} was left by a killed process; delete it", False) for left in _drafts(path)]
    try:
        with database.reader(path) as con:
            for table in _user_tables(con):
                con.execute(f'select bit_xor(hash(t)) from raw."{table}" as t').fetchall()
            broken = con.execute(
                "select table_name, column_name, count(*) from main.broken_references group by all order by all"
            ).fetchall()
            rejected = con.execute("select table_name, reason, count(*) from raw.rejected_rows group by all").fetchall()
            missing, extra = _compare(con, folder)
    except StoreError as error:
        return [*findings, Finding(str(error), True)]
    findings += [Finding(f"raw.{table}: {count} unknown {column}", True) for table, column, count in broken]
    findings += [Finding(f"{count} rows of {table} were refused: {reason}", True) for table, reason, count in rejected]
    findings += [Finding(f"{count} rows of {table} are in the spool only", True) for table, count in missing.items()]
    findings += [Finding(f"{count} rows of {table} are in the database only", False) for table, count in extra.items()]
    return findings


def rebuild(path: Path) -> Rebuilt:
    """Make the database anew from its spool, add what only the old file holds if it can be read, and swap them.

    The old file stays beside the new one under another name. Raises StoreLocked where a process holds it.
    """
    folder = database.spool_folder(path)
    if not path.exists() and not spool.files(folder):
        raise StoreError(f"there is neither a database {path} nor a spool {folder}")
    lost = [f"{file.name} line {number} cannot be read" for file, number in _damaged_lines(folder)]
    lost += [f"{file.name} ended in a line of {size} bytes, never whole" for file, size in spool.cut_torn(folder)]
    with contextlib.ExitStack() as held:
        old = None
        if path.exists():
            try:  # held until the swap, so that no other process writes to the file that goes
                old = held.enter_context(database.writer(path, wait_seconds=database.LOCK_WAIT_SECONDS))
            except StoreLocked:
                raise
            except StoreError as error:
                lost.append(f"what only the old file held: {error}")
        draft = held.enter_context(draft_file(path))
        with database.writer(draft, wait_seconds=0) as con:
            database.bring_level(con, path)
            adopted, unreadable = _adopt(old, con, folder) if old else (0, [])
            database.bring_level(con, path)
            rows = {table: count for table in _user_tables(con) if (count := _count(con, table))}
            rejected = con.execute("select table_name, reason, count(*) from raw.rejected_rows group by all").fetchall()
            con.execute("checkpoint")
        lost += unreadable
        lost += [f"{count} rows of {table} were refused: {reason}" for table, reason, count in rejected]
        kept = _set_aside(path)
    return Rebuilt(rows, adopted, kept, tuple(lost))


def _copy_rows(con: database.Connection, target: Path) -> int:
    """Rows of the open database into the new database file ``target``."""
    quoted = str(target).replace("'", "''")
    con.execute(f"attach '{quoted}' as target (read_write)")
    theirs = ingest.columns(con, database="target")
    count = 0
    for table, known in ingest.columns(con).items():
        if table in schema.INTERNAL or table not in theirs:
            continue
        names = ", ".join(f'"{name}"' for name in known if name in theirs[table])
        done = con.execute(f'insert into target.raw."{table}" ({names}) select {names} from raw."{table}"').fetchone()
        count += int(done[0]) if done else 0
    con.execute("checkpoint target")
    con.execute("detach target")
    return count


def _user_tables(con: database.Connection) -> list[str]:
    return [table for table in ingest.columns(con) if table not in schema.INTERNAL]


def _count(con: database.Connection, table: str) -> int:
    row = con.execute(f'select count(*) from raw."{table}"').fetchone()
    return int(row[0]) if row else 0


def _keys(con: database.Connection, table: str, names: Sequence[str]) -> set[tuple[str, ...]]:
    """Primary keys of one table as text, as the spool's rows give them too."""
    selected = ", ".join(f'"{name}"::varchar' for name in names)
    return set(con.execute(f'select {selected} from raw."{table}"').fetchall())


def _compare(con: database.Connection, folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Rows by table that only the spool holds, and that only the database holds."""
    names = {
        table: [name for name, column in known.items() if column.key]
        for table, known in ingest.columns(con).items()
        if table not in schema.INTERNAL
    }
    stored = {table: _keys(con, table, key) for table, key in names.items() if key}
    waiting: dict[str, set[tuple[str, ...]]] = {table: set() for table in stored}
    forgotten = ingest.Forgotten(con)
    for record in spool.read(folder):
        if record.table in stored and forgotten.allows(record):
            waiting[record.table].add(tuple(str(record.row.get(name)) for name in names[record.table]))
    missing = {table: len(keys - stored[table]) for table, keys in waiting.items() if keys - stored[table]}
    extra = {table: len(keys - waiting[table]) for table, keys in stored.items() if keys - waiting[table]}
    return missing, extra


def _damaged_lines(folder: Path) -> list[tuple[Path, int]]:
    return [
        (file, number)
        for file in spool.files(folder)
        for number, line in enumerate(spool.lines(file), start=1)
        if line.damaged
    ]


def _aside(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}*.damaged-*"))


def _adopt(old: database.Connection, new: database.Connection, folder: Path) -> tuple[int, list[str]]:
    """Append to the spool the rows only the old file holds: (how many, what could not be read)."""
    forgotten = ingest.Forgotten(new)
    theirs = ingest.columns(old)
    adopted, unreadable = 0, []
    journal = spool.Spool(folder)
    for table in _user_tables(new):
        known = ingest.columns(new)[table]
        keys = [name for name, column in known.items() if column.key]
        stored = _keys(new, table, keys)
        try:
            shared = {name: column for name, column in theirs.get(table, {}).items() if name in known}
            for rows in database.table_rows(old, table, shared) if shared else ():
                only_here = [
                    (table, row)
                    for row in rows
                    if tuple(str(row.get(name)) for name in keys) not in stored
                    and forgotten.allows(spool.Record(table, row))
                ]
                journal.append(only_here)
                adopted += len(only_here)
        except database.DATABASE_ERRORS as error:
            unreadable.append(f"rows of {table} that only the old file held: {str(error).splitlines()[0]}")
    journal.close()
    return adopted, unreadable


def _drafts(path: Path) -> list[Path]:
    return sorted(file for file in path.parent.glob(f".{path.name}.*") if file.suffix in {".new", ".part"})


def _set_aside(path: Path) -> Path | None:
    """Rename the old file; a kill before the new one has its name leaves none, which the next command makes."""
    if not path.exists():
        return None
    kept = path.with_name(f"{path.name}.before-repair-{secrets.token_hex(4)}")
    path.rename(kept)
    with contextlib.suppress(FileNotFoundError):
        Path(f"{path}.wal").rename(f"{kept}.wal")
    return kept
