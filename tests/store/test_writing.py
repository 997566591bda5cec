"""What is put is there, once, with its types: through kills, locks and a full disk; and the schema it is put into."""

from __future__ import annotations

import contextlib
import graphlib
import itertools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from icl_local import store
from icl_local.exceptions import StoreError, StoreLocked
from icl_local.store import database, ingest, schema, spool, upkeep
from icl_local.store.database import Store, ids, query
from tests.store.rows import Holder, Put, child, count, error_row, fill, put_of, response, stored

# ---------------------------------------------------------------------------------------------------- writing


def test_rows_are_readable_after_closing_and_only_once(db: Path) -> None:
    fill(db, 1, 2)
    fill(db, 2, 3)
    assert stored(db) == ["1", "2", "3"]
    assert count(db, "critical_errors") == 9


def test_values_come_back_with_their_types(db: Path) -> None:
    query_row = {
        "query_key": "k",
        "dataset": "d",
        "query_id": "0",
        "language": "en",
        "split": "multi",
        "task": ["coding"],
    }
    cell = {"run_cell_id": "c", "run_id": "r", "model_id": "m", "method": "urial", "language": "en", "status": "done"}
    with Store(db) as target:
        target.put(
            [
                ("queries", {**query_row, "instruction": "é\0\ud800"}),
                ("queries", {**query_row, "query_key": "l", "task": [], "instruction": "x"}),
                ("queries", {**query_row, "query_key": "n", "task": None, "instruction": "x"}),
                ("run_cells", {**cell, "n_wanted": 1, "n_done": 1, "engine_settings": {"a": [1, "é"]}}),
                ("run_cells", {**cell, "run_cell_id": "d", "n_wanted": 1, "n_done": 1, "wall_seconds": float("nan")}),
            ]
        )
    read = query(db, "select instruction, task from raw.queries order by query_key").rows
    assert read == [("é��", ["coding"]), ("x", []), ("x", None)]
    cells = query(
        db, "select engine_settings->>'$.a[1]', isnan(wall_seconds) from raw.run_cells order by run_cell_id"
    ).rows
    assert cells == [("é", None), (None, True)]


