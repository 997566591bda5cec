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
from icl_local.store import database, ingest, spool, upkeep
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


@pytest.mark.usefixtures("quick")
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


@pytest.mark.parametrize("content", [b"", b"hello" * 5000])
def test_a_file_that_is_not_a_database_is_reported_and_unchanged(absent: Path, content: bytes) -> None:
    absent.write_bytes(content)
    for attempt in (lambda: query(absent, "select 1"), lambda: Store(absent)):
        with pytest.raises(StoreError, match="not a DuckDB database; name another file with --db") as raised:
            attempt()
        assert "\n" not in str(raised.value)
    assert absent.read_bytes() == content


def test_a_folder_is_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a DuckDB database"):
        Store(tmp_path)


def test_a_missing_database_is_not_made_by_reading(absent: Path) -> None:
    with pytest.raises(StoreError, match="there is no database"):
        query(absent, "select 1")
    assert not absent.exists()


def test_somebody_elses_database_is_left_alone(absent: Path) -> None:
    with duckdb.connect(str(absent)) as con:
        con.execute("create table mine as select 1 as x")
    before = absent.read_bytes()
    for attempt in (lambda: query(absent, "select 1"), lambda: Store(absent)):
        with pytest.raises(StoreError, match="something else"):
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
from icl_local.store import schema
from icl_local.store import query
schema.fingerprint(), schema.migrations()
if os.getuid() == 0:
    os.setuid(65534)
print(query(Path(sys.argv[1]), "select count(*) from main.responses").rows)
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
    assert out == "[(3,)]\n", err


# ------------------------------------------------------------------------------------------------- forgetting


@pytest.mark.usefixtures("quick")
def test_forgotten_rows_never_come_back(db: Path) -> None:
    with Store(db) as target:
        for key in range(4):
            target.put(put_of(key, text=f"secret {key}"))
            target.put(judged(key))
    assert upkeep.matching(db, condition="text like '%2'", equal={"method": "urial"}) == ["2"]
    assert upkeep.forget(db, ["2", "unknown"]) == 1

    def left() -> list[int]:
        return [count(db, table) for table in ("responses", "critical_errors", "judgments")]

    assert left() == [3, 9, 3]
    assert "2" in ids(db, "responses", "response_id")  # need not be made
    spooled = b"".join(file.read_bytes() for file in spool.files(store.spool_folder(db)))
    assert b"secret 1" in spooled
    assert b"secret 2" not in spooled
    with Store(db) as target:  # a merge, a run that was under way, a late verdict
        target.put(put_of(2, text="secret 2"))
        target.put(judged(2))
    assert left() == [3, 9, 3]
    db.unlink()
    assert stored(db) == ["0", "1", "3"]
    assert left() == [3, 9, 3]


@pytest.mark.usefixtures("quick")
def test_a_row_made_again_survives_the_next_forgetting_and_a_rebuild(db: Path) -> None:
    fill(db, 1, 2)
    upkeep.forget(db, ["1"])
    upkeep.allow_again(db)
    with Store(db) as target:
        target.put(put_of(1, text="made again"))
    upkeep.forget(db, ["2"])
    kept = "select response_id, text from raw.responses order by 1"
    assert query(db, kept).rows == [("1", "made again")]
    upkeep.rebuild(db)
    assert query(db, kept).rows == [("1", "made again")]


def test_folding_leaves_a_file_that_was_not_read_to_its_end(db: Path) -> None:
    """A process was killed between acknowledging a row and folding."""
    fill(db, 1)
    folder = store.spool_folder(db)
    journal = spool.Spool(folder)
    journal.append(put_of(2))
    journal.close()
    with database.writer(db, wait_seconds=1) as con:
        ingest.Ingest(con, folder, ()).fold()
    with Store(db):
        pass
    assert query(db, "select count(*) from raw.responses").rows == [(2,)]


def test_forgotten_rows_can_be_allowed_again(db: Path) -> None:
    fill(db, 1, 2)
    with Store(db) as target:
        target.put(judged(1))
    upkeep.forget(db, ["1"])
    assert upkeep.allow_again(db) == 2  # the response and its judgment
    assert stored(db) == ["2"]
    assert ids(db, "responses", "response_id") == {"2"}
    with Store(db) as target:
        target.put([*put_of(1, text="made again"), *judged(1)])
    db.unlink()
    assert query(db, "select text from raw.responses order by 1").rows == [("made again",), ("text 2",)]
    assert count(db, "judgments") == 1


def test_a_tombstone_works_before_its_row_arrives(db: Path) -> None:
    with Store(db) as target:
        target.put([("tombstones", {"table_name": "responses", "key": "1", "active": True, "created_at": store.now()})])
        target.put(put_of(1))
        target.put(judged(1))
        target.put(put_of(2))
    assert stored(db) == ["2"]
    assert count(db, "judgments") == 0


def test_detections_are_brought_to_the_present_detector(copy: Path) -> None:
    with Store(copy) as target:
        target.put([("responses", response(4, text="round and round we go; " * 20))])
    progress: list[tuple[int, int]] = []
    assert upkeep.redetect(copy, on_progress=lambda done, of: progress.append((done, of))).done == 4
    assert progress == [(4, 4)]
    found = query(copy, "select response_id from raw.critical_errors where found and error = 'infinite_loop'").rows
    assert found == [("4",)]
    assert query(copy, "select count(distinct detector_version) from raw.critical_errors").rows == [(1,)]
    assert upkeep.redetect(copy).done == 0


def test_redetect_cuts_old_answers_by_todays_rule_but_not_those_a_judge_has_read(copy: Path) -> None:
    tail = "```\n\n# Answer:\n```\n"
    prompt = {"prompt_id": "p", "method": "urial", "language": "en", "head": "# Query:\n```", "tail": tail,
              "stops": ["# Query", "#Query"]}  # fmt: skip
    settings = {"settings_id": "s", "backend": "llama.cpp"}
    raw_text = "Paris.\n```\n\nTotal = 5 apples\n\n# Query"
    old = {"prompt_id": "p", "settings_id": "s", "raw_text": raw_text, "text": "Paris.\n```\n\nTotal = 5 apples"}
    heading = {**old, "raw_text": "Yes.\n\n## Query", "text": "Yes.\n\n#"}
    with Store(copy) as target:
        target.put([("prompts", prompt), ("settings", settings)])
        target.put([("responses", response(key, **old)) for key in ("unread", "read")])
        target.put([("responses", response("cut", **heading))])
        target.put(judged("read"))
    assert upkeep.redetect(copy) == upkeep.Redetected(done=6, recut=2, judged=1, cut_short=1)
    texts = "select response_id, text, answer_rule from raw.responses where prompt_id = 'p' order by 1"
    expected = [("cut", "Yes.\n\n## Query", 2), ("read", old["text"], None), ("unread", "Paris.", 2)]
    assert query(copy, texts, unsafe=True).rows == expected
    assert query(copy, "select count(*) from raw.critical_errors where found", unsafe=True).rows == [(0,)]
    upkeep.rebuild(copy)
    assert query(copy, texts, unsafe=True).rows == expected


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
            for rows in store.table_rows(con, table, ingest.columns(con)[table], batch=2):
                target.put([(table, row) for row in rows])
    for table in ("responses", "critical_errors"):
        sql = f"select * from raw.{table} order by all"
        assert query(db, sql).rows == query(made, sql).rows
