"""Recovery from damage with the spool; foreign files; exported rows."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime, tzinfo
from pathlib import Path

import duckdb
import pytest

from icl_local import store
from icl_local.exceptions import StoreError
from icl_local.store import database, spool, upkeep
from icl_local.store.database import Store, query
from tests.store.rows import child, fill, put_of, response, stored

# -------------------------------------------------------------------------------------------------- recovery


def test_what_a_crash_left_in_the_spool_is_there_at_the_next_read(copy: Path) -> None:
    journal = spool.Spool(store.spool_folder(copy))
    journal.append([("responses", response(4))])
    assert journal.path is not None
    with journal.path.open("ab") as file:
        file.write(b'{"v":1,"records":[{"t":"respon')
    assert stored(copy) == ["1", "2", "3"]  # its writer may still be at work
    journal.close()
    assert stored(copy) == ["1", "2", "3", "4"]
    assert not any("spool only" in finding.message for finding in upkeep.check(copy))


def test_a_database_that_vanishes_is_made_again_from_the_spool(db: Path) -> None:
    with Store(db, flush_rows=1) as target:
        target.put(put_of(1))
        db.unlink()
        Path(f"{db}.wal").unlink(missing_ok=True)
        target.put(put_of(2))
    assert stored(db) == ["1", "2"]
    db.unlink()
    assert stored(db) == ["1", "2"]


def test_a_flipped_byte_in_the_log_costs_no_row(copy: Path) -> None:
    target = Store(copy, flush_rows=1)
    target.put(put_of(4))
    target.put(put_of(5))
    wal = Path(f"{copy}.wal")
    damaged = bytearray(wal.read_bytes())
    damaged[len(damaged) // 2] ^= 0x10
    wal.write_bytes(damaged)
    assert stored(copy) == ["1", "2", "3", "4", "5"]
    target.put(put_of(6))
    target.close()
    assert stored(copy) == ["1", "2", "3", "4", "5", "6"]
    assert [path.name for path in copy.parent.glob("*.damaged-*")] != []


def with_torn_blocks(db: Path) -> None:
    """As a kill in the middle of a checkpoint leaves it: DuckDB writes over blocks that the file still needs."""
    damaged = bytearray(db.read_bytes())
    for block in range(3 * 4096, len(damaged), 256 * 1024):
        damaged[block + 1000] ^= 0x10
    db.write_bytes(damaged)


def test_torn_blocks_cost_no_row_where_the_spool_has_them_all(absent: Path) -> None:
    fill(absent, 1, 2)
    with_torn_blocks(absent)
    assert stored(absent) == ["1", "2"]
    with_torn_blocks(absent)
    fill(absent, 3)
    assert stored(absent) == ["1", "2", "3"]
    assert len(list(absent.parent.glob("x.duckdb.damaged-*"))) == 2
    set_aside = [
        f"{path.name} was set aside because it was damaged" for path in absent.parent.glob("x.duckdb*.damaged-*")
    ]
    found = [finding.message for finding in upkeep.check(absent)]
    assert all(any(message.startswith(name) for message in found) for name in set_aside)


def test_torn_blocks_of_a_copy_are_reported_and_the_file_unchanged(copy: Path) -> None:
    with_torn_blocks(copy)
    before = copy.read_bytes()
    for attempt in (lambda: query(copy, "select 1"), lambda: Store(copy)):
        with pytest.raises(StoreError, match="is damaged; its rows are in the spool, run: icl db doctor --repair"):
            attempt()
    assert copy.read_bytes() == before


def test_a_damaged_file_without_a_spool_is_not_said_to_have_one(copy: Path) -> None:
    with_torn_blocks(copy)
    shutil.rmtree(store.spool_folder(copy))
    with pytest.raises(StoreError, match="is damaged and has no spool to restore it from; use a copy of it, or keep"):
        query(copy, "select 1")
    with pytest.raises(StoreError, match=f"what can still be read: icl db doctor --repair --db {copy}$"):
        upkeep.check(copy)  # its advice alone, no finding beside it


def test_a_database_replaced_by_a_snapshot_is_not_made_again_from_its_spool(copy: Path, tmp_path: Path) -> None:
    other = fill(tmp_path / "other.duckdb", 9)
    upkeep.snapshot(copy, other, overwrite=True)
    with_torn_blocks(other)
    with pytest.raises(StoreError, match="is damaged"):
        query(other, "select 1")


def test_a_clock_set_back_changes_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Past(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Past:
            return cls(1999, 1, 1, tzinfo=tz)

    monkeypatch.setattr(spool, "datetime", Past)
    monkeypatch.setattr(database, "datetime", Past)
    fill(copy, 3, 4)
    assert spool.files(store.spool_folder(copy))[0].name.startswith("1999")
    assert stored(copy) == ["1", "2", "3", "4"]


# -------------------------------------------------------------------------------------- foreign files


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.duckdb", b""), ("x.duckdb", b"hello" * 5000), ("x.sqlite", b"SQLite format 3\0" * 500), ("x.json", b"[]")],
)
def test_a_file_that_is_not_a_database_is_reported_and_unchanged(tmp_path: Path, name: str, content: bytes) -> None:
    absent = tmp_path / name
    absent.write_bytes(content)
    for attempt in (lambda: query(absent, "select 1"), lambda: Store(absent)):
        with pytest.raises(StoreError, match="not a DuckDB database; name another file") as raised:
            attempt()
        assert "\n" not in str(raised.value)
    assert absent.read_bytes() == content


def test_a_folder_is_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a DuckDB database"):
        Store(tmp_path)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a folder in which nobody can make a file")
def test_a_folder_that_takes_no_file_is_named() -> None:
    with pytest.raises(
        StoreError, match=r"^cannot create /proc/x\.duckdb: No such file or directory; check its folder$"
    ):
        Store(Path("/proc/x.duckdb"))


def test_a_missing_database_is_not_made_by_reading(absent: Path) -> None:
    with pytest.raises(
        StoreError, match="does not exist; `icl run`, `icl import` and `icl translate run` make a database"
    ):
        query(absent, "select 1")
    assert not absent.exists()


@pytest.mark.parametrize("schema", ["main", "raw"])
def test_somebody_elses_database_is_left_alone(absent: Path, schema: str) -> None:
    with duckdb.connect(str(absent)) as con:
        con.execute(f"create schema if not exists {schema}; create table {schema}.mine as select 1 as x")
    before = absent.read_bytes()
    for attempt in (
        lambda: query(absent, "select 1"),
        lambda: Store(absent),
        lambda: upkeep.check(absent),
        lambda: upkeep.rebuild(absent),
    ):
        with pytest.raises(StoreError, match=r"something else; name another file$"):
            attempt()
    assert absent.read_bytes() == before


def test_a_newer_database_is_refused(copy: Path) -> None:
    with duckdb.connect(str(copy)) as con:
        con.execute("insert into raw.schema_migrations values (999, '0999_future')")
    for attempt in (lambda: query(copy, "select 1"), lambda: Store(copy)):
        with pytest.raises(StoreError, match=r"newer icl-local \(schema 999.*upgrade icl-local"):
            attempt()


def test_a_folder_that_cannot_be_written_is_reported(made: Path) -> None:
    with pytest.raises(StoreError, match="cannot create"):
        Store(made / "below" / "x.duckdb")


READ_AS_NOBODY = """
import importlib.readers, os, sys
from pathlib import Path
from icl_local.exceptions import StoreError
from icl_local.store import Store, query, schema
schema.fingerprint(), schema.migrations()
if os.getuid() == 0:
    os.setuid(65534)
