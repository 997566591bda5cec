"""Care of a database: copy it, forget rows, find damage, rebuild it, update detections."""

import contextlib
import glob
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from icl_local import detect
from icl_local.exceptions import InputError, StoreError, StoreLocked
from icl_local.files import draft_file
from icl_local.store import database, ingest, schema, spool
from icl_local.store.selection import Selection
from icl_local.wording import counted

_BATCH = 500


@dataclass(frozen=True)
class Finding:
    """One thing `icl db doctor` saw in a database; ``damage`` if something is lost or inconsistent."""

    message: str
    damage: bool


@dataclass(frozen=True)
class Rebuilt:
    """A database rebuilt from its spool.

    ``rows``: number by table; ``adopted``: rows that only the old file had, now in the spool too; ``kept_aside``:
    the old file; ``not_restored``: one sentence for each loss.
    """

    rows: dict[str, int]
    adopted: int
    kept_aside: Path | None
    not_restored: tuple[str, ...]


def snapshot(path: Path, out: Path, *, overwrite: bool = False) -> int:
    """Write a consistent copy of a database to ``out``, whole or not at all, while a run goes on; return its rows.

    The copy has the present schema and no spool, and only its owner can read it.
    """
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; name another file or pass --force")
    with draft_file(out) as draft:
        with database.writer(draft, wait_seconds=0):
            pass
        with database.reader(path, unsafe=True) as con:
            count = _copy_rows(con, draft)
        spool.complete_mark(spool.spool_folder(out)).unlink(missing_ok=True)
        Path(f"{out}.wal").unlink(missing_ok=True)
    return count


def matching(
    path: Path, chosen: Selection, *, condition: str | None = None, equal: Mapping[str, object] | None = None
) -> list[str]:
    """Return the response_id of selected rows of view responses that meet a SQL condition and have ``equal`` values.

    The condition is evaluated by itself, so an unbalanced one cannot widen the selection. Raises UnknownName.
    """
    equal = equal or {}
    in_cells = "main.selected(?, model, method, language, split, dataset, quantization)"
    selected = " and ".join(["icl_condition", in_cells, *(f"{column} = ?" for column in equal)])
    evaluated = f"select *, ({condition or 'true'}\n) as icl_condition from main.responses"
    stored = chosen.stored(partial(database.named, path))
    found = database.query(path, f"select response_id from ({evaluated}) where {selected}", [stored, *equal.values()])
    return [str(row[0]) for row in found.rows]


def forget(path: Path, response_ids: Sequence[str]) -> int:
    """Remove responses, their errors, judgments and scores for good; return how many were stored.

    A tombstone for each stops rebuilds, merges and later ingests from restoring it, and runs from making it again,
    until ``allow_again``. Their text leaves the spool's finished files at once, and a running process's file when it
    is next folded.
    """
    with database.Store(path) as target:
        count = "select count(*) from raw.responses where response_id in (select unnest(?::varchar[]))"
        ((stored,),) = target.rows(count, [list(response_ids)]).rows
        _put_tombstones(target, [("responses", key) for key in response_ids], active=True)
    with database.writer(path, wait_seconds=database.LOCK_WAIT_SECONDS) as con:
        database.ingest_spool(con, path, fold=True)
        con.execute("checkpoint")
    return int(stored)


def allow_again(path: Path) -> int:
    """Allow all forgotten rows to be made, merged or judged again; return how many there are."""
    database.require(path)
    with database.Store(path) as target:
        forgotten = target.rows("select table_name, key from raw.tombstones where active").rows
        _put_tombstones(target, forgotten, active=False)
    return len(forgotten)


def _put_tombstones(target: database.Store, keys: Sequence[tuple[str, str]], *, active: bool) -> None:
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        target.put([("tombstones", {"table_name": table, "key": key, "active": active}) for table, key in batch])


def redetect(path: Path) -> Counter[str]:
    """Detect critical errors again in responses that an older detector, or none, has read; cut answers by today's rule.

    Return how many were ``done``, ``recut``, and left as they were, since every score is about the text shown, because
    a judge has read them (``judged``); ``cut_short``: ended by an older version at a text that is not a stop now.
    """
    database.require(path)
    counts: Counter[str] = Counter()
    with database.Store(path) as target:
        found = target.named("outdated_detections", [detect.detector_version()]).rows
        for start in range(0, len(found), _BATCH):
            batch = found[start : start + _BATCH]
            rows: list[spool.Record] = []
            texts: dict[str, str] = {}
            for key, text, raw_text, stops, tail, stopped_here, was_judged in batch:
                answer = detect.find_answer(raw_text if stops else text, stops=stops or (), prompt_tail=tail)
                rows += [("critical_errors", row) for row in detect.critical_error_rows(key, answer)]
                if stops and answer.text != text:
                    counts["judged" if was_judged else "recut"] += 1
                    if not was_judged:
                        texts[key] = answer.text
                counts["cut_short"] += bool(stops) and stopped_here and detect.find_stop(raw_text, stops) is None
            target.put([*_with_texts(target, texts), *rows])
            counts["done"] += len(batch)
    return counts


