"""Care of a database: check, rebuild, forget, redetect, snapshot."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from icl_local import store
from icl_local.exceptions import StoreError, StoreLocked
from icl_local.store import Selection, database, ingest, spool, upkeep
from icl_local.store.database import Store, ids, query
from tests.store.rows import count, fill, judged, put_of, response, stored


@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_a_truncated_database_is_reported_and_rebuilt_from_the_spool(copy: Path, size: int) -> None:
    os.truncate(copy, size)
    with pytest.raises(StoreError, match=r"damaged.*icl db doctor --repair|not a DuckDB database"):
        query(copy, "select * from main.responses")
    rebuilt = upkeep.rebuild(copy)
    assert rebuilt.rows["responses"] == 3
    assert rebuilt.kept_aside is not None
    assert rebuilt.kept_aside.stat().st_size == size
    assert any("only the old file held" in sentence for sentence in rebuilt.not_restored)
    assert stored(copy) == ["1", "2", "3"]


def test_a_rebuild_names_the_spool_lines_it_could_not_read(copy: Path) -> None:
    (file,) = spool.files(store.spool_folder(copy))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b"#" + lines[1][1:] + lines[2] + b'{"torn')
    os.truncate(copy, 100)
    rebuilt = upkeep.rebuild(copy)
    assert rebuilt.rows["responses"] == 2
    losses = " ".join(rebuilt.not_restored)
    assert f"{file.name} line 2 cannot be read" in losses
    assert "6 bytes, never whole" in losses


def test_a_rebuild_adopts_rows_that_only_the_database_has(copy: Path) -> None:
    shutil.rmtree(store.spool_folder(copy))
    before = query(copy, "select * from raw.responses order by all").rows
    rebuilt = upkeep.rebuild(copy)
    assert rebuilt.adopted == 13
    assert rebuilt.not_restored == ()
    assert query(copy, "select * from raw.responses order by all").rows == before
    copy.unlink()
    assert query(copy, "select * from raw.responses order by all").rows == before


def test_a_rebuild_leaves_out_columns_and_tables_of_only_one_database(copy: Path) -> None:
    with duckdb.connect(str(copy)) as con:
        con.execute("alter table raw.responses add column read_on date default date '2026-01-02'")
        con.execute("drop table raw.samples")
    shutil.rmtree(store.spool_folder(copy))
    rebuilt = upkeep.rebuild(copy)
    assert rebuilt.not_restored == ()
    assert stored(copy) == ["1", "2", "3"]


def test_a_rebuild_equals_the_database_it_replaces(db: Path) -> None:
    with Store(db) as target:
        for key in range(6):
            target.put(put_of(key))
            target.put(judged(key))
    upkeep.forget(db, ["3"])

    def everything() -> dict[str, list[Any]]:
        return {table: query(db, f"select * from raw.{table} order by all").rows for table in tables}

    tables = ("responses", "critical_errors", "judgments", "tombstones")
    before = everything()
    upkeep.rebuild(db)
    assert everything() == before


def test_the_check_names_what_is_missing_in_a_damaged_database(copy: Path) -> None:
    assert {finding.message for finding in upkeep.check(copy) if finding.damage} == {
        "raw.responses: 1 unknown model_id",
        "raw.responses: 3 unknown query_key",
        "raw.responses: 1 unknown run_id",
    }
    with duckdb.connect(str(copy)) as con:
        con.execute("delete from raw.responses where response_id = '1'")
        con.execute("insert into raw.prompts values ('p', 'urial', 'en', 'head', null, [], null)")
    messages = [finding.message for finding in upkeep.check(copy)]
    assert "1 row of responses is in the spool only" in messages
    assert "1 row of prompts is in the database only" in messages
    assert "raw.critical_errors: 1 unknown response_id" in messages


def test_forgotten_rows_never_come_back(db: Path) -> None:
    with Store(db) as target:
        for key in range(4):
            target.put(put_of(key, text=f"secret {key}"))
            target.put(judged(key))
    assert upkeep.matching(db, Selection(method="urial"), condition="text like '%2'") == ["2"]
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
        ingest.Ingest(con, folder, ingest.columns(con)).fold()
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
    assert upkeep.redetect(copy)["done"] == 4
    found = query(copy, "select response_id from raw.critical_errors where found and error = 'infinite_loop'").rows
    assert found == [("4",)]
    assert query(copy, "select count(distinct detector_version) from raw.critical_errors").rows == [(1,)]
    assert upkeep.redetect(copy)["done"] == 0


def test_redetect_reads_an_answer_whose_settings_are_missing(copy: Path) -> None:
    prompt = {"prompt_id": "p", "method": "urial", "language": "en", "head": "h", "tail": "", "stops": ["# Query"]}
    with Store(copy) as target:
        target.put([("prompts", prompt), ("responses", response("x", prompt_id="p", settings_id="s"))])
    assert upkeep.redetect(copy)["done"] == 4
    assert any("settings_id" in finding.message for finding in upkeep.check(copy))


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
    assert upkeep.redetect(copy) == {"done": 6, "recut": 2, "judged": 1, "cut_short": 1}
    texts = "select response_id, text, answer_rule from raw.responses where prompt_id = 'p' order by 1"
    expected = [("cut", "Yes.\n\n## Query", 2), ("read", old["text"], None), ("unread", "Paris.", 2)]
    assert query(copy, texts, unsafe=True).rows == expected
    assert query(copy, "select count(*) from raw.critical_errors where found", unsafe=True).rows == [(0,)]
    upkeep.rebuild(copy)
    assert query(copy, texts, unsafe=True).rows == expected


def test_a_snapshot_is_a_whole_private_copy_while_a_run_goes_on(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.duckdb"
    with Store(copy) as target:
        target.put(put_of(4))
        target.flush()
        assert upkeep.snapshot(copy, out) == 17
    assert out.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == ["copy.duckdb"]
    with duckdb.connect(str(out), read_only=True) as con:
        assert con.execute("select count(*) from responses").fetchone() == (4,)
        assert con.execute("select tags['storage_version'] from duckdb_databases() where not internal").fetchone() == (
            "v1.4.0+",
        )


def test_a_snapshot_overwrites_only_on_request(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.duckdb"
    out.write_text("precious")
    with pytest.raises(Exception, match="exists; name another file or pass --force"):
        upkeep.snapshot(copy, out)
    assert out.read_text() == "precious"
    upkeep.snapshot(copy, out, overwrite=True)
    assert stored(out) == ["1", "2", "3"]


def test_the_check_names_damaged_lines_refused_rows_and_files_left_behind(copy: Path) -> None:
    (file,) = spool.files(store.spool_folder(copy))
    file.write_bytes(file.read_bytes() + b"not json\n")
    journal = spool.Spool(store.spool_folder(copy))
    journal.append([("responses", {**response(9), "prompt_tokens": "many"})])
    journal.close()
    copy.with_name(f".{copy.name}.0123.part").touch()
    copy.with_name(f"{copy.name}.wal.damaged-0123").touch()
    found = {finding.message: finding.damage for finding in upkeep.check(copy)}
    assert found[f"{file.name} line 4 cannot be read; its rows are lost unless the database has them"]
    assert found[f".{copy.name}.0123.part was left by a killed process; delete it"] is False
    assert found[f"{copy.name}.wal.damaged-0123 was set aside because it was damaged; delete it"] is False
    assert [message for message in found if message.startswith("1 row of responses refused: ")]


def test_the_check_finds_what_is_left_beside_a_name_with_brackets(made: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(made, tmp_path / "a[1].duckdb"))
    (tmp_path / "a[1].duckdb.wal.damaged-0123").touch()
    assert any("wal.damaged-0123 was set aside" in finding.message for finding in upkeep.check(path))


def test_the_check_reports_a_file_that_it_cannot_open(absent: Path) -> None:
    absent.write_bytes(b"hello" * 5000)
    with pytest.raises(StoreError, match="not a DuckDB database; name another file"):
        upkeep.check(absent)
    fill(absent.with_name("y.duckdb"), 1)
    store.spool_folder(absent.with_name("y.duckdb")).rename(store.spool_folder(absent))
    (finding,) = upkeep.check(absent)
    assert finding.damage
    assert finding.message.endswith(f"its rows are in the spool, run: icl db doctor --repair --db {absent}")


def test_a_damaged_database_without_a_spool_is_left_as_it_is(copy: Path) -> None:
    for file in spool.files(store.spool_folder(copy)):
        file.unlink()
    copy.write_bytes(copy.read_bytes()[:5000])
    before = copy.read_bytes()
    with pytest.raises(StoreError, match="nothing can be restored; use a copy"):
        upkeep.rebuild(copy)
    assert copy.read_bytes() == before
    assert [file.name for file in copy.parent.glob("*.before-repair-*")] == []


def test_losses_are_named_before_the_swap(copy: Path) -> None:
    copy.write_bytes(copy.read_bytes()[:5000])
    before, named = copy.read_bytes(), []
    with pytest.raises(StoreError, match="nothing was replaced"):
        upkeep.rebuild(copy, accept=lambda lost: bool(named.extend(lost)))
    assert any("only the old file held" in sentence for sentence in named)
    assert copy.read_bytes() == before


def test_a_rebuild_needs_a_database_or_a_spool(absent: Path) -> None:
    with pytest.raises(StoreError, match=r"does not exist; .* make a database"):
        upkeep.rebuild(absent)


def test_a_spool_folder_without_files_is_not_a_database_but_its_mark_tells_of_a_loss(absent: Path) -> None:
    store.spool_folder(absent).mkdir()
    assert (database.exists(absent), database.lost(absent)) == (False, False)
    fill(absent, 1)
    assert (database.exists(absent), database.lost(absent)) == (True, False)
    absent.unlink()
    assert (database.exists(absent), database.lost(absent)) == (True, False)
    for file in spool.files(store.spool_folder(absent)):
        file.unlink()
    assert (database.exists(absent), database.lost(absent)) == (False, True)
    with pytest.raises(StoreError, match="is gone and its spool holds no rows: use a copy of both"):
        query(absent, "select 1")
    assert not absent.exists()


@pytest.mark.usefixtures("impatient")
def test_a_rebuild_of_a_database_in_use_changes_nothing(copy: Path) -> None:
    before = sorted(path.name for path in copy.parent.iterdir())
    with duckdb.connect(str(copy), config={"threads": 1}), pytest.raises(StoreLocked):
        upkeep.rebuild(copy)
    assert sorted(path.name for path in copy.parent.iterdir()) == before


def test_a_condition_cannot_widen_the_selection_by_columns(made: Path) -> None:
    for condition in ("true or true", "true) or (true", "true -- "):
        assert upkeep.matching(made, Selection(), condition=condition, equal={"query_id": "none"}) == []
    assert upkeep.matching(made, Selection()) == ["1", "2", "3"]


def test_a_failed_snapshot_leaves_no_file(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise StoreError("the disk is full")

    monkeypatch.setattr(upkeep, "_copy_rows", fail)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(StoreError, match="the disk is full"):
        upkeep.snapshot(copy, tmp_path / "copy.duckdb")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
