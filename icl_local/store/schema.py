"""The contents of db/: numbered migrations, macros, views in order, published figures.

``upgrade`` brings an open database to this version; all other functions only read files.
"""

import csv
import functools
import graphlib
import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

from icl_local import resources
from icl_local.exceptions import StoreError
from icl_local.store import ingest

_COMMENT = re.compile(r"--[^\n]*")
_CREATED = re.compile(r"create\s+or\s+replace\s+view\s+main\.(\w+)\s+as\b", re.IGNORECASE)
_REFERENCE = re.compile(r"\b(?:from|join)\s+(?:main\.)?(\w+)\b(?!\.)", re.IGNORECASE)

# tables of one file and its spool, not what a user made
INTERNAL = {"schema_migrations", "store_meta", "spool_files", "rejected_rows"}
INTERNAL |= {"published_scores", "published_errors", "published_token_shift"}

# tables whose rows are made on the way in where the spool names none
DERIVED = {"cells"}

# file in db/published -> table, column of the file -> column of the table
_PUBLISHED = {
    "scores.csv": ("published_scores", {"table": "paper_table"}),
    "critical_errors.csv": ("published_errors", {"table": "paper_table"}),
    "token_shift.csv": ("published_token_shift", {}),
}


@dataclass(frozen=True)
class Migration:
    """One step of the schema: db/migrations/NNNN_name.sql."""

    number: int
    name: str
    sql: str


@dataclass(frozen=True)
class View:
    """One view of schema main: its name and the statements of db/views/<name>.sql."""

    name: str
    sql: str


@functools.cache
def migrations() -> tuple[Migration, ...]:
    """Return all steps in order; raises StoreError unless the numbers are 1, 2, ... without a gap."""
    steps = [
        Migration(int(name[:4]), name, resources.read_text("db", f"migrations/{name}.sql"))
        for name in resources.names("db", "migrations", suffix=".sql")
    ]
    if [step.number for step in steps] != list(range(1, len(steps) + 1)):
        raise StoreError("db/migrations is not numbered 0001, 0002, ... without a gap; reinstall icl-local")
    return tuple(steps)


@functools.cache
def macros() -> tuple[str, ...]:
    """Return the statements of db/macros; a macro is bound when a view is read."""
    names = resources.names("db", "macros", suffix=".sql")
    return tuple(resources.read_text("db", f"macros/{name}.sql") for name in names)


@functools.cache
def views() -> tuple[View, ...]:
    """Return all views, each after those it reads from."""
    names = resources.names("db", "views", suffix=".sql")
    return tuple(sort_views([View(name, resources.read_text("db", f"views/{name}.sql")) for name in names]))


def sort_views(found: list[View]) -> list[View]:
    """Sort by reference, since DuckDB binds a view when it is made. Raises StoreError for a cycle or a wrong name."""
    by_name = {view.name: view for view in found}
    reads: dict[str, list[str]] = {}
    for view in found:
        sql = _COMMENT.sub("", view.sql)
        if _CREATED.findall(sql) != [view.name]:
            raise StoreError(f"db/views/{view.name}.sql must hold one `create or replace view main.{view.name} as`")
        named = {name.lower() for name in _REFERENCE.findall(sql)}
        reads[view.name] = sorted(named & by_name.keys() - {view.name})  # a set's order differs between processes
    try:
        order = list(graphlib.TopologicalSorter(dict(sorted(reads.items()))).static_order())
    except graphlib.CycleError as error:
        raise StoreError(f"db/views read from each other in a circle: {' -> '.join(error.args[1])}") from error
    return [by_name[name] for name in order]


def published() -> dict[str, list[dict[str, str]]]:
    """Return the rows of raw.published_scores, published_errors and published_token_shift.

    ``model`` is corrected by db/published/model_names.csv; ``model_printed`` is the name as printed.
    """
    corrected = {row["model_printed"]: row["model"] for row in _csv("model_names.csv")}
    tables: dict[str, list[dict[str, str]]] = {}
    for name, (table, renamed) in _PUBLISHED.items():
        rows = [{renamed.get(key, key): value for key, value in row.items()} for row in _csv(name)]
        tables[table] = [
            {**row, "model": corrected.get(row["model"], row["model"]), "model_printed": row["model"]} for row in rows
        ]
    return tables


@functools.cache
def fingerprint() -> str:
    """Return a hash of macros, views and published figures; a database with another one gets these."""
    texts = [*macros(), *(view.sql for view in views())]
    texts += [resources.read_text("db", f"published/{name}") for name in (*_PUBLISHED, "model_names.csv")]
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
    for step in migrations()[number:]:
        con.begin()
        con.execute(step.sql)
        con.execute("insert into raw.schema_migrations values (?, ?)", [step.number, step.name])
        con.commit()
    if _stored_fingerprint(con) == fingerprint():
        return
    known = ingest.columns(con)
    con.begin()
    for sql in (*macros(), *(view.sql for view in views())):
        con.execute(sql)
    for table, rows in published().items():
        con.execute(f"delete from raw.{table}")
        ingest.insert_rows(con, table, known[table], rows)
    con.execute("insert or replace into raw.store_meta values ('fingerprint', ?)", [fingerprint()])
    con.commit()


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


def _csv(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(resources.read_text("db", f"published/{name}"))))