def _with_texts(target: database.Store, texts: Mapping[str, str]) -> list[spool.Record]:
    """Return the responses of ``texts`` (by response_id) with these texts; they outrank the stored rows."""
    found = target.rows("select * from raw.responses where list_contains(?::varchar[], response_id)", [list(texts)])
    rows: list[spool.Record] = []
    for row in found.records():
        text = texts[row["response_id"]]
        changed = {"text": text, "text_language": detect.identify_language(text), "answer_rule": detect.ANSWER_RULE}
        rows.append(("responses", row | changed))
    return rows


def check(path: Path) -> list[Finding]:
    """Read every block, follow every reference, and compare the rows with the spool's.

    Raises StoreError for another program's database, and for one that cannot be read and has no spool.
    """
    folder = spool.spool_folder(path)
    damage = [f"{place} cannot be read; its rows are lost unless the database has them" for place in _damaged(folder)]
    name = glob.escape(path.name)
    logs, drafts = (sorted(path.parent.glob(pattern)) for pattern in (f"{name}*.damaged-*", f".{name}.*.part"))
    remarks = [f"{log.name} was set aside because it was damaged; delete it" for log in logs]
    remarks += [f"{left.name} was left by a killed process; delete it" for left in drafts]
    try:
        with database.reader(path) as con:
            for table in _user_tables(con):
                con.execute(f'select bit_xor(hash(t)) from raw."{table}" as t').fetchall()
            broken = con.execute(
                "select table_name, column_name, count(*) from main.broken_references group by all order by all"
            ).fetchall()
            damage += [f"raw.{table}: {count} unknown {column}" for table, column, count in broken]
            damage += _refused_rows(con)
            damage += [
                f"cell {cell}: query {query} has {count} responses; remove all but one with `icl db forget`"
                for cell, query, count in con.execute(database.sql_text("repeated_responses")).fetchall()
            ]
            spooled_only, stored_only = _compare(con, folder)
            damage += [f"{_rows(table, count)} in the spool only" for table, count in spooled_only.items()]
            remarks += [f"{_rows(table, count)} in the database only" for table, count in stored_only.items()]
    except StoreError as error:
        if isinstance(error, schema.OfSomethingElse) or not spool.files(folder):
            raise
        damage.append(str(error))
    return [*(Finding(message, True) for message in damage), *(Finding(message, False) for message in remarks)]


def rebuild(path: Path, *, accept: Callable[[Sequence[str]], bool] = lambda lost: True) -> Rebuilt:
    """Rebuild the database from its spool, add rows that only the old file has if it can be read, and swap the two.

    ``accept`` gets a sentence on each loss before the swap, and prevents it by False. The old file stays beside the new
    one under another name. Raises StoreLocked if a process holds it, StoreError where nothing can be restored,
    and for another program's database.
    """
    folder = spool.spool_folder(path)
    database.require(path)
    lost = [f"{place} cannot be read" for place in _damaged(folder)]
    lost += [f"{file.name} ended in a line of {size} bytes, never whole" for file, size in spool.cut_torn(folder)]
    with contextlib.ExitStack() as held:
        old = None
        if path.exists():
            try:  # held until the swap, so that no other process writes to the old file
                old = held.enter_context(database.writer(path, wait_seconds=database.LOCK_WAIT_SECONDS))
            except (StoreLocked, schema.OfSomethingElse):
                raise
            except StoreError as error:
                lost.append(f"what only the old file held: {error}")
        draft = held.enter_context(draft_file(path))
        with database.writer(draft, wait_seconds=0) as con:
            database.ingest_spool(con, path)
            adopted, unreadable = _adopt(old, con, folder) if old else (0, [])
            database.ingest_spool(con, path)
            counts = {table: con.table(f"raw.{table}").shape[0] for table in _user_tables(con)}
            rows = {table: count for table, count in counts.items() if count}
            lost += [*unreadable, *_refused_rows(con)]
            con.execute("checkpoint")
        if old is None and not rows:
            raise StoreError(f"{path} cannot be read and has no spool: nothing can be restored; use a copy of the file")
        if lost and not accept(lost):
            raise StoreError(f"nothing was replaced: {path} is unchanged")
        kept = _set_aside(path)
    return Rebuilt(rows, adopted, kept, tuple(lost))


