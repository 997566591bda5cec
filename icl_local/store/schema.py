"""The contents of db/: numbered migrations, macros, views in order, published figures.

``upgrade`` brings an open database to this version; all other functions only read files.
"""

import functools
import graphlib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from icl_local import resources
from icl_local.exceptions import StoreError
from icl_local.store import ingest

_COMMENT = re.compile(r"--[^\n]*")
_REFERENCE = re.compile(r"\b(?:from|join)\s+(?:main\.)?(\w+)\b(?!\.)", re.IGNORECASE)

# tables whose rows are made on the way in where the spool names none
DERIVED = {"cells"}

# table -> file in db/published with its columns; ``model_printed`` is the name as printed, ``model`` the right one
PUBLISHED = {
    "published_scores": "scores.csv",
    "published_errors": "critical_errors.csv",
    "published_token_shift": "token_shift.csv",
}

# tables of one file and its spool, not what a user made
INTERNAL = {"schema_migrations", "store_meta", "spool_files", "rejected_rows", *PUBLISHED}


@functools.cache
def migrations() -> dict[str, str]:
    """Return the SQL of all steps by name, in order; step 1 is named 0001_... Raises StoreError for a gap."""
    found = _statements("migrations")
    if any(not name.startswith(f"{step:04}_") for step, name in enumerate(found, start=1)):
        raise StoreError("a step of db/migrations is missing; reinstall icl-local")
    return found


@functools.cache
def macros() -> tuple[str, ...]:
    """Return the statements of db/macros; a macro is bound when a view is read."""
    return tuple(_statements("macros").values())


@functools.cache
def views() -> dict[str, str]:
    """Return the SQL of all views by name, each after those it reads from."""
    return sort_views(_statements("views"))


def sort_views(found: Mapping[str, str]) -> dict[str, str]:
    """Sort by reference, since DuckDB binds a view when it is made. Raises graphlib.CycleError."""
    reads: dict[str, list[str]] = {}
    for view in sorted(found):  # the order of a set differs between processes
        names = _REFERENCE.findall(_COMMENT.sub("", found[view]))
        reads[view] = sorted({name.lower() for name in names} & found.keys() - {view})
    return {view: found[view] for view in graphlib.TopologicalSorter(reads).static_order()}


@functools.cache
def fingerprint() -> str:
    """Return a hash of macros, views and published figures; a database with another one gets these."""
    texts = [*macros(), *views().values()]
    texts += [resources.read_text("db", f"published/{file}") for file in PUBLISHED.values()]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


class OfSomethingElse(StoreError):
    """The database is another program's."""


def outdated(con: ingest.Connection, path: Path) -> bool:
    """Return whether ``upgrade`` has work. Raises StoreError for a foreign or newer database."""
    return _number(con, path) < len(migrations()) or _stored_fingerprint(con) != fingerprint()


def upgrade(con: ingest.Connection, path: Path) -> None:
    """Run the missing migrations; create macros, views and published figures again if theirs differ."""
    number = _number(con, path)
    if number == 0:
        con.execute("create schema if not exists raw")
        con.execute("create table if not exists raw.schema_migrations (number integer primary key, name varchar)")
    for step, (name, sql) in enumerate(migrations().items(), start=1):
        if step > number:
            with ingest.transaction(con):
                con.execute(sql)
                con.execute("insert into raw.schema_migrations values (?, ?)", [step, name])
    if _stored_fingerprint(con) == fingerprint():
        return
    with ingest.transaction(con):
        for sql in (*macros(), *views().values()):
            con.execute(sql)
        for table, file in PUBLISHED.items():
            con.execute(f"delete from raw.{table}")
            insert = f"insert into raw.{table} by name from read_csv(?, header = true, delim = ',')"
            con.execute(insert, [str(resources.path("db", f"published/{file}"))])
        con.execute("insert or replace into raw.store_meta values ('fingerprint', ?)", [fingerprint()])


def _number(con: ingest.Connection, path: Path) -> int:
    """Return the number of the last migration of a database, 0 for an empty one."""
    own = "select 1 from duckdb_tables() where schema_name = 'raw' and table_name = 'schema_migrations'"
    if not con.execute(own).fetchone():
        if con.execute("select 1 from duckdb_tables() limit 1").fetchone():
            raise OfSomethingElse(f"{path} is a DuckDB database of something else; name another file")
        return 0
    ((number,),) = con.execute("select coalesce(max(number), 0) from raw.schema_migrations").fetchall()
    if number > len(migrations()):
        known = len(migrations())
        raise StoreError(
            f"{path} was written by a newer icl-local (schema {number}, known: {known}); upgrade icl-local"
        )
    return int(number)


def _stored_fingerprint(con: ingest.Connection) -> str | None:
    row = con.execute("select value from raw.store_meta where name = 'fingerprint'").fetchone()
    return str(row[0]) if row else None


def _statements(folder: str) -> dict[str, str]:
    """Return the SQL files of db/``folder`` by name, sorted."""
    return {
        name: resources.read_text("db", f"{folder}/{name}.sql") for name in resources.names("db", folder, suffix=".sql")
    }
