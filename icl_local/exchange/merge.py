"""Merging another database, a spool folder or a folder of Parquet files into a database, row by row by key.

Rows go through the spool like any other, so a rebuild keeps them. docs/exchange.md says what is left out.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from icl_local import store
from icl_local.exceptions import ConfigError, InputError
from icl_local.exchange.export import OF_ONE_DATABASE
from icl_local.store import ingest, spool

Columns = dict[str, ingest.Column]

_ROWS_A_READ = 1_000
_FORGOTTEN = (
    "select count(*) from merge_source.raw.responses "
    "where response_id in (select key from left_out where column_name = 'response_id' and not differs)"
)


@dataclass(frozen=True)
class Merged:
    """New rows by table, response_id of every response whose texts differ, and number of those forgotten here."""

    added: dict[str, int]
    differing: tuple[str, ...]
    forgotten: int


def merge(target: store.Store, source: Path) -> Merged:
    """Add every row of ``source`` whose key ``target`` lacks. Raises InputError, ConfigError, StoreError."""
    target.flush(wait_seconds=store.LOCK_WAIT_SECONDS)
    added: dict[str, int] = {}
    with _both_sides(target.path, source) as con:
        ours, theirs = ingest.columns(con), ingest.columns(con, database="merge_source")
        con.execute(store.sql_text("merge_left_out"))
        differing = con.execute("select key from left_out where differs order by key").fetchall()
        ((forgotten,),) = con.execute(_FORGOTTEN).fetchall()
        for table in sorted((ours.keys() & theirs.keys()) - OF_ONE_DATABASE):
            result = con.execute(_rows_to_put(table, ours[table], theirs[table]))
            while found := store.fetch(result, limit=_ROWS_A_READ).records():
                if new := sum(row.pop("is_new") for row in found):
                    added[table] = added.get(table, 0) + new
                target.put([(table, row) for row in found])
    target.flush(wait_seconds=store.LOCK_WAIT_SECONDS)
    return Merged(added, tuple(response_id for (response_id,) in differing), forgotten)


def _rows_to_put(table: str, ours: Columns, theirs: Columns) -> str:
    """Return the select of their rows that this database lacks, and of those that the store ranks above its own."""
    given = ", ".join(f"{name if name in theirs else 'null'}::{column.kind} as {name}" for name, column in ours.items())
    keys = [name for name, column in ours.items() if column.key]
    same = " and ".join(f"ours.{key} = theirs.{key}" for key in keys)
    rank = ingest.RANK.get(table, "1")
    kept = " ".join(
        f"and not exists (from left_out where column_name = '{column}' and key = theirs.{column})"
        for column in ingest.FORGETTABLE.values()
        if column in ours
    )
    return (
        f"select theirs.*, ours.{keys[0]} is null as is_new "
        f"from (select {given} from merge_source.raw.{table}) as theirs left join raw.{table} as ours on {same} "
        f"where (is_new or ({rank.format(row='theirs')}) > ({rank.format(row='ours')})) {kept}"
    )


@contextmanager
def _both_sides(path: Path, source: Path) -> Iterator[store.Connection]:
    """Yield a connection that reads the database at ``path``, and ``source`` as the database ``merge_source``."""
    if not source.exists():
        raise InputError(f"{source} does not exist; give a database, a spool folder or a folder of Parquet files")
    if source.resolve() in (path.resolve(), store.spool_folder(path).resolve()):
        raise ConfigError(f"{source} is the database itself; give another one to merge into it")
    with ExitStack() as stack:
        if files := sorted(source.glob("*.parquet")):
            attached = ["attach ':memory:' as merge_source (read_write)", "create schema merge_source.raw"]
            attached += [
                f'create view merge_source.raw."{file.stem}" as from read_parquet({store.quoted(file)})'
                for file in files
                if file.stem.isidentifier()  # else no table of this database, and a quote would end the name
            ]
            attached += [
                f"create table if not exists merge_source.raw.{table} as from raw.{table} limit 0"
                for table in ingest.FORGETTABLE
            ]
        else:
            database = source
            if spool.files(source):
                folder = stack.enter_context(tempfile.TemporaryDirectory(dir=path.parent, prefix=".merge-"))
                database = Path(folder) / "spool.duckdb"  # made first, to leave out rows that were forgotten there
                shutil.copytree(source, store.spool_folder(database))
            elif source.is_dir():
                raise InputError(f"{source} holds neither a spool (*.jsonl) nor exported tables (*.parquet)")
            with store.reader(database):  # brings it to its spool and to this version
                pass
            attached = [f"attach {store.quoted(database)} as merge_source (read_only)"]
            attached += ["set enable_external_access = false"]  # a table there may be a view that reads files
        con = stack.enter_context(store.reader(path, unsafe=True))
        for statement in attached:
            con.execute(statement)
        yield con