def _copy_rows(con: ingest.Connection, target: Path) -> int:
    """Copy the rows of the open database into the new database file ``target``; return how many."""
    con.execute(f"attach {database.quoted(target)} as target (read_write)")
    count = 0
    for table, names in _shared(ingest.columns(con), ingest.columns(con, database="target")).items():
        done = con.execute(f'insert into target.raw."{table}" ({names}) select {names} from raw."{table}"').fetchone()
        count += int(done[0]) if done else 0
    con.execute("checkpoint target")
    con.execute("detach target")
    return count


def _shared(one: ingest.Columns, other: ingest.Columns) -> dict[str, str]:
    """Return the tables with a user's rows that both databases have, each with the columns that both have, as SQL."""
    return {
        table: ", ".join(f'"{name}"' for name in known if name in other[table])
        for table, known in one.items()
        if table in other and table not in schema.INTERNAL
    }


def _user_tables(con: ingest.Connection) -> dict[str, list[str]]:
    """Return the primary key's columns of every table with a user's rows."""
    return {
        table: [name for name, column in known.items() if column.key]
        for table, known in ingest.columns(con).items()
        if table not in schema.INTERNAL
    }


def _stored_keys(con: ingest.Connection, table: str, names: Sequence[str]) -> set[tuple[str, ...]]:
    """Return the primary keys of one table as text, as ``_key`` does for a row of the spool."""
    selected = ", ".join(f'"{name}"::varchar' for name in names)
    return set(con.execute(f'select {selected} from raw."{table}"').fetchall())


def _key(row: Mapping[str, object], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(row.get(name)) for name in names)


def _compare(con: ingest.Connection, folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Count by table the rows that only the spool has, and those that only the database has."""
    names = _user_tables(con)
    stored = {table: _stored_keys(con, table, key) for table, key in names.items()}
    spooled: dict[str, set[tuple[str, ...]]] = {table: set() for table in stored}
    forgotten = ingest.Forgotten(con)
    for record in spool.read(folder):
        if record.table in stored and forgotten.allows(record):
            spooled[record.table].add(_key(record.row, names[record.table]))
    spooled_only = {table: len(keys - stored[table]) for table, keys in spooled.items() if keys - stored[table]}
    stored_only = {
        table: len(keys - spooled[table])
        for table, keys in stored.items()
        if keys - spooled[table] and table not in schema.DERIVED
    }
    return spooled_only, stored_only


def _adopt(old: ingest.Connection, new: ingest.Connection, folder: Path) -> tuple[int, list[str]]:
    """Append rows that only the old file has to the spool; return how many, and what could not be read."""
    forgotten = ingest.Forgotten(new)
    adopted, unreadable = 0, []
    journal = spool.Spool(folder)
    keys = _user_tables(new)
    for table, names in _shared(ingest.columns(new), ingest.columns(old)).items():
        stored = _stored_keys(new, table, keys[table])
        try:
            result = old.execute(f'select {names} from raw."{table}"')
            while rows := database.fetch(result, limit=_BATCH).records():
                only_here = [
                    (table, row)
                    for row in rows
                    if _key(row, keys[table]) not in stored and forgotten.allows(spool.SpoolRow(table, row))
                ]
                journal.append(only_here)
                adopted += len(only_here)
        except database.DATABASE_ERRORS as error:
            unreadable.append(f"rows of {table} that only the old file held: {str(error).splitlines()[0]}")
    journal.close()
    return adopted, unreadable


def _refused_rows(con: ingest.Connection) -> list[str]:
    refused = con.execute("select table_name, reason, count(*) from raw.rejected_rows group by all").fetchall()
    return [f"{counted(count, 'row')} of {table} refused: {reason}" for table, reason, count in refused]


def _rows(table: str, count: int) -> str:
    return counted(count, f"row of {table} is", f"rows of {table} are")


def _damaged(folder: Path) -> list[str]:
    """Return file and number of every spool line that cannot be read."""
    return [
        f"{file.name} line {number}"
        for file in spool.files(folder)
        for number, line in enumerate(spool.lines(file), start=1)
        if line.damaged
    ]


def _set_aside(path: Path) -> Path | None:
    """Rename the old file; if a kill follows before the new one has its name, the next command rebuilds it."""
    if not path.exists():
        return None
    kept = path.with_name(f"{path.name}.before-repair-{secrets.token_hex(4)}")
    path.rename(kept)
    with contextlib.suppress(FileNotFoundError):
        Path(f"{path}.wal").rename(f"{kept}.wal")
    return kept
