"""The database behind the spool: locks, crashes, damage, forgetting, and reading that can do no harm."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import duckdb
import pytest

from icl_local import ingest, schema, spool, store, upkeep
from icl_local.errors import StoreError, StoreLocked
from icl_local.store import Store, ids, query

Put = list[tuple[str, dict[str, object]]]

ERRORS = ("infinite_loop", "infinite_loop_literal", "unintended_code")


def response(key: object, **more: object) -> dict[str, object]:
    return {
        "response_id": str(key),
        "model_id": "m",
        "query_key": f"q{key}",
        "run_id": "r",
        "method": "urial",
        "language": "en",
        "text": f"text {key}",
        "raw_text": f"text {key}\n# Query",
        "finish_reason": "stop",
        "created_at": store.now(),
        **more,
    }


def error_row(
    key: object, error: str = "infinite_loop", *, found: bool = False, version: str = "1"
) -> dict[str, object]:
    return {"response_id": str(key), "error": error, "found": found, "detector_version": version}


def put_of(key: object, **more: object) -> Put:
    return [("responses", response(key, **more)), *(("critical_errors", error_row(key, error)) for error in ERRORS)]


def judged(key: object) -> Put:
    verdict: dict[str, object] = {
        "judgment_id": f"j{key}",
        "attempt": 0,
        "response_id": str(key),
        "judge_id": "judge",
        "template_sha256": "t",
        "repeat": 0,
        "status": "ok",
        "created_at": store.now(),
    }
    score = {"judgment_id": f"j{key}", "attempt": 0, "metric": "depth", "score": 3.0, "not_applicable": False}
    return [("judgments", verdict), ("scores", score)]


def fill(db: Path, *keys: object) -> Path:
    with Store(db) as target:
        for key in keys:
            target.put(put_of(key))
    return db


def stored(db: Path) -> list[str]:
    return [
        row[0] for row in query(db, "select response_id from raw.responses order by try_cast(response_id as int)").rows
    ]


def count(db: Path, table: str) -> int:
    return int(query(db, f"select count(*) from raw.{table}").rows[0][0])


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database: making one costs more than copying it."""
    path = tmp_path_factory.mktemp("empty") / "x.duckdb"
    Store(path).close()
    return path