print(query(Path(sys.argv[1]), "select count(*) from main.responses").rows)
try:
    Store(Path(sys.argv[1]))
except StoreError as error:
    print(error)
"""


def test_a_database_nobody_may_write_can_be_read(made: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(made, folder))
        with duckdb.connect(str(path)) as con:
            con.execute("update raw.store_meta set value = 'views of an older version'")
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        out, err = child(READ_AS_NOBODY, path).communicate()
        Path(folder).chmod(0o700)
    read, written = out.splitlines()
    assert read == "[(3,)]", err
    assert written == f"{path} cannot be opened: Permission denied; check its permissions, or name another with --db"


# -------------------------------------------------------------------------------------------- copies, exports


def test_parquet_is_written_whole_or_not_at_all(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "it's.parquet"
    assert store.export_parquet(made, "select response_id, text from main.responses;", out) == 3
    assert duckdb.read_parquet(str(out)).fetchall() != []
    with pytest.raises(StoreError):
        store.export_parquet(made, "select error('no')", tmp_path / "no.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["it's.parquet"]


def test_rows_read_from_one_database_can_be_put_into_another(made: Path, db: Path) -> None:
    with Store(db) as target, store.reader(made) as con:
        for table in ("responses", "critical_errors"):
            stored = con.execute(f"from raw.{table}")
            while rows := store.fetch(stored, limit=2).records():
                target.put([(table, row) for row in rows])
    for table in ("responses", "critical_errors"):
        sql = f"select * from raw.{table} order by all"
        assert query(db, sql).rows == query(made, sql).rows