def test_rows_of_an_open_run_can_be_read_through_it(db: Path) -> None:
    with Store(db, flush_rows=1000) as target:
        target.put(put_of(1))
        assert target.rows("select count(*) from raw.responses").rows == [(1,)]


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("nonsense", {}, "raw.nonsense is not a table"),
        ("responses", {**response(1), "colour": "red"}, "no column colour"),
        ("responses", {**response(1), "text": None}, "lacks text"),
        ("responses", {**response(1), "new_tokens": 1 << 31}, "raw.responses.new_tokens cannot hold 2147483648"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_before_it_is_acknowledged(
    db: Path, table: str, row: dict[str, object], message: str
) -> None:
    with Store(db) as target, pytest.raises(StoreError, match=message):
        target.put([("responses", response(0)), (table, row)])
    assert stored(db) == []


def test_a_row_duckdb_refuses_does_not_hold_up_the_others(db: Path) -> None:
    with Store(db) as target:
        target.put([("responses", response(key, prompt_tokens="many" if key == 5 else 7)) for key in range(9)])
    assert stored(db) == ["0", "1", "2", "3", "4", "6", "7", "8"]
    ((table, reason),) = query(db, "select table_name, reason from raw.rejected_rows").rows
    assert table == "responses"
    assert "many" in reason
    assert any(" refused: " in finding.message for finding in upkeep.check(db))


@pytest.mark.parametrize("order", [("1.9", "1.10"), ("1.10", "1.9")])
@pytest.mark.parametrize("together", [True, False])
def test_a_newer_detector_wins_whatever_the_order(db: Path, order: tuple[str, str], together: bool) -> None:
    rows: Put = [("critical_errors", error_row(1, found=version == "1.10", version=version)) for version in order]
    with Store(db) as target:
        for records in [rows] if together else [[row] for row in rows]:
            target.put(records)
            target.flush()
    assert query(db, "select found, detector_version from raw.critical_errors").rows == [(True, "1.10")]


def test_a_failed_response_makes_way_for_one_that_worked(db: Path) -> None:
    with Store(db) as target:
        for reason in ("error", "stop", "error"):
            target.put([("responses", response(1, text=reason, finish_reason=reason))])
            target.flush()
    assert query(db, "select text from raw.responses").rows == [("stop",)]


def test_a_batch_as_large_as_a_study_goes_in(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "BATCH_ROWS", 100)
    with Store(db, flush_rows=10_000) as target:
        for start in range(0, 1000, 50):
            target.put([record for key in range(start, start + 50) for record in put_of(key)])
    assert count(db, "responses") == 1000
    assert count(db, "critical_errors") == 3000


def test_known_keys_include_what_waits_in_the_spool(copy: Path) -> None:
    journal = spool.Spool(store.spool_folder(copy))
    journal.append([("responses", response(4))])
    assert ids(copy, "responses", "response_id") == {"1", "2", "3", "4"}
    journal.close()
    assert ids(copy.with_name("none.duckdb"), "responses", "response_id") == set()


def test_files_with_prompts_and_answers_are_the_owners_alone(db: Path) -> None:
    with Store(db) as target:
        target.put(put_of(1))
        target.flush()
        modes = {path.name: path.stat().st_mode & 0o777 for path in db.parent.iterdir()}
    assert modes == {"x.duckdb": 0o600, "x.duckdb.wal": 0o600, "x.duckdb.spool": 0o700}
    assert os.umask(0o022) == 0o022


def test_many_spool_files_are_folded_into_one(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "FOLD_ABOVE", 1)
    for key in range(3):
        fill(db, key)
    Store(db).close()
    assert len(spool.files(store.spool_folder(db))) == 1
    assert stored(db) == ["0", "1", "2"]
    db.unlink()
    assert stored(db) == ["0", "1", "2"]


# ---------------------------------------------------------------------------------- kills, locks, full disks

# puts what it reads, one put a line, and prints the key of each once it is acknowledged
WRITE = """
import json, sys
from pathlib import Path
from icl_local.exceptions import DiskFull
from icl_local.store import Store
try:
    with Store(Path(sys.argv[1]), flush_rows=16) as target:
        for line in sys.stdin:
            records = json.loads(line)
            target.put([tuple(record) for record in records])
            print(records[0][1]["response_id"], flush=True)
except DiskFull as error:
    print(error, file=sys.stderr)
    sys.exit(3)
"""


def puts(keys: range, *, characters: int = 500) -> str:
    return "".join(json.dumps(put_of(key, text="x" * characters)) + "\n" for key in keys)


def test_nothing_acknowledged_is_lost_when_runs_are_killed(db: Path) -> None:
    acknowledged: list[str] = []
    for start, kill_after in ((0, 1), (100, 20), (200, 45)):
        with child(WRITE, db) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            feed = threading.Thread(target=_feed, args=(process.stdin, puts(range(start, start + 60))))
            feed.start()
            acknowledged += [process.stdout.readline().strip() for _ in range(kill_after)]
            process.send_signal(signal.SIGKILL)
            acknowledged += process.stdout.read().split()
            feed.join()
    found = stored(db)
    assert set(acknowledged) <= set(found)
    assert count(db, "critical_errors") == 3 * len(found)
    assert not any("spool only" in finding.message for finding in upkeep.check(db))


def _feed(pipe: Any, text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.write(text)
        pipe.flush()


def test_two_writers_at_once_finish_without_duplicates(db: Path) -> None:
    processes = [child(WRITE, db) for _ in range(2)]
    lines = puts(range(60))
    feeds = [threading.Thread(target=process.communicate, args=(lines,)) for process in processes]
    for feed in feeds:
        feed.start()
    for feed in feeds:
        feed.join()
    assert [process.returncode for process in processes] == [0, 0]
    assert stored(db) == [str(key) for key in range(60)]
    assert count(db, "critical_errors") == 180


def test_a_full_disk_stops_the_run_and_loses_nothing(db: Path) -> None:
    limit = db.stat().st_size + 400_000
    process = child(WRITE, db, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    out, err = process.communicate(puts(range(60), characters=200_000))
    assert process.returncode == 3, err
    assert "no space left" in err
    assert stored(db) == out.split()
    fill(db, 5000)
    assert stored(db) == [*out.split(), "5000"]


def test_a_run_goes_on_while_a_reader_holds_the_file(copy: Path) -> None:
    with Store(copy, flush_rows=1) as target:
        with Holder(copy) as holder:
            target.put(put_of(4))
            target.put(put_of(5))
            assert target.flush() == 8
            holder.free()
        assert target.flush() == 0
    assert stored(copy) == ["1", "2", "3", "4", "5"]


def test_views_of_another_version_that_cannot_be_renewed_are_named(copy: Path) -> None:
    with duckdb.connect(str(copy)) as con:
        con.execute("update raw.store_meta set value = 'other' where name = 'fingerprint'; drop view main.scores")
    with Holder(copy):
        assert query(copy, "select 1").rows == [(1,)]
        with pytest.raises(
            StoreError, match=r"scores does not exist.*; its views may be of another version, since .* is held"
        ):
            query(copy, "from scores")
    assert query(copy, "from scores").columns


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_outlasts_the_run_leaves_everything_in_the_spool(copy: Path) -> None:
    target = Store(copy)
    with Holder(copy, "write"):
        target.put(put_of(4))
        with pytest.raises(StoreLocked, match=r"process \d+; .*4 rows are safe in .*icl status"):
            target.close()
    assert stored(copy) == ["1", "2", "3", "4"]


@pytest.mark.usefixtures("impatient")
def test_a_lock_does_not_hide_the_error_that_ended_the_run(copy: Path) -> None:
    def run() -> None:
        with Store(copy) as target, Holder(copy):
            target.put(put_of(4))
            target.close()

    with pytest.raises(StoreLocked):
        run()
    with pytest.raises(ZeroDivisionError), Store(copy) as target:
        target.flush_rows = target.put(put_of(5)) or 1 // 0


@pytest.mark.usefixtures("impatient")
def test_a_locked_database_is_reported_with_the_process_that_holds_it(copy: Path) -> None:
    with Holder(copy, "write") as holder:
        with pytest.raises(StoreLocked, match=rf"held by python.*, process {holder.process.pid}; close it"):
            query(copy, "select 1")
        with pytest.raises(StoreLocked):
            Store(copy)


@pytest.mark.usefixtures("impatient")
def test_waiting_for_a_lock_is_told_once(
    copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "_QUIET_SECONDS", 0)
    with Holder(copy, "write"), pytest.raises(StoreLocked):
        query(copy, "select 1")
    (told,) = caplog.messages
    assert re.search(r"is held by python.*, process \d+; close it there; waiting for it up to 0.1 s$", told)


def test_a_reader_waits_for_a_lock(copy: Path) -> None:
    with Holder(copy, "write") as holder:
        answers: list[Any] = []
        reader = threading.Thread(target=lambda: answers.append(stored(copy)))
        reader.start()
        reader.join(timeout=0.2)
        assert answers == []
        holder.free()
        reader.join()
    assert answers == [["1", "2", "3"]]


POLL = """
import sys
from pathlib import Path
from icl_local.store import query
seen = []
for line in sys.stdin:
    seen.append(query(Path(sys.argv[1]), "select count(*) from main.responses").rows[0][0])
    print(seen[-1], flush=True)
"""


def test_readers_never_fail_and_never_see_rows_vanish_while_a_run_goes_on(copy: Path) -> None:
    readers = [child(POLL, copy) for _ in range(2)]
    with Store(copy, flush_rows=4) as target:
        for key in range(10, 26):
            for reader in readers:
                assert reader.stdin is not None
                reader.stdin.write("\n")
                reader.stdin.flush()
            target.put(put_of(key))
    for reader in readers:
        out, err = reader.communicate()
        seen = [int(number) for number in out.split()]
        assert err == ""
        assert len(seen) == 16
        assert seen == sorted(seen)
    assert count(copy, "responses") == 19


def test_threads_of_one_process_read_and_write_together(copy: Path) -> None:
    problems: list[Exception] = []

    def read() -> None:
        try:
            for _ in range(5):
                query(copy, "select count(*) from main.responses")
        except Exception as error:
            problems.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    with Store(copy, flush_rows=4) as target:
        for reader in readers:
            reader.start()
        for key in range(10, 30):
            target.put(put_of(key))
        for reader in readers:
            reader.join()
    assert problems == []
    assert count(copy, "responses") == 23


# ----------------------------------------------------------------------------------------------------- schema


def test_a_query_keeps_its_task_and_its_tags_whichever_came_first(tmp_path: Path) -> None:
    row = {"query_key": "k", "dataset": "d", "query_id": "0", "language": "en", "split": "multi", "instruction": "x"}
    for n, parts in enumerate(itertools.permutations([{"task": ["coding"]}, {"tags": ["a"]}, {}])):
        db = tmp_path / f"{n}.duckdb"
        for part in parts:
            with Store(db) as target:
                target.put([("queries", {**row, **part})])
        assert store.query(db, "select task, tags from raw.queries").rows == [(["coding"], ["a"])]


def test_the_newest_schema_is_what_the_migrations_make(made: Path) -> None:
    with duckdb.connect() as con:
        for sql in schema.migrations().values():
            con.execute(sql)
        fresh = ingest.columns(con)
    with store.reader(made) as con:
        found = ingest.columns(con)
    del found["schema_migrations"]
    assert found == fresh


def test_ranks_name_columns_that_exist(made: Path) -> None:
    with store.reader(made) as con:
        known = ingest.columns(con)
    for table, rank in ingest.RANK.items():
        ranked_by = re.findall(r"\{row\}\.(\w+)", rank)
        assert ranked_by
        assert all(column in known[table] for column in ranked_by)
    assert all(column in known[table] for table, column in ingest.FORGETTABLE.items())


def test_every_view_answers_on_an_empty_database_in_a_plain_client_and_begins_with_no_key(empty_database: Path) -> None:
    with duckdb.connect(str(empty_database), read_only=True) as con:
        for view in schema.views():
            columns = [name for name, *_ in con.execute(f"select * from main.{view}").description]
            assert not re.search("(?<!query)_id$|_key$|_sha256$", columns[0]) or view == "query_clusters", view
        silent = con.execute(
            "select view_name from duckdb_views() where schema_name = 'main' and not internal and comment is null"
        ).fetchall()
    assert silent == []


def test_every_process_makes_the_views_in_one_order() -> None:
    """Else a database that one process made is outdated for another, which opens it for writing."""
    program = "from icl_local.store import schema; print(schema.fingerprint())"
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed)}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in range(4)
    }  # fmt: skip
    assert len(found) == 1