@pytest.fixture
def quick(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New databases are copies of ``empty``, for tests that make several and are about what comes after."""
    monkeypatch.setattr(store, "_create", lambda path: shutil.copy(empty, path))


@pytest.fixture
def absent(tmp_path: Path) -> Path:
    return tmp_path / "x.duckdb"


@pytest.fixture
def db(empty: Path, absent: Path) -> Path:
    """An empty database."""
    return Path(shutil.copy(empty, absent))


@pytest.fixture(scope="module")
def made(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small database to read from, never written by a test."""
    return fill(Path(shutil.copy(empty, tmp_path_factory.mktemp("made"))), 1, 2, 3)


@pytest.fixture
def copy(made: Path, db: Path) -> Path:
    """A copy of it, with its spool."""
    shutil.copy(made, db)
    shutil.copytree(store.spool_folder(made), store.spool_folder(db))
    return db


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_WAIT_SECONDS", 0.1)


def child(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Another Python process that can be spoken to."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options)


HOLD = """
import sys, duckdb
con = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("held", flush=True)
sys.stdin.readline()
con.close()
print("free", flush=True)
"""


class Holder:
    """A process that holds the database file from the start of the block until ``free``."""

    def __init__(self, path: Path, how: str = "read") -> None:
        self.process = child(HOLD, path, how)

    def __enter__(self) -> Holder:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n", self.process.stderr and self.process.stderr.read()
        return self

    def free(self) -> None:
        self.process.communicate("\n")

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.free()


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
    cell = {"cell_id": "c", "run_id": "r", "model_id": "m", "method": "urial", "language": "en", "status": "done"}
    with Store(db) as target:
        target.put(
            [
                ("queries", {**query_row, "instruction": "é\0\ud800"}),
                ("queries", {**query_row, "query_key": "l", "task": [], "instruction": "x"}),
                ("queries", {**query_row, "query_key": "n", "task": None, "instruction": "x"}),
                ("run_cells", {**cell, "n_wanted": 1, "n_done": 1, "engine_settings": {"a": [1, "é"]}}),
                ("run_cells", {**cell, "cell_id": "d", "n_wanted": 1, "n_done": 1, "wall_seconds": float("nan")}),
            ]
        )
    read = query(db, "select instruction, task from raw.queries order by query_key").rows
    assert read == [("é��", ["coding"]), ("x", []), ("x", None)]
    cells = query(db, "select engine_settings->>'$.a[1]', isnan(wall_seconds) from raw.run_cells order by cell_id").rows
    assert cells == [("é", None), (None, True)]


def test_rows_of_an_open_run_can_be_read_through_it(db: Path) -> None:
    with Store(db, flush_rows=1000) as target:
        target.put(put_of(1))
        assert target.rows("select count(*) from raw.responses").rows == [(1,)]


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("nonsense", {}, "no table raw.nonsense"),
        ("responses", {**response(1), "colour": "red"}, "no column colour"),
        ("responses", {**response(1), "text": None}, "lacks text"),
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
    assert any("were refused" in finding.message for finding in upkeep.check(db))


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


@pytest.mark.usefixtures("quick")
def test_many_spool_files_are_folded_into_one(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FOLD_ABOVE", 1)
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
from icl_local.errors import DiskFull
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
def test_a_locked_database_is_told_with_the_process_that_holds_it(copy: Path) -> None:
    with Holder(copy, "write") as holder:
        with pytest.raises(StoreLocked, match=rf"held by python.*, process {holder.process.pid}; close it"):
            query(copy, "select 1")
        with pytest.raises(StoreLocked):
            Store(copy)


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
    monkeypatch.setattr(store, "datetime", Past)
    fill(copy, 3, 4)
    assert spool.files(store.spool_folder(copy))[0].name.startswith("1999")
    assert stored(copy) == ["1", "2", "3", "4"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_a_truncated_database_is_told_and_rebuilt_from_the_spool(copy: Path, size: int) -> None:
    os.truncate(copy, size)
    with pytest.raises(StoreError, match=r"damaged.*icl doctor --repair|not a DuckDB database"):
        query(copy, "select * from main.responses")
    rebuilt = upkeep.rebuild(copy)
    assert rebuilt.rows["responses"] == 3
    assert rebuilt.kept_aside is not None
    assert rebuilt.kept_aside.stat().st_size == size
    assert any("only the old file held" in sentence for sentence in rebuilt.not_restored)
    assert stored(copy) == ["1", "2", "3"]


@pytest.mark.usefixtures("quick")
def test_a_rebuild_names_the_spool_lines_it_could_not_read(copy: Path) -> None:
    (file,) = spool.files(store.spool_folder(copy))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b"#" + lines[1][1:] + lines[2] + b'{"torn')
    os.truncate(copy, 100)
    rebuilt = upkeep.rebuild(copy)
    assert rebuilt.rows["responses"] == 2
    told = " ".join(rebuilt.not_restored)
    assert f"{file.name} line 2 cannot be read" in told
    assert "6 bytes, never whole" in told


@pytest.mark.usefixtures("quick")
def test_a_rebuild_takes_over_what_only_a_readable_database_holds(copy: Path) -> None:
    shutil.rmtree(store.spool_folder(copy))
    before = query(copy, "select * from raw.responses order by all").rows
    rebuilt = upkeep.rebuild(copy)
    assert rebuilt.adopted == 12
    assert rebuilt.not_restored == ()
    assert query(copy, "select * from raw.responses order by all").rows == before
    copy.unlink()
    assert query(copy, "select * from raw.responses order by all").rows == before


@pytest.mark.usefixtures("quick")
def test_a_rebuild_equals_the_database_it_replaces(db: Path) -> None:
    with Store(db) as target:
        for key in range(6):
            target.put(put_of(key))
            target.put(judged(key))
    upkeep.forget(db, ["3"])

    def everything() -> dict[str, list[Any]]:
        return {table: query(db, f"select * from raw.{table} order by all").rows for table in tables}

    tables = ("responses", "critical_errors", "judgments", "scores", "tombstones")
    before = everything()
    upkeep.rebuild(db)
    assert everything() == before


def test_the_check_of_a_whole_database_finds_nothing_and_of_a_poor_one_says_what(copy: Path) -> None:
    assert {finding.message for finding in upkeep.check(copy) if finding.damage} == {
        "raw.responses: 1 unknown model_id",
        "raw.responses: 3 unknown query_key",
        "raw.responses: 1 unknown run_id",
    }
    with duckdb.connect(str(copy)) as con:
        con.execute("delete from raw.responses where response_id = '1'")
        con.execute("insert into raw.prompts values ('p', 'urial', 'en', 'head', null, [])")
    messages = [finding.message for finding in upkeep.check(copy)]
    assert "1 rows of responses are in the spool only" in messages
    assert "1 rows of prompts are in the database only" in messages
    assert "raw.critical_errors: 1 unknown response_id" in messages


# ----------------------------------------------------------------------------------------- what is no database


@pytest.mark.parametrize("content", [b"", b"hello" * 5000])
def test_a_file_that_is_no_database_is_told_and_left_alone(absent: Path, content: bytes) -> None:
    absent.write_bytes(content)
    for attempt in (lambda: query(absent, "select 1"), lambda: Store(absent)):
        with pytest.raises(StoreError, match="not a DuckDB database; name another file with --db") as told:
            attempt()
        assert "\n" not in str(told.value)
    assert absent.read_bytes() == content


def test_a_folder_is_no_database(tmp_path: Path) -> None:
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


def test_a_folder_that_cannot_be_written_is_told(made: Path) -> None:
    with pytest.raises(StoreError, match="cannot make"):
        Store(made / "below" / "x.duckdb")


READ_AS_NOBODY = """
import importlib.readers, os, sys
from pathlib import Path
from icl_local import schema
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
        return [count(db, table) for table in ("responses", "critical_errors", "judgments", "scores")]

    assert left() == [3, 9, 3, 3]
    assert "2" in ids(db, "responses", "response_id")  # need not be made
    spooled = b"".join(file.read_bytes() for file in spool.files(store.spool_folder(db)))
    assert b"secret 1" in spooled
    assert b"secret 2" not in spooled
    with Store(db) as target:  # a merge, a run that was under way, a late verdict
        target.put(put_of(2, text="secret 2"))
        target.put(judged(2))
    assert left() == [3, 9, 3, 3]
    db.unlink()
    assert stored(db) == ["0", "1", "3"]
    assert left() == [3, 9, 3, 3]


@pytest.mark.usefixtures("quick")
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
    assert count(db, "scores") == 1


def test_a_tombstone_works_before_its_row_arrives(db: Path) -> None:
    with Store(db) as target:
        target.put([("tombstones", {"table_name": "responses", "key": "1", "active": True, "created_at": store.now()})])
        target.put(put_of(1))
        target.put(judged(1))
        target.put(put_of(2))
    assert stored(db) == ["2"]
    assert count(db, "scores") == 0


def test_detections_are_brought_to_the_present_detector(copy: Path) -> None:
    with Store(copy) as target:
        target.put([("responses", response(4, text="round and round we go; " * 20))])
    progress: list[tuple[int, int]] = []
    assert upkeep.redetect(copy, on_progress=lambda done, of: progress.append((done, of))) == 4
    assert progress == [(4, 4)]
    found = query(copy, "select response_id from raw.critical_errors where found and error = 'infinite_loop'").rows
    assert found == [("4",)]
    assert query(copy, "select count(distinct detector_version) from raw.critical_errors").rows == [(1,)]
    assert upkeep.redetect(copy) == 0


# -------------------------------------------------------------------------------------------- copies, exports


def test_a_snapshot_is_a_whole_private_copy_while_a_run_goes_on(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.duckdb"
    with Store(copy) as target:
        target.put(put_of(4))
        target.flush()
        assert upkeep.snapshot(copy, out) == 16
    assert out.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == ["copy.duckdb"]
    with duckdb.connect(str(out), read_only=True) as con:
        assert con.execute("select count(*) from responses").fetchone() == (4,)
        assert con.execute("select tags['storage_version'] from duckdb_databases() where not internal").fetchone() == (
            "v1.4.0+",
        )


@pytest.mark.usefixtures("quick")
def test_a_snapshot_does_not_overwrite_unless_told(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.duckdb"
    out.write_text("precious")
    with pytest.raises(Exception, match="exists; name another file or pass --force"):
        upkeep.snapshot(copy, out)
    assert out.read_text() == "precious"
    upkeep.snapshot(copy, out, overwrite=True)
    assert stored(out) == ["1", "2", "3"]


def test_parquet_is_written_whole_or_not_at_all(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "it's.parquet"
    assert store.export_parquet(made, "select response_id, text from main.responses;", out) == 3
    assert duckdb.read_parquet(str(out)).fetchall() != []
    with pytest.raises(StoreError):
        store.export_parquet(made, "select error('no')", tmp_path / "no.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["it's.parquet"]


def test_rows_read_from_one_database_can_be_put_into_another(made: Path, db: Path) -> None:
    with Store(db) as target:
        for table in ("responses", "critical_errors"):
            assert table in store.tables(made)
            for rows in store.read_rows(made, table, batch=2):
                target.put([(table, row) for row in rows])
    for table in ("responses", "critical_errors"):
        sql = f"select * from raw.{table} order by all"
        assert query(db, sql).rows == query(made, sql).rows


# ---------------------------------------------------------------------------------------------------- reading

HARMFUL = """
create table t (x int)
delete from raw.responses
drop view main.responses
copy raw.responses to '{folder}/out.csv'
copy (select 1) to '{db}.wal' (use_tmp_file false)
copy (select 1) to '{db}' (use_tmp_file false)
explain analyze copy (select 1) to '{db}.wal' (use_tmp_file false)
/* x */ explain analyze copy (select 1) to '{db}.wal' (use_tmp_file false)
explain (analyze) copy (select 1) to '{db}.wal' (use_tmp_file false)
select 1; copy (select 1) to '{db}.wal' (use_tmp_file false)
with x as (copy (select 1) to '{db}.wal' (use_tmp_file false)) from x
with x as(\u00a0copy (select 1) to '{db}' (use_tmp_file false)) from x
explain analyze with x as (copy (select 1) to '{db}.wal' (use_tmp_file false)) from x
from query('with x as (copy (select 1) to ''{db}.wal'' (use_tmp_file false)) from x')
from json_execute_serialized_sql(json_serialize_sql('select 1'))
from query('from json_execute_serialized_sql(''{{}}'')')
with x as (delete from raw.responses returning 1) from x
export database '{folder}/all'
import database '{folder}'
attach '{folder}/other.duckdb'
install httpfs
load httpfs
load '{folder}/x.duckdb_extension'
set enable_external_access = true
reset lock_configuration
pragma enable_profiling
call enable_logging()
checkpoint
select * from read_csv('/etc/passwd')
select * from read_text('/etc/hostname')
select * from read_blob('/etc/hostname')
from '/etc/passwd'
from glob('/etc/*')
from sniff_csv('/etc/passwd')
from parquet_metadata('/etc/passwd')
from read_duckdb('{folder}/other.duckdb')
from duckdb_secrets()
from python_variable
begin

""".strip("\n").split("\n")


@pytest.mark.parametrize("sql", HARMFUL)
def test_a_query_cannot_write_or_reach_out(made: Path, tmp_path: Path, sql: str) -> None:
    python_variable = [1]
    files = {path: path.stat().st_size for path in (*made.parent.iterdir(), *tmp_path.iterdir())}
    with pytest.raises(StoreError) as told:
        query(made, sql.format(db=made, folder=tmp_path))
    assert "\n" not in str(told.value)
    assert {path: path.stat().st_size for path in (*made.parent.iterdir(), *tmp_path.iterdir())} == files
    assert python_variable == [1]


@pytest.mark.parametrize(
    "sql",
    [
        "select 1;",
        "from main.responses",
        "with x as (select 1) from x",
        "show tables",
        "describe main.responses",
        "summarize main.responses",
        "explain select 1",
        "explain analyze select 1",
        "values (1)",
    ],
)
def test_every_form_of_reading_is_allowed(made: Path, sql: str) -> None:
    assert query(made, sql).rows


def test_unsafe_reads_other_files_and_still_cannot_change_the_database(made: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    assert query(made, f"from '{tmp_path}/x.csv'", unsafe=True).rows == [(1,)]
    with pytest.raises(StoreError, match="read-only"):
        query(made, "delete from raw.responses", unsafe=True)


def test_a_query_is_ended_at_its_timeout(made: Path) -> None:
    with pytest.raises(StoreError, match=r"took longer than 0.2 s; narrow it or raise --timeout"):
        query(made, "select count(*) from range(1000000) a, range(1000000) b where hash(a, b) = 1", timeout=0.2)


def test_a_wrong_query_is_one_line(made: Path) -> None:
    with pytest.raises(StoreError, match=r"^Binder Error: .*colour") as told:
        query(made, "select colour\nfrom main.responses")
    assert "\n" not in str(told.value)


def test_parameters_types_and_limit(made: Path) -> None:
    rows = query(made, "select response_id, exact from main.responses where response_id > ? order by 1", ["1"], limit=1)
    assert rows == store.Rows(["response_id", "exact"], ["VARCHAR", "BOOLEAN"], [("2", None)])


# ----------------------------------------------------------------------------------------------------- schema


def test_the_newest_schema_is_what_the_migrations_make(made: Path) -> None:
    with duckdb.connect() as con:
        for step in schema.migrations():
            con.execute(step.sql)
        fresh = ingest.columns(con)
    with store.reader(made) as con:
        found = ingest.columns(con)
    del found["schema_migrations"]
    assert found == fresh


def test_ranks_name_columns_that_exist(made: Path) -> None:
    with store.reader(made) as con:
        known = ingest.columns(con)
    for table, rank in ingest.RANK.items():
        (column,) = re.findall(r"\{row\}\.(\w+)", rank)
        assert column in known[table]
    assert all(column in known[table] for table, column in ingest.FORGETTABLE.items())


def test_every_view_answers_on_an_empty_database_in_a_plain_client(empty: Path) -> None:
    with duckdb.connect(str(empty), read_only=True) as con:
        for view in schema.views():
            con.execute(f"select * from main.{view.name}").fetchall()
        silent = con.execute(
            "select view_name from duckdb_views() where schema_name = 'main' and not internal and comment is null"
        ).fetchall()
    assert silent == []


def test_views_are_ordered_by_what_they_read() -> None:
    def view(name: str, source: str) -> schema.View:
        return schema.View(name, f"create or replace view main.{name} as select * from {source} -- from z\n;")

    views = [view("a", "main.b inner join c using (x)"), view("b", "c"), view("c", "raw.a"), view("z", "a")]
    assert [one.name for one in schema.sort_views(views)] == ["c", "b", "a", "z"]
    with pytest.raises(StoreError, match="circle"):
        schema.sort_views([view("a", "b"), view("b", "a")])
    with pytest.raises(StoreError, match=r"db/views/a\.sql must hold one"):
        schema.sort_views([schema.View("a", "create or replace view main.b as select 1;")])


def test_a_database_with_other_views_gets_these(copy: Path) -> None:
    with duckdb.connect(str(copy)) as con:
        con.execute("drop view main.error_rates; update raw.store_meta set value = 'older'")
    assert query(copy, "select count(*) from main.error_rates").rows == [(2,)]


def test_every_published_cell_is_there_with_the_models_name_set_right(made: Path) -> None:
    assert query(made, "select count(*) from raw.published_scores").rows == [(299,)]
    assert query(made, "select count(*) from raw.published_errors").rows == [(70,)]
    changed = query(made, "select distinct model_printed, model from raw.published_scores where model <> model_printed")
    assert changed.rows == [("EuroLLM 8B", "EuroLLM 9B")]


@pytest.fixture(autouse=True)
def _no_litter(tmp_path: Path) -> Iterator[None]:
    yield
    left = [path.name for path in tmp_path.iterdir() if path.name.endswith((".new", ".part", ".part.wal", ".new.wal"))]
    assert left == []