def test_views_are_ordered_by_what_they_read() -> None:
    def views(**sources: str) -> dict[str, str]:
        text = "create or replace view main.{} as select * from {} -- from z\n;"
        return {name: text.format(name, source) for name, source in sources.items()}

    assert list(schema.sort_views(views(a="main.b inner join c using (x)", b="c", c="raw.a", z="a"))) == [*"cbaz"]
    with pytest.raises(graphlib.CycleError):
        schema.sort_views(views(a="b", b="a"))


def test_a_file_of_a_view_makes_the_view_of_its_name_and_migrations_have_no_gap() -> None:
    created = re.compile(r"create\s+or\s+replace\s+view\s+main\.(\w+)\s+as\b", re.IGNORECASE)
    for view, sql in schema.views().items():
        assert created.findall(re.sub(r"--[^\n]*", "", sql)) == [view]
    assert [int(name[:4]) for name in schema.migrations()] == list(range(1, len(schema.migrations()) + 1))


def test_a_missing_migration_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    found = dict(schema.migrations())
    del found[next(iter(found))]
    monkeypatch.setattr(schema, "_statements", lambda folder: found)
    with pytest.raises(StoreError, match="a step of db/migrations is missing; reinstall icl-local"):
        schema.migrations.__wrapped__()


def test_a_database_with_other_views_gets_these(copy: Path) -> None:
    with duckdb.connect(str(copy)) as con:
        con.execute("drop view main.error_rates; update raw.store_meta set value = 'older'")
    assert query(copy, "select count(*) from main.error_rates").rows == [(2,)]


def test_every_published_cell_is_there_with_its_version_and_the_models_name_set_right(made: Path) -> None:
    assert query(made, "select count(*) from raw.published_scores").rows == [(299,)]
    assert query(made, "select count(*) from raw.published_errors").rows == [(70,)]
    changed = query(made, "select distinct model_printed, model from raw.published_scores where model <> model_printed")
    assert changed.rows == [("EuroLLM 8B", "EuroLLM 9B")]
    for view in ("published_scores", "published_errors", "versus_paper"):
        assert query(made, f"select distinct paper_version from {view}").rows == [("2503.01611v2",)]


@pytest.fixture(autouse=True)
def _no_litter(tmp_path: Path) -> Iterator[None]:
    yield
    left = [path.name for path in tmp_path.iterdir() if path.name.endswith((".new", ".part", ".part.wal", ".new.wal"))]
    assert left == []
